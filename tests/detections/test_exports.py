"""Writing detections: what stands in the files, that they appear whole or not at all, and what they do not replace."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from ultralytics.engine.results import Results

from featcodec.detections import Detections, Mask
from featcodec.detections.exports import FORMATS, check_output, format_of, image_ids_of, open_export
from featcodec.errors import FeatcodecError, InputError, OutputError
from featcodec.images import parquet
from featcodec.images.annotations import Annotations
from featcodec.images.results import read_results

LATIN_1 = os.fsdecode(b"caf\xe9")  # a file name that is no UTF-8
IDS = {PurePath(name): name for name in ("a", "old", "new")}
OUTPUT = {"coco": "d.json", "jsonl": "d.jsonl", "parquet": "d.parquet", "csv": "d.csv", "yolo": "d"}


def detections(count: int = 1, names: tuple[str, ...] = ("cat", "dog, wet")) -> Detections:
    return Detections(
        xyxy=np.array([[20, 10, 60, 30.5]] * count, np.float32).reshape(-1, 4),
        scores=np.linspace(0.75, 0.25, count, dtype=np.float32),
        class_ids=np.arange(count, dtype=np.int64) % 2,
        names=names,
        width=200,
        height=100,
    )


ANNOTATIONS = Annotations(
    Path("truth.json"),
    {
        "images": [{"id": 70, "file_name": "a.jpg"}, {"id": "b", "file_name": "b.jpg"}],
        "annotations": [],
        "categories": [{"id": 9, "name": "cat"}],
    },
)


def export(
    output: Path,
    *items: tuple[str, Detections],
    annotations: Annotations | None = None,
    overwrite: bool = False,
) -> None:
    names = [PurePath(name) for name, _ in items]
    ids = image_ids_of(names, annotations)
    with open_export(output, format_of(output), annotations, ids, overwrite=overwrite) as write:
        for name, (_, found) in zip(names, items, strict=True):
            write(name, found)


def contents(output: Path) -> dict[str, bytes]:
    files = [output] if output.is_file() else output.rglob("*.*")
    return {path.name: path.read_bytes() for path in files}


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("a.json", "coco"), ("a.JSON", "coco"), ("a.jsonl", "jsonl"), ("a.parquet", "parquet")),
        *(("a.b.csv", "csv"), ("labels", "yolo")),
    ],
)
def test_the_ending_says_the_format(name: str, expected: str) -> None:
    assert format_of(Path(name)) == expected


@pytest.mark.parametrize("name", ["a.txt", "a.json.gz", "v1.0"])
def test_an_unknown_ending_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"no known format has this ending; use \.json, \.jsonl, \.parquet, \.csv"):
        format_of(Path(name))


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'voc'; use one of coco, jsonl, parquet, csv, yolo"):
        open_export(tmp_path / "a", "voc", None, {})


@pytest.mark.parametrize("counts", [[], [0], [2], [0, 1, 0, 3]])
def test_coco_is_json_for_any_number_of_boxes(tmp_path: Path, counts: list[int]) -> None:
    export(tmp_path / "d.json", *((f"{number:05d}", detections(count)) for number, count in enumerate(counts)))
    results = json.loads((tmp_path / "d.json").read_text())
    assert [result["image_id"] for result in results] == [
        number for number, count in enumerate(counts) for _ in range(count)
    ]
    for result in results[:1]:
        category = {"category_id": 0, "category_name": "cat"}
        image = {"image_id": result["image_id"], "image_name": f"{result['image_id']:05d}", "image_size": [200, 100]}
        assert result == {**image, **category, "bbox": [20, 10, 40, 20.5], "score": 0.75}


@pytest.mark.parametrize("counts", [[], [0], [2], [0, 1, 0, 3]])
@pytest.mark.parametrize("ids", ["numbers", "texts", "both"])
def test_json_lines_and_parquet_hold_what_coco_holds(tmp_path: Path, counts: list[int], ids: str) -> None:
    stem = {"numbers": "{:05d}", "texts": "img/{}", "both": "{}"}[ids]
    items = [(stem.format(number), detections(count)) for number, count in enumerate(counts)]
    items += [("ä b", detections(2))] if ids == "both" else []
    for name in ("d.json", "d.jsonl", "d.parquet"):
        export(tmp_path / name, *items)
    expected = json.loads((tmp_path / "d.json").read_text())
    lines = (tmp_path / "d.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected == read_results(tmp_path / "d.jsonl")
    as_texts = [{**result, "image_id": str(result["image_id"])} for result in expected]
    assert read_results(tmp_path / "d.parquet") == (as_texts if ids == "both" else expected)


def test_parquet_is_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS_AT_ONCE", 5)
    export(tmp_path / "d.parquet", *((f"{number}", detections(2)) for number in range(10)))
    assert pq.ParquetFile(tmp_path / "d.parquet").num_row_groups == 4
    assert [result["image_id"] for result in read_results(tmp_path / "d.parquet")] == [
        number for number in range(10) for _ in range(2)
    ]


def test_parquet_without_its_library_is_one_line_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(FeatcodecError, match=r"Parquet needs pyarrow .*; pip install 'featcodec\[parquet\]'"):
        check_output(tmp_path / "d.parquet", "parquet", overwrite=False)


def test_parquet_refuses_names_that_are_no_utf_8(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"'sub/caf\\udce9' is not UTF-8"):
        export(tmp_path / "d.parquet", (f"sub/{LATIN_1}", detections()))
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(("stem", "expected"), [("sub/000139", 139), ("img_1", "img_1"), ("-3", "-3"), ("²", "²")])
def test_image_ids_without_annotations_are_numbers_where_the_name_is_one(stem: str, expected: object) -> None:
    assert image_ids_of([PurePath(stem)], None) == {PurePath(stem): expected}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cam.01", "cam.02"], ["cam.01", "cam.02"]),
        (["cam1/1", "cam2/1", "2"], ["cam1/1", "cam2/1", 2]),
        (["007", "7", "8"], ["007", "7", 8]),
        (["a/x", "b/x"], ["a/x", "b/x"]),
    ],
)
def test_no_two_images_have_one_id(names: list[str], expected: list[object]) -> None:
    assert list(image_ids_of([PurePath(name) for name in names], None).values()) == expected


def test_two_images_that_would_be_one_listed_image_are_refused() -> None:
    with pytest.raises(InputError, match=r"^truth\.json: x/a and y/a would both be its image 70; give only one"):
        image_ids_of([PurePath("x/a"), PurePath("b"), PurePath("y/a")], ANNOTATIONS)


def test_coco_ids_come_from_the_annotations(tmp_path: Path) -> None:
    export(tmp_path / "d.json", ("sub/a", detections(2)), ("b", detections(1)), annotations=ANNOTATIONS)
    results = json.loads((tmp_path / "d.json").read_text())
    # The second class is none of the annotations' categories.
    assert [(result["image_id"], result["category_id"]) for result in results] == [(70, 9), ("b", 9)]
    assert [result["category_name"] for result in results] == ["cat", "cat"]
    assert [result["image_name"] for result in results] == ["sub/a", "b"]


@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.csv", "d"])
def test_file_names_that_are_no_utf_8_are_written_and_read_back(tmp_path: Path, name: str) -> None:
    export(tmp_path / name, (f"sub/{LATIN_1}", detections()))
    if name in {"d.json", "d.jsonl"}:
        (result,) = read_results(tmp_path / name)
        assert os.fsencode(result["image_id"]) == os.fsencode(result["image_name"]) == b"sub/caf\xe9"
    elif name == "d.csv":
        assert (tmp_path / name).read_bytes().splitlines()[1].startswith(b"sub/caf\xe9,0,cat,")
    else:
        assert [os.fsencode(path.name) for path in (tmp_path / name / "sub").iterdir()] == [b"caf\xe9.txt"]


def test_csv_has_one_row_a_box_and_quotes_what_needs_it(tmp_path: Path) -> None:
    export(tmp_path / "d.csv", ("sub/a, b", detections(2)), ("none", detections(0)))
    with (tmp_path / "d.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["image", "class_id", "class", "score", "left", "top", "right", "bottom"],
        ["sub/a, b", "0", "cat", "0.750000", "20.00", "10.00", "60.00", "30.50"],
        ["sub/a, b", "1", "dog, wet", "0.250000", "20.00", "10.00", "60.00", "30.50"],
    ]
    assert b"\r" not in (tmp_path / "d.csv").read_bytes()


def test_yolo_has_one_line_a_box_in_fractions_of_the_image(tmp_path: Path) -> None:
    export(tmp_path / "d", ("sub/a.b", detections(2)), ("none", detections(0)))
    assert everything_in(tmp_path / "d") == ["none.txt", "sub", "sub/a.b.txt"]
    assert (tmp_path / "d/none.txt").read_bytes() == b""
    first, second = (tmp_path / "d/sub/a.b.txt").read_text().splitlines()
    assert first == "0 0.200000 0.202500 0.200000 0.205000 0.750000"
    assert second.startswith("1 0.2")


@pytest.mark.parametrize("file_format", FORMATS)
def test_output_appears_only_when_all_is_written(tmp_path: Path, file_format: str) -> None:
    output = tmp_path / OUTPUT[file_format]
    export(output, ("old", detections()))
    before = {name: (tmp_path / name).read_bytes() for name in everything_in(tmp_path) if (tmp_path / name).is_file()}
    with (
        contextlib.suppress(ZeroDivisionError),
        open_export(output, file_format, None, IDS) as write,
    ):
        write(PurePath("new"), detections())
        raise ZeroDivisionError
    after = {name: (tmp_path / name).read_bytes() for name in everything_in(tmp_path) if (tmp_path / name).is_file()}
    assert after == before
    with open_export(output, file_format, None, IDS, overwrite=True) as write:
        write(PurePath("new"), detections())
        assert everything_in(output) == ["old.txt"] if output.is_dir() else output.read_bytes() == before[output.name]
    assert len([name for name in everything_in(tmp_path) if name.startswith(".")]) == 0


def test_new_labels_replace_all_old_ones(tmp_path: Path) -> None:
    export(tmp_path / "d", ("sub/stale", detections()), ("kept", detections()))
    export(tmp_path / "d", ("kept", detections(0)), overwrite=True)
    assert everything_in(tmp_path) == ["d", "d/kept.txt"]
    assert (tmp_path / "d/kept.txt").read_bytes() == b""


@pytest.mark.parametrize("other", ["a.jpg", "sub/data.yaml", ".git"])
def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path, other: str) -> None:
    export(tmp_path / "d", ("a", detections()))
    (tmp_path / "d" / other).parent.mkdir(exist_ok=True)
    (tmp_path / "d" / other).write_bytes(b"somebody's work")
    before = everything_in(tmp_path)
    with pytest.raises(OutputError, match=f"d: holds other things .{Path(other).name}.; choose another `output`"):
        export(tmp_path / "d", ("b", detections()))
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_exists_needs_overwrite(tmp_path: Path, file_format: str) -> None:
    output = tmp_path / OUTPUT[file_format]
    check_output(output, file_format, overwrite=False)
    export(output, ("a", detections()))
    with pytest.raises(OutputError, match="exists; use `overwrite` or another `output`"):
        check_output(output, file_format, overwrite=False)
    check_output(output, file_format, overwrite=True)


@pytest.mark.parametrize("file_format", ["coco", "parquet", "csv"])
def test_a_link_is_something_that_exists(tmp_path: Path, file_format: str) -> None:
    """Also if it leads nowhere: it was refused only after all the work."""
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OutputError, match="link: exists; use `overwrite` or another `output`"):
        check_output(tmp_path / "link", file_format, overwrite=False)
    check_output(tmp_path / "link", file_format, overwrite=True)


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_another_run_writes_meanwhile_is_not_replaced(tmp_path: Path, file_format: str) -> None:
    output = tmp_path / OUTPUT[file_format]
    before = {}

    def overtaken() -> None:
        with open_export(output, file_format, None, IDS) as write:
            write(PurePath("a"), detections())
            export(output, ("b", detections(2)))
            before.update(contents(output))

    with pytest.raises(OutputError, match="exists; use `overwrite`"):
        overtaken()
    assert contents(output) == before
    with open_export(output, file_format, None, IDS, overwrite=True) as write:
        write(PurePath("a"), detections())
    assert contents(output) != before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_where_a_file_belongs_and_the_other_way_round(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    for file_format in ("coco", "csv"):
        with pytest.raises(OutputError, match="is a folder; choose another `output`"):
            check_output(tmp_path / "folder.json", file_format, overwrite=overwrite)
    with pytest.raises(OutputError, match="is not a folder; choose another `output`"):
        check_output(tmp_path / "file", "yolo", overwrite=overwrite)


def test_an_empty_folder_may_become_the_labels(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    check_output(tmp_path / "d", "yolo", overwrite=False)
    export(tmp_path / "d", ("a", detections()))
    assert everything_in(tmp_path / "d") == ["a.txt"]


def with_masks(count: int) -> Detections:
    pixels = np.random.default_rng(count).random((count, 100, 200)) < 0.2
    return replace(detections(count), masks=tuple(map(Mask.of, pixels)))


def with_keypoints(count: int) -> Detections:
    points = np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3) / 8
    return replace(detections(count), keypoints=points)


@pytest.mark.parametrize("make", [with_masks, with_keypoints])
@pytest.mark.parametrize("counts", [[0], [2], [0, 1, 0, 3]])
def test_coco_formats_hold_masks_and_keypoints(
    tmp_path: Path, make: Callable[[int], Detections], counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_ROWS_AT_ONCE", 2)
    items = [(str(number), make(count)) for number, count in enumerate(counts)]
    for name in ("d.json", "d.jsonl", "d.parquet"):
        export(tmp_path / name, *items)
    expected = [result for name, found in items for result in found.to_coco(int(name), None, PurePath(name))]
    for name in ("d.json", "d.jsonl", "d.parquet"):
        assert read_results(tmp_path / name) == expected
    kind = "segmentation" if make is with_masks else "keypoints"
    further = [name for name in pq.read_schema(tmp_path / "d.parquet").names if name in ("segmentation", "keypoints")]
    assert further == ([kind] if any(counts) else [])


def test_parquet_of_boxes_alone_has_the_columns_of_before(tmp_path: Path) -> None:
    export(tmp_path / "d.parquet", ("a", detections(2)))
    assert pq.read_schema(tmp_path / "d.parquet").names == [
        *("image_id", "image_name", "image_width", "image_height", "category_id", "category_name"),
        *("left", "top", "width", "height", "score"),
    ]


def test_csv_holds_the_boxes_alone(tmp_path: Path) -> None:
    export(tmp_path / "a.csv", ("a", detections(2)))
    export(tmp_path / "b.csv", ("a", with_masks(2)))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_yolo_holds_keypoints_as_ultralytics_writes_them(tmp_path: Path) -> None:
    found = with_keypoints(2)
    export(tmp_path / "d", ("a", found), ("b", with_keypoints(0)))
    assert (tmp_path / "d/b.txt").read_bytes() == b""
    boxes = np.concatenate((found.xyxy, found.scores[:, None], found.class_ids[:, None]), 1)
    theirs = Results(
        np.zeros((100, 200, 3), np.uint8),
        "a.jpg",
        {0: "cat", 1: "dog"},
        boxes=torch.from_numpy(boxes.astype(np.float32)),
        keypoints=torch.from_numpy(found.keypoints),
    )
    theirs.save_txt(tmp_path / "theirs.txt", save_conf=True)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "d/a.txt"), np.loadtxt(tmp_path / "theirs.txt"), atol=1e-5)


def test_yolo_refuses_masks(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"d: YOLO text does not hold masks; choose another `output`, like x\.json"):
        export(tmp_path / "d", ("a", with_masks(0)))
    assert everything_in(tmp_path) == []
