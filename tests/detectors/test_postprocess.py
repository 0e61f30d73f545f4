"""From predictions to detections: multi-label NMS, limits, and the way out of the letterbox."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from ultralytics.nn.modules import Detect
from ultralytics.utils import ops
from ultralytics.utils.nms import non_max_suppression

from featcodec.detections import BoxFilter, Detections
from featcodec.detectors.postprocess import detections_of
from featcodec.detectors.task import Task
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


def random_predictions(task: Task, boxes: int, seed: int = 0, size: int = 300) -> Tensor:
    """(2, rows, boxes), no two scores of an image equal."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(2, task.rows, boxes, generator=generator)
    values[:, :2] *= size
    values[:, 2:4] = 5 + 40 * values[:, 2:4]
    for image in values:
        scores = torch.randperm(task.classes * boxes, generator=generator).reshape(task.classes, boxes)
        image[4 : 4 + task.classes] = scores / scores.numel()
    values[:, 4 + task.classes :] = values[:, 4 + task.classes :] * 2 - 1
    return values


@pytest.mark.parametrize(("size", "image"), [(320, (500, 375)), (320, (97, 200)), (640, (640, 480))])
def test_masks_stay_with_the_boxes_that_ultralytics_keeps(size: int, image: tuple[int, int]) -> None:
    task, letterbox = Task(3, masks=8), Letterbox.fit(*image, size)
    values = random_predictions(task, 100)
    prototypes = torch.randn(2, 8, letterbox.height // 4, letterbox.width // 4)
    expected = non_max_suppression(
        values.clone(), conf_thres=0.4, iou_thres=0.5, multi_label=True, max_det=20, nc=3, max_time_img=1e9
    )
    limits = BoxFilter(conf=0.4, iou=0.5, max_det=20)
    detections = detections_of(values, [letterbox] * 2, NAMES, limits, task, prototypes)
    for rows, found, some in zip(expected, detections, prototypes, strict=True):
        assert found.scores.tolist() == rows[:, 4].tolist()
        boxes = ops.scale_boxes((letterbox.height, letterbox.width), rows[:, :4].clone(), image[::-1])
        np.testing.assert_allclose(found.xyxy, boxes, atol=1e-4)
        theirs = ops.process_mask_native(some, rows[:, 6:], torch.from_numpy(found.xyxy), image[::-1]).numpy() > 0
        assert found.masks is not None
        mine = np.stack([mask.pixels() for mask in found.masks])
        assert (mine != theirs).sum() <= 1e-4 * theirs.sum()
        assert found.keypoints is None


@pytest.mark.parametrize("numbers", [2, 3])
@pytest.mark.parametrize("image", [(500, 375), (97, 200), (640, 480)])
def test_keypoints_stay_with_the_boxes_that_ultralytics_keeps(image: tuple[int, int], numbers: int) -> None:
    task, letterbox = Task(1, keypoints=(17, numbers)), Letterbox.fit(*image, 320)
    values = random_predictions(task, 100)
    values[:, 5:] = 400 * values[:, 5:]  # some outside of the image
    if numbers == 3:
        values[:, 7::3] = values[:, 7::3].sigmoid()
    expected = non_max_suppression(values.clone(), conf_thres=0.4, iou_thres=0.5, max_det=20, nc=1, max_time_img=1e9)
    limits = BoxFilter(conf=0.4, iou=0.5, max_det=20)
    for rows, found in zip(expected, detections_of(values, [letterbox] * 2, ("x",), limits, task), strict=True):
        points = rows[:, 6:].reshape(len(rows), 17, numbers)
        theirs = ops.scale_coords((letterbox.height, letterbox.width), points, image[::-1])
        assert found.keypoints is not None
        assert (found.keypoints.shape, found.keypoints.dtype) == ((20, 17, 3), np.float32)
        np.testing.assert_allclose(found.keypoints[..., :numbers], theirs, atol=1e-4)
        assert numbers == 3 or (found.keypoints[..., 2] == 1).all()
        assert found.masks is None


@pytest.mark.parametrize("further", [{}, {"keypoints": (5, 3)}], ids=["boxes", "keypoints"])
@pytest.mark.parametrize("max_det", [5, 100, 300])
def test_without_nms_the_boxes_are_those_of_ultralytics(max_det: int, further: dict[str, Any]) -> None:
    """The best pairs of box and class, however much they overlap; and the same if low boxes are left out before."""
    task = Task(20, needs_nms=False, **further)
    values = random_predictions(task, 400)
    head = Detect(nc=20, ch=(16,))
    head.max_det = max_det
    centre, half = values[:, :2], values[:, 2:4] / 2
    corners = torch.cat((centre - half, centre + half, values[:, 4:]), 1)
    expected = non_max_suppression(head.postprocess(corners.transpose(1, 2)), conf_thres=0.985, end2end=True)
    names, limits = tuple(map(str, range(20))), BoxFilter(conf=0.985, max_det=max_det)
    few = [each[:, each[4:24].amax(0) > 0.985] for each in values]
    for given in (values, few):
        for rows, found in zip(expected, detections_of(given, [SAME, SAME], names, limits, task), strict=True):
            assert len(found) == len(rows) == min(max_det, 119)
            assert found.scores.tolist() == rows[:, 4].tolist()
            assert found.class_ids.tolist() == rows[:, 5].tolist()
            np.testing.assert_allclose(found.xyxy, SAME.undo(rows[:, :4].numpy()), atol=1e-4)
            if found.keypoints is not None:
                theirs = ops.scale_coords((320, 320), rows[:, 6:].reshape(-1, 5, 3), (320, 320))
                np.testing.assert_allclose(found.keypoints, theirs, atol=1e-4)


def test_nothing_found_has_masks_and_keypoints_of_nothing() -> None:
    task = Task(3, masks=2, keypoints=(4, 2))
    (found,) = detections_of(torch.zeros(1, task.rows, 9), [SAME], NAMES, BoxFilter(), task, torch.zeros(1, 2, 80, 80))
    assert found.masks == ()
    assert found.keypoints is not None
    assert found.keypoints.shape == (0, 4, 3)
    (found,) = detections_of(torch.zeros(1, task.rows, 0), [SAME], NAMES, BoxFilter(), task, torch.zeros(1, 2, 80, 80))
    assert (len(found), found.masks) == (0, ())


def test_predictions_of_another_task_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"predictions of 7 rows are not those of .*, which has 9"):
        detections_of(torch.zeros(1, 7, 9), [SAME], NAMES, BoxFilter(), Task(3, masks=2))
    with pytest.raises(ValueError, match="need prototypes"):
        detections_of(torch.zeros(1, 9, 9), [SAME], NAMES, BoxFilter(), Task(3, masks=2))


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
