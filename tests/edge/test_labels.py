"""Class names become the numbers that Frigate's label maps have for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from featcodec.detections.boxes import COCO_IDS
from featcodec.edge.labels import number_of, read_label_map
from featcodec.errors import InputError


def test_the_two_maps_of_frigate() -> None:
    few, many = read_label_map("coco-80"), read_label_map("coco-91")
    assert list(few.values()) == list(range(80))
    assert [many[name] + 1 for name in few] == list(COCO_IDS)
    assert (few["person"], few["car"], few["toothbrush"]) == (0, 2, 79)
    assert (many["person"], many["car"], many["stop sign"], many["toothbrush"]) == (0, 2, 12, 89)


def test_names_of_other_detectors() -> None:
    few, many = read_label_map("coco-80"), read_label_map("coco-91")
    assert number_of("Pedestrian", few) == 0
    assert number_of("truck", few) == 7
    assert number_of("traffic sign", few) is None
    assert number_of("traffic sign", many) == 11
    assert number_of("dragon", many) is None


@pytest.mark.parametrize("text", ["0  person\n1 car\n7  Car\n\n3 cat\n", "person\ncar\n\ncat dog\n", "person"])
def test_a_file_of_frigate(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.txt").write_text(text)
    labels = read_label_map(tmp_path / "map.txt")
    assert labels["person"] == 0
    if "car" in text:
        assert (labels["car"], number_of("truck", labels)) == (1, 1)  # as Frigate calls it
    if "cat" in text:
        assert labels.get("cat", labels.get("cat dog")) in {2, 3}


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"0 person\ncar\n", b"0 person\n99999 car\n", b"0 person\n\xff car\n", b"-1 a\n0 b\n" * 0]
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"map\.txt: .*`labelmap`"):
        read_label_map(tmp_path / "map.txt")


def test_a_file_that_is_not_there_is_one_line() -> None:
    with pytest.raises(InputError, match="nowhere: no such file"):
        read_label_map("nowhere")
