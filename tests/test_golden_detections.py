"""Committed bitstreams of networks that ship must always lead to the same boxes (tests/golden/make_detections.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featcodec import FeatureCodec, bitstream

FOLDER = Path(__file__).parent / "golden" / "detections"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.26[56]"))}


def test_one_and_several_tensors_are_there() -> None:
    found = [bitstream.unpack(path.read_bytes())[0] for path in FILES.values()]
    assert {len(side_info.tensors) for side_info in found} >= {1, 2, 3}
    assert {side_info.split for side_info in found} >= {4, 6, 10, 22}


@pytest.mark.parametrize("name", FILES)
def test_the_same_boxes_are_found(name: str) -> None:
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    data = FILES[name].read_bytes()
    found = FeatureCodec.for_stream(data, device="cpu").decode(data).filter(0.25).to_coco(0)
    assert len(expected) >= 5
    for box in expected:
        # Scores move by a rounding error from CPU to CPU, so the order of boxes may.
        near = [each for each in found if each["category_name"] == box["category_name"]]
        assert any(
            each["bbox"] == pytest.approx(box["bbox"], abs=0.1)
            and each["score"] == pytest.approx(box["score"], abs=1e-3)
            for each in near
        ), box
