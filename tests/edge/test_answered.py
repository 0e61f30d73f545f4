"""What an answer says was found: that of a detector comes out as it went in, and nothing hostile gets through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.detections import Detections, Mask
from featcodec.detections.drawing import draw_boxes
from featcodec.edge.answered import detections_of
from featcodec.edge.messages import Answer

BOX = {"category_id": 0, "category_name": "car", "bbox": [8, 8, 30, 20], "score": 0.9}


def found_by_a_detector(width: int = 64, height: int = 48) -> Detections:
    """Two people: the mask of the first is the left half of its box, all keypoints of the second are seen."""
    part = np.zeros((20, 30), np.bool_)
    part[:, :15] = True
    masks = Mask.of(part, 8, 8, width, height), Mask.of(np.zeros((1, 1), np.bool_), 0, 0, width, height)
    points = np.linspace((2.0, 30.0), (60.0, 46.0), 17, dtype=np.float32)
    keypoints = np.stack([np.zeros((17, 3), np.float32), np.column_stack([points, np.ones(17, np.float32)])])
    boxes = np.array([[8, 8, 38, 28], [2, 30, 60, 46]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    return Detections(boxes, scores, np.array([0, 1]), ("person", "rider"), width, height, masks, keypoints)


def rows_of(found: Detections) -> list[dict[str, Any]]:
    """As a server answers (`service.answers`)."""
    rows = found.to_coco(0)
    for row in rows:
        del row["image_id"], row["image_size"]
    return rows


def test_masks_and_keypoints_are_drawn_as_the_library_draws_them() -> None:
    found = found_by_a_detector()
    read = detections_of(Answer(0, 0, 200, width=64, height=48, detections=rows_of(found)))
    assert read.masks == found.masks
    assert read.keypoints is not None
    np.testing.assert_allclose(read.keypoints, found.keypoints, atol=1e-3)
    pixels = np.full((48, 64, 3), 128, np.uint8)
    assert (draw_boxes(pixels, read) == draw_boxes(pixels, found)).all()


@given(st.data())
def test_hostile_masks_and_keypoints_are_left_out(data: st.DataObject) -> None:
    """Of two objects, the second one's are as they should be."""
    junk = st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    )
    rows = rows_of(found_by_a_detector())
    mask = {"size": data.draw(st.just([48, 64]) | junk), "counts": data.draw(st.text(max_size=9) | junk)}
    rows[0] |= {"segmentation": data.draw(junk | st.just(mask)), "keypoints": data.draw(junk)}
    read = detections_of(Answer(0, 0, 200, width=64, height=48, detections=rows))
    assert read.masks is not None
    assert read.keypoints is not None
    assert len(read.masks) == len(read.keypoints) == 2
    np.testing.assert_allclose(read.keypoints[1], found_by_a_detector().keypoints[1], atol=1e-3)
    draw_boxes(np.full((48, 64, 3), 128, np.uint8), read)


@pytest.mark.parametrize(
    "hostile",
    [
        {"segmentation": {"size": [10**9, 10**9], "counts": "0"}},
        {"segmentation": {"size": [64, 48], "counts": Mask.of(np.ones((64, 48), np.bool_)).counts}},
        {"segmentation": {"size": [48, 64], "counts": [0, 48 * 64]}},
        {"keypoints": [1e300, -1e300, 1e300] * 17},
        {"keypoints": [1, 2, 3] * 1001},
        {"keypoints": [1, 2]},
        {"keypoints": [True, 2, 3]},
        {"keypoints": [float("nan")] * 3},
    ],
)
def test_what_no_detector_finds_is_not_drawn(hostile: dict[str, Any]) -> None:
    read = detections_of(Answer(0, 0, 200, width=64, height=48, detections=[{**BOX, **hostile}]))
    assert read.masks is None
    assert read.keypoints is None


def test_keypoints_lie_in_the_picture() -> None:
    answer = Answer(0, 0, 200, width=64, height=48, detections=[{**BOX, "keypoints": [-5, 1e9, 7]}])
    assert (detections_of(answer).keypoints == [[[0, 48, 1]]]).all()


def test_hostile_boxes_are_cut_off() -> None:
    rows = [
        {"category_name": "x" * 1000, "bbox": [-1e300, -5, 2e300, 1e308], "score": 0.5},
        {"category_name": "a", "bbox": [1, 2, 3, 4], "score": 7},
        {"category_name": "a", "bbox": [60, 40, -100, -100], "score": 1},
    ]
    found = detections_of(Answer(0, 0, 200, width=64, height=48, detections=rows))
    assert len(found) == 2
    assert found.xyxy.min() >= 0
    assert found.xyxy[:, 0::2].max() <= 64
    assert found.xyxy[:, 1::2].max() <= 48
