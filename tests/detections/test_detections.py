"""Detections as COCO results, and which category ids they get; masks and keypoints go with their boxes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from featcodec.detections import Detection, Mask
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


def further() -> Detections:
    """Three boxes, each with a mask of another column and with two keypoints."""
    pixels = np.zeros((3, 80, 100), bool)
    for place in range(3):
        pixels[place, :, place] = True
    keypoints = np.arange(18, dtype=np.float32).reshape(3, 2, 3) / 7
    found = detections(("cat", "dog"), [0, 1, 0])
    return replace(found, masks=tuple(map(Mask.of, pixels)), keypoints=keypoints)


def test_masks_and_keypoints_go_with_their_boxes() -> None:
    found = further()
    assert found.masks is not None
    assert found.keypoints is not None
    for chosen, places in (
        (found[1:], [1, 2]),
        (found[[2, 0]], [2, 0]),
        (found[found.scores < 0.6], [1, 2]),
        (found[[True, False, True]], [0, 2]),
        (found[[]], []),
        (found.filter(0, "cat"), [0, 2]),
        (found[::-1], [2, 1, 0]),
    ):
        assert chosen.masks == tuple(found.masks[place] for place in places)
        assert chosen.keypoints is not None
        np.testing.assert_array_equal(chosen.keypoints, found.keypoints[places])
    for place, each in enumerate(found):
        assert each.mask == found.masks[place]
        np.testing.assert_array_equal(each.keypoints, found.keypoints[place])
    assert found[-1].mask == found.masks[2]


def test_one_box_is_a_tuple_of_four() -> None:
    box, score, class_id, name = further()[1]
    assert (score, class_id, name) == (pytest.approx(0.5), 1, "dog")
    plain = detections(("cat",), [0])[0]
    assert plain == Detection((10.5, 20, 30.25, 60), plain.score, 0, "cat")
    assert (plain.mask, plain.keypoints, len(plain)) == (None, None, 4)
    assert repr(plain).startswith("Detection(xyxy=(10.5, 20.0, 30.25, 60.0), score=0.8")
    assert box == plain.xyxy


def test_repr_says_what_there_is() -> None:
    found = further()
    assert repr(found).startswith("Detections(3 boxes with masks with 2 keypoints on 100x80 pixels: cat 0.90, ")
    assert repr(replace(found, masks=None)).startswith("Detections(3 boxes with 2 keypoints on ")
    assert repr(replace(found, keypoints=None)).startswith("Detections(3 boxes with masks on ")


def test_results_have_masks_and_keypoints() -> None:
    found = further()
    results = found.to_coco(7)
    assert json.loads(json.dumps(results)) == results
    assert found.masks is not None
    assert results[2]["segmentation"] == found.masks[2].to_coco()
    assert results[1]["keypoints"] == [0.857, 1.0, 1.143, 1.286, 1.429, 1.571]
    assert [result["segmentation"] for result in found.to_coco(7, {1: 5})] == [found.masks[1].to_coco()]
