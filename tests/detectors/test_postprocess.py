"""From predictions to detections: multi-label NMS, limits, and the way out of the letterbox."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from ultralytics.utils.nms import non_max_suppression

from featcodec.detections import BoxFilter, Detections
from featcodec.detectors.postprocess import detections_of
from featcodec.images.letterbox import Letterbox

NAMES = ("cat", "dog", "newt")
SAME = Letterbox.fit(320, 320, 320)


def predictions(*boxes: tuple[list[float], list[float]]) -> Tensor:
    """(1, 4 + classes, boxes) of ([left, top, right, bottom], [score per class])."""
    rows = [
        [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, *scores]
        for (left, top, right, bottom), scores in boxes
    ]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4 + len(NAMES)).T[None]


def found(values: Tensor, letterbox: Letterbox = SAME, **limits: float) -> Detections:
    (detections,) = detections_of(values, [letterbox], NAMES, BoxFilter(**limits))  # type: ignore[arg-type]
    return detections


A = [10.0, 20.0, 110.0, 120.0]


def test_a_box_of_two_classes_is_two_detections() -> None:
    detections = found(predictions((A, [0.9, 0.1, 0.6])), conf=0.25)
    assert detections.class_ids.tolist() == [0, 2]
    assert detections.scores.tolist() == pytest.approx([0.9, 0.6])
    np.testing.assert_allclose(detections.xyxy, [A, A], atol=1e-4)
    assert detections.names == NAMES


def test_boxes_of_a_class_that_overlap_more_than_iou_are_one() -> None:
    shifted = [10.0, 20.0 + 100 / 3, 110.0, 120.0 + 100 / 3]  # IoU 0.5 with A
    boxes = predictions((shifted, [0.7, 0, 0]), (A, [0.8, 0, 0]))
    assert found(boxes, iou=0.52).scores.tolist() == pytest.approx([0.8, 0.7])
    assert found(boxes, iou=0.48).scores.tolist() == pytest.approx([0.8])


def test_boxes_of_different_classes_do_not_suppress_each_other() -> None:
    detections = found(predictions((A, [0.8, 0, 0]), (A, [0, 0.7, 0])), iou=0.1)
    assert detections.class_ids.tolist() == [0, 1]


def test_the_best_max_det_boxes_are_kept_best_first() -> None:
    apart = [([30.0 * n, 10.0, 30.0 * n + 20, 30.0], [0.1 + 0.08 * (n * 3 % 10), 0, 0]) for n in range(10)]
    detections = found(predictions(*apart), max_det=4)
    assert detections.scores.tolist() == pytest.approx([0.82, 0.74, 0.66, 0.58])
    assert len(found(predictions(*apart), max_det=300)) == 10


def test_boxes_below_conf_do_not_count() -> None:
    boxes = predictions((A, [0.3, 0.19, 0]), ([200.0, 200.0, 220.0, 220.0], [0.21, 0, 0]))
    assert found(boxes, conf=0.2).scores.tolist() == pytest.approx([0.3, 0.21])


def test_the_letterbox_is_undone() -> None:
    """640x300 in 320x160: half the size, with 5 pixels above and below."""
    letterbox = Letterbox.fit(640, 300, 320)
    assert (letterbox.resized, letterbox.offset) == ((320, 150), (0, 5))
    detections = found(predictions(([10, 15, 60, 65], [0.9, 0, 0]), ([300, 100, 330, 200], [0.5, 0, 0])), letterbox)
    np.testing.assert_allclose(detections.xyxy, [[20, 20, 120, 120], [600, 190, 640, 300]], atol=1e-3)
    assert (detections.width, detections.height) == (640, 300)


def test_nothing_found_has_the_shapes_of_something() -> None:
    detections = found(predictions((A, [0, 0, 0])))
    assert len(detections) == 0
    assert (detections.xyxy.shape, detections.xyxy.dtype) == ((0, 4), np.float32)
    assert (detections.scores.dtype, detections.class_ids.dtype) == (np.float32, np.int64)


def test_images_of_a_batch_keep_to_themselves() -> None:
    values = torch.cat((predictions((A, [0.9, 0, 0])), predictions((A, [0, 0, 0])), predictions((A, [0, 0.4, 0]))))
    letterboxes = [SAME, Letterbox.fit(640, 640, 320), Letterbox.fit(160, 160, 320)]
    one, none, other = detections_of(values, letterboxes, NAMES, BoxFilter())
    assert (one.class_ids.tolist(), none.class_ids.tolist(), other.class_ids.tolist()) == ([0], [], [1])
    np.testing.assert_allclose(other.xyxy, np.array([A]) / 2, atol=1e-4)
    assert none.width == 640


def test_half_precision_predictions_are_taken() -> None:
    assert found(predictions((A, [0.5, 0, 0])).half()).xyxy.dtype == np.float32


@pytest.mark.parametrize("max_det", [5, 300, 2500])
@pytest.mark.parametrize(("boxes", "classes"), [(50, 1), (400, 3), (3000, 20)])
def test_the_boxes_are_those_of_ultralytics(boxes: int, classes: int, max_det: int) -> None:
    generator = torch.Generator().manual_seed(boxes)
    values = torch.rand(2, 4 + classes, boxes, generator=generator)
    values[:, :2] *= 300
    values[:, 2:4] = 5 + 40 * values[:, 2:4]
    scores = torch.randperm(2 * classes * boxes, generator=generator).reshape(2, classes, boxes)  # no two are equal
    values[:, 4:] = scores / scores.numel()
    limits = BoxFilter(conf=0.4, iou=0.5, max_det=max_det)
    names = tuple(map(str, range(classes)))
    expected = non_max_suppression(
        values.clone(), conf_thres=0.4, iou_thres=0.5, multi_label=True, max_det=max_det, nc=classes, max_time_img=1e9
    )
    for rows, detections in zip(expected, detections_of(values, [SAME, SAME], names, limits), strict=True):
        assert len(detections) == len(rows) > 0
        assert detections.scores.tolist() == rows[:, 4].tolist()
        assert detections.class_ids.tolist() == rows[:, 5].tolist()
        np.testing.assert_array_equal(detections.xyxy, SAME.undo(rows[:, :4].numpy()))


@pytest.mark.slow
def test_all_of_torchvision_is_not_imported() -> None:
    """It takes a second."""
    code = """
import sys, torch
from featcodec.detections import BoxFilter
from featcodec.detectors.postprocess import detections_of
from featcodec.images.letterbox import Letterbox
found = detections_of(torch.rand(1, 6, 20), [Letterbox.fit(320, 320, 320)], ("a", "b"), BoxFilter())
assert len(found[0]) > 0
assert "torchvision" not in sys.modules
import torchvision
torchvision.ops.nms(torch.rand(3, 4), torch.rand(3), 0.5)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
