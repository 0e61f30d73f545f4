"""Detections as COCO results, and which category ids they get."""

from __future__ import annotations

import json

import numpy as np
import pytest

from featcodec.detections.boxes import COCO_IDS, Detections, default_category_ids

COCO_LIKE = tuple({0: "person", 9: "traffic light", 39: "bottle", 79: "toothbrush"}.get(i, f"n{i}") for i in range(80))


def detections(names: tuple[str, ...], class_ids: list[int]) -> Detections:
    count = len(class_ids)
    return Detections(
        xyxy=np.array([[10.5, 20, 30.25, 60]] * count, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.1, count).astype(np.float32),
        class_ids=np.array(class_ids, np.int64),
        names=names,
        width=100,
        height=80,
    )


def test_coco_ids_are_cocos() -> None:
    assert len(COCO_IDS) == len(set(COCO_IDS)) == 80
    assert COCO_IDS[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)  # 12, street sign, was never used
    known = {
        "bird": (14, 16),
        "backpack": (24, 27),
        "umbrella": (25, 28),
        "handbag": (26, 31),
        "bottle": (39, 44),
        "wine glass": (40, 46),
        "bed": (59, 65),
        "dining table": (60, 67),
        "toilet": (61, 70),
        "tv": (62, 72),
        "refrigerator": (72, 82),
        "book": (73, 84),
        "toothbrush": (79, 90),
    }
    assert {name: (index, COCO_IDS[index]) for name, (index, _) in known.items()} == known


def test_coco_detector_gets_cocos_ids() -> None:
    results = detections(COCO_LIKE, [0, 11, 79]).to_coco(7)
    assert [result["category_id"] for result in results] == [1, 13, 90]
    assert default_category_ids(COCO_LIKE)[39] == 44


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "dog", "newt"),
        tuple(f"n{i}" for i in range(80)),
        ("worker", *COCO_LIKE[1:]),
        COCO_LIKE[:79],
        (*COCO_LIKE, "more"),
    ],
    ids=["three", "eighty others", "first differs", "79", "81"],
)
def test_other_detectors_keep_their_class_ids(names: tuple[str, ...]) -> None:
    assert default_category_ids(names) == {index: index for index in range(len(names))}
    assert [result["category_id"] for result in detections(names, [2, 0]).to_coco(1)] == [2, 0]


def test_result_has_cocos_form() -> None:
    (result,) = detections(("cat",), [0]).to_coco("file-7")
    assert result == {
        "image_id": "file-7",
        "image_size": [100, 80],
        "category_id": 0,
        "category_name": "cat",
        "bbox": [10.5, 20.0, 19.75, 40.0],
        "score": pytest.approx(0.9, abs=1e-6),
    }
    assert json.loads(json.dumps(result)) == result


def test_mapping_renames_and_drops_what_it_lacks() -> None:
    results = detections(("cat", "dog", "newt"), [0, 1, 2, 1]).to_coco(1, {0: 17, 1: 18})
    assert [result["category_id"] for result in results] == [17, 18, 18]
    assert [result["category_name"] for result in results] == ["cat", "dog", "dog"]
    assert [result["score"] for result in results] == pytest.approx([0.9, 0.9 - 0.8 / 3, 0.1], abs=1e-6)
    assert detections(("cat",), [0]).to_coco(1, {}) == []


def test_no_detections() -> None:
    nothing = detections(COCO_LIKE, [])
    assert len(nothing) == 0
    assert nothing.to_coco(1) == []
    assert len(detections(COCO_LIKE, [1, 2])) == 2


def test_numbers_are_rounded_but_not_coarsely() -> None:
    found = Detections(
        np.array([[1 / 3, 2 / 3, 4 / 3, 8 / 3]], np.float32),
        np.array([1 / 3], np.float32),
        np.array([0]),
        ("cat",),
        9,
        9,
    )
    (result,) = found.to_coco(1)
    assert result["bbox"] == [0.333, 0.667, 1.0, 2.0]
    assert result["score"] == 0.333333
