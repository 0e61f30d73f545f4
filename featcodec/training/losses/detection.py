"""The losses that YOLOv5 was trained with: how far a detector's undecoded outputs are from the labels.

loss = detection_loss_for(detector)
losses = loss(detector.head.raw(detector.neck(features)), boxes, classes, image_index, (height, width))
losses.total.backward()

The original checkpoints get the loss of YOLOv5 v6/v7, written anew from its published definition (the loss of
github.com/ultralytics/yolov5, hyper-parameters of hyp.scratch-low.yaml). The anchor-free checkpoints get ultralytics'
own loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from ultralytics.utils.loss import v8DetectionLoss

from featcodec.detectors.anchor_free import AnchorFree
from featcodec.detectors.head import AnchorDetect
from featcodec.detectors.split import SplitDetector
from featcodec.errors import InputError
from featcodec.training.losses.anchors import complete_iou, match_anchors

_BOX_GAIN, _OBJECTNESS_GAIN, _CLASSIFICATION_GAIN = 0.05, 1.0, 0.5
_GAIN_LEVELS, _GAIN_CLASSES, _GAIN_SIDE = 3, 80, 640
"""The gains are meant for 3 levels, 80 classes and images of 640 pixels; YOLOv5's train.py scales them to others."""
_BALANCE = {3: (4.0, 1.0, 0.4)}
_BALANCE_OTHERWISE = (4.0, 1.0, 0.25, 0.06, 0.02)
_ANCHOR_FREE_GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class DetectionLosses:
    """The loss of a batch; its parts add up to the total.

    Attributes:
        total: scalar float32, with gradient.
        box: weighted scalar, without gradient; with anchor-free heads, the distribution focal loss is part of it.
        objectness: weighted scalar, without gradient; zero with anchor-free heads, which have no objectness.
        classification: weighted scalar, without gradient; zero with anchors and a single class.
    """

    total: Tensor
    box: Tensor
    objectness: Tensor
    classification: Tensor


class DetectionLoss(Protocol):
    """A detection loss for one kind of head."""

    def __call__(
        self, raw: Any, boxes: Tensor, classes: Tensor, image_index: Tensor, image_shape: tuple[int, int]
    ) -> DetectionLosses:
        """The loss of a batch, in float32, also under autocast.

        The loss does not grow with the batch: a batch of equal images has the loss of one image (`AnchorFreeLoss`
        names an exception). YOLOv5 and ultralytics multiply their losses by the batch size in the end; this loss is
        not multiplied.

        Args:
            raw: what the head's `raw` returns, for labelled images only: an image without boxes counts as background.
            boxes: (N, 4) float32 centre x, centre y, width, height as fractions of the image; N may be 0.
            classes: (N,) int64 class ids.
            image_index: (N,) int64, the row of `raw` that each box belongs to.
            image_shape: (height, width) of the letterboxed images in pixels.

        Raises:
            InputError: boxes are not fractions of the image, class ids or rows do not exist, or the outputs have
                another shape than those of such images.
        """


def detection_loss_for(detector: SplitDetector) -> DetectionLoss:
    """The loss that fits the detector's head.

    Raises:
        InputError: there is no loss for the head.
    """
    head: Any = detector.head
    if isinstance(head, AnchorDetect):
        return AnchorLoss(head)
    if isinstance(head, AnchorFree):
        return EndToEndLoss(head) if head.has_two_branches else AnchorFreeLoss(head)
    raise InputError(f"no detection loss for the head {type(head).__name__}; load the detector with load_detector")


class AnchorLoss:
    """The loss of YOLOv5 v6/v7 for its anchor-based head: boxes by CIoU, objectness and classes by cross entropy.

    The box and classification losses are means over the matches of a level. The objectness loss is the mean over the
    outputs of a level, times the balance of the level. The balance is 4, 1, 0.4 for three levels, and the first values
    of 4, 1, 0.25, 0.06, 0.02 for another number of levels. Then the losses are summed over the levels. There is no
    label smoothing and no focal loss.

    This loss differs from YOLOv5's in three details. The total is not multiplied by the batch size. If several boxes
    claim one output, its objectness target is the largest of their CIoUs; YOLOv5 takes the CIoU that was written last.
    A box whose centre is on the border of two cells counts once in each of the two cells.

    Args:
        head: the head whose outputs are judged; anchors and strides come from it.

    Raises:
        InputError: the head has more levels than YOLOv5 has a balance for.
    """

    def __init__(self, head: AnchorDetect) -> None:
        levels = len(head.strides)
        if levels > len(_BALANCE_OTHERWISE):
            raise InputError(f"{levels} output levels; the loss of YOLOv5 is for {len(_BALANCE_OTHERWISE)} at most")
        self._head = head
        self._balance = _BALANCE.get(levels, _BALANCE_OTHERWISE)[:levels]

    def __call__(
        self,
        raw: Sequence[Tensor],
        boxes: Tensor,
        classes: Tensor,
        image_index: Tensor,
        image_shape: tuple[int, int],
    ) -> DetectionLosses:
        """As `DetectionLoss` says; `raw` is (B, anchors, H, W, 5 + classes) logits per level."""
        _check_labels(boxes, classes, image_index, self._head.classes, len(raw[0]))
        _check_grids([(output.shape[2], output.shape[3]) for output in raw], self._head.strides, image_shape)
        device = raw[0].device
        boxes, classes, image_index = boxes.to(device).float(), classes.to(device), image_index.to(device)
        share = _GAIN_LEVELS / len(raw)
        gains = (
            _BOX_GAIN * share,
            _OBJECTNESS_GAIN * share * (max(image_shape) / _GAIN_SIDE) ** 2,
            _CLASSIFICATION_GAIN * share * self._head.classes / _GAIN_CLASSES,
        )
        with torch.autocast(device.type, enabled=False):
            levels = [
                self._level(level, output.float(), boxes, classes, image_index) for level, output in enumerate(raw)
            ]
            parts = torch.stack(levels).sum(0) * boxes.new_tensor(gains)
        box, objectness, classification = parts.detach()
        return DetectionLosses(parts.sum(), box, objectness, classification)

    def _level(self, level: int, output: Tensor, boxes: Tensor, classes: Tensor, image_index: Tensor) -> Tensor:
        """(3,): box, objectness and classification loss of one level, balanced but without gains."""
        anchors = self._head.anchors[level].to(output)
        matches = match_anchors(boxes, anchors, output.shape[2], output.shape[3])
        where = (image_index[matches.label], matches.anchor, matches.row, matches.column)
        chosen = output[where]
        count = max(1, len(chosen))

        centres = chosen[:, 0:2].sigmoid() * 2 - 0.5
        sizes = (chosen[:, 2:4].sigmoid() * 2) ** 2 * anchors[matches.anchor]
        overlaps = complete_iou(torch.cat((centres, sizes), 1), matches.boxes)
        box = (1 - overlaps).sum() / count

        # The maximum does not depend on the order of the labels, nor on the order in which a GPU writes. It is at
        # least 0.
        targets = torch.zeros_like(output[..., 4]).flatten()
        flat = torch.arange(targets.numel(), device=output.device).view(output.shape[:4])[where]
        targets.scatter_reduce_(0, flat, overlaps.detach(), "amax")
        objectness = F.binary_cross_entropy_with_logits(output[..., 4].flatten(), targets, reduction="sum")
        objectness = objectness * self._balance[level] / max(1, targets.numel())

        logits = chosen[:, 5:]
        one_hot = F.one_hot(classes[matches.label], logits.shape[1]).to(logits)
        classification = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum")
        classification = classification / (count * logits.shape[1])
        if logits.shape[1] == 1:  # with a single class, objectness is enough
            classification = classification * 0
        return torch.stack((box, objectness, classification))


class AnchorFreeLoss:
    """ultralytics' own loss for the anchor-free heads of YOLOv5u and YOLOv8 to YOLO26, with its default gains.

    The loss divides by the sum of the targets' scores, so it is a mean weighted by these scores. If the sum is below 1,
    for example without any boxes, the loss is a sum over the images instead. ultralytics multiplies its loss by the
    batch size; here the loss is divided by the batch size again.

    Args:
        head: the head whose outputs are judged.
        candidates: how many cells each box is assigned to (ultralytics' tal_topk), and of these how many stay.
    """

    def __init__(self, head: AnchorFree, candidates: tuple[int, int | None] = (10, None)) -> None:
        self._head = head
        self._candidates = candidates

    def __call__(
        self,
        raw: dict[str, Any],
        boxes: Tensor,
        classes: Tensor,
        image_index: Tensor,
        image_shape: tuple[int, int],
    ) -> DetectionLosses:
        """As `DetectionLoss` says; `raw` is a dict of "boxes", "scores" and "feats"."""
        batch, device = len(raw["scores"]), raw["scores"].device
        _check_labels(boxes, classes, image_index, self._head.nc, batch)
        _check_grids([(feature.shape[2], feature.shape[3]) for feature in raw["feats"]], self._head.stride, image_shape)
        # ultralytics' loss expects the boxes of an image together, in the order of the images.
        order = image_index.argsort(stable=True)
        labels = {"batch_idx": image_index[order], "cls": classes[order], "bboxes": boxes[order].float()}
        with torch.autocast(device.type, enabled=False):
            outputs = {
                "boxes": raw["boxes"].float(),
                "scores": raw["scores"].float(),
                "feats": [feature.detach().float() for feature in raw["feats"]],  # only their shapes count
            }
            # A new loss for each call, because the loss remembers the device and the sizes of its batch.
            model = SimpleNamespace(
                model=[self._head],
                args=SimpleNamespace(**_ANCHOR_FREE_GAINS),
                parameters=lambda: iter((outputs["scores"],)),
            )
            terms, _ = v8DetectionLoss(model, *self._candidates)(
                outputs, {key: value.to(device) for key, value in labels.items()}
            )
            box, classification, distribution = terms / max(1, batch)
        box = box + distribution
        return DetectionLosses(
            box + classification, box.detach(), torch.zeros_like(box).detach(), classification.detach()
        )


class EndToEndLoss:
    """ultralytics' loss for heads that answer without NMS (YOLOv10, YOLO26): each box has one cell that answers.

    A head in training gives the outputs of both branches. Then the losses of both are added, with ultralytics' weights:
    1 and 1 for YOLOv10 (E2EDetectLoss), 0.8 and 0.2 for YOLO26 (E2ELoss, which moves them over the epochs; they stay
    here). Of a frozen detector, the branch that answers is judged alone.

    Args:
        head: the head whose outputs are judged.
    """

    def __init__(self, head: AnchorFree) -> None:
        self._head = head
        is_v10 = head.kind == "v10Detect"
        self._many = AnchorFreeLoss(head)
        self._one = AnchorFreeLoss(head, (1, None) if is_v10 else (7, 1))
        self._weights = (1.0, 1.0) if is_v10 else (0.8, 0.2)

    def __call__(
        self,
        raw: dict[str, Any],
        boxes: Tensor,
        classes: Tensor,
        image_index: Tensor,
        image_shape: tuple[int, int],
    ) -> DetectionLosses:
        """As `DetectionLoss` says; `raw` is what `AnchorFree.raw` or `AnchorFree.both_raw` returns."""
        if "one2one" not in raw:
            loss = self._one if self._head.end2end else self._many
            return loss(raw, boxes, classes, image_index, image_shape)
        both = [
            branch(raw[name], boxes, classes, image_index, image_shape)
            for branch, name in ((self._many, "one2many"), (self._one, "one2one"))
        ]
        sums = [
            sum(weight * getattr(losses, field.name) for weight, losses in zip(self._weights, both, strict=True))
            for field in fields(DetectionLosses)
        ]
        return DetectionLosses(*sums)


def _check_labels(boxes: Tensor, classes: Tensor, image_index: Tensor, class_count: int, batch: int) -> None:
    """Raise InputError for labels that do not fit a batch: an index out of range would hang or crash a GPU."""
    count = len(boxes)
    if boxes.shape != (count, 4) or classes.shape != (count,) or image_index.shape != (count,):
        shapes = ", ".join(str(tuple(values.shape)) for values in (boxes, classes, image_index))
        raise InputError(f"boxes, classes and image index have the shapes {shapes}; give (N, 4), (N,) and (N,)")
    if not boxes.isfinite().all():
        raise InputError("a box is not finite; leave out annotations without a valid box")
    centres, sizes = boxes[:, 0:2], boxes[:, 2:4]
    if ((centres < -_ROUNDING) | (centres > 1 + _ROUNDING)).any() or (sizes < 0).any():
        raise InputError(
            "a box's centre is outside the image or its size is negative; "
            "give centre x, y, width, height as fractions of the letterboxed image"
        )
    for name, values, limit, remedy in (
        ("class id", classes, class_count, "map the annotations to the detector's classes"),
        ("image index", image_index, batch, "number the rows of the batch from 0"),
    ):
        valid = (values >= 0) & (values < limit)
        if not valid.all():
            raise InputError(f"{name} {values[~valid][0].item()} is outside 0..{limit - 1}; {remedy}")


def _check_grids(grids: Sequence[tuple[int, int]], strides: Tensor, image_shape: tuple[int, int]) -> None:
    """Raise InputError unless the levels' (rows, columns) are those of such an image."""
    expected = [tuple(side / stride for side in image_shape) for stride in strides.tolist()]
    if list(grids) != expected:
        height, width = image_shape
        raise InputError(f"outputs on grids of {list(grids)} cells are not of {height}x{width} pixels (height x width)")
