"""From predictions to detections: multi-label non-maximum suppression (NMS), then from letterboxed to original pixels.

The masks or keypoints of a box stay with it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec.detections import BoxFilter, Detections
from featcodec.detectors.masks import masks_of
from featcodec.detectors.task import Task
from featcodec.images.letterbox import Letterbox

_MOST_CANDIDATES = 30_000
_FIRST_CANDIDATES = 2_000
_CLASS_OFFSET = 7680
"""Boxes of different classes are moved apart by so many pixels. Number and offset are those of ultralytics."""

Nms: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]


def detections_of(
    predictions: Sequence[Tensor] | Tensor,
    letterboxes: Sequence[Letterbox],
    names: tuple[str, ...],
    boxes: BoxFilter,
    task: Task | None = None,
    prototypes: Sequence[Tensor] | Tensor | None = None,
) -> list[Detections]:
    """The detections of a batch.

    They are those of ultralytics' `non_max_suppression` with several labels per box. If the detector needs no NMS, they
    are those of `Detect.postprocess`: the pairs of box and class with the highest scores. (There, ultralytics keeps at
    most as many pairs as there are boxes, which are fewer than 300 if a picture has fewer than 15,000 pixels. Here, all
    up to `max_det` are kept, so that boxes whose scores are too low may be left out before.)

    Args:
        predictions: (B, rows, boxes) from `SplitDetector.back`, or per image (rows, boxes); `Task` has the rows. Boxes
            without a score above `boxes.conf` may be left out.
        letterboxes: how each of the B images lies in the detector's input.
        names: class names.
        boxes: which boxes are kept.
        task: what the rows are, and whether the detector needs NMS. With None, all rows but four are class scores.
        prototypes: if the task has masks, (B, masks, h, w) or per image (masks, h, w); see `masks_of`.

    Raises:
        ValueError: the predictions have other rows than the task, or the prototypes do not fit.
    """
    results = []
    for place, (each, letterbox) in enumerate(zip(predictions, letterboxes, strict=True)):
        has = task or Task(len(each) - 4)
        if len(each) != has.rows:
            raise ValueError(f"predictions of {len(each)} rows are not those of {has}, which has {has.rows}")
        kept, further = _kept(each.float().T, boxes, has)
        values = kept.cpu().numpy()
        found = Detections(
            xyxy=letterbox.undo(values[:, :4].astype(np.float32)),
            scores=values[:, 4].astype(np.float32),
            class_ids=values[:, 5].astype(np.int64),
            names=names,
            width=letterbox.original_width,
            height=letterbox.original_height,
        )
        if has.masks:
            if prototypes is None:
                raise ValueError(f"{has} has masks, which need prototypes")
            found = replace(found, masks=masks_of(further[:, : has.masks], prototypes[place], found.xyxy, letterbox))
        if has.keypoints is not None:
            points = further[:, has.masks :].cpu().numpy().reshape(-1, *has.keypoints)
            found = replace(found, keypoints=_keypoints(points, letterbox))
        results.append(found)
    return results


def _keypoints(points: npt.NDArray[np.float32], letterbox: Letterbox) -> npt.NDArray[np.float32]:
    """(N, K, 3) float32 in original pixels, of (N, K, 2 or 3) in letterboxed pixels; see `Detections.keypoints`."""
    keypoints = np.ones((*points.shape[:2], 3), np.float32)
    keypoints[..., : points.shape[2]] = points
    keypoints[..., :2] = letterbox.undo_points(keypoints[..., :2])
    return keypoints


def _kept(predictions: Tensor, boxes: BoxFilter, task: Task) -> tuple[Tensor, Tensor]:
    """The boxes that NMS keeps, the highest score first.

    Args:
        predictions: (boxes, rows), see `Task`.
        boxes: which boxes are kept.
        task: what the rows are.

    Returns:
        (N, 6): left, top, right, bottom, score, class; and (N, task.further): what stands behind the class scores.
    """
    end = 4 + task.classes
    predictions = predictions[predictions[:, 4:end].amax(1) > boxes.conf]
    place, label = torch.where(predictions[:, 4:end] > boxes.conf)
    scores, order = predictions[place, 4 + label].sort(descending=True, stable=True)
    most = _MOST_CANDIDATES if task.needs_nms else boxes.max_det
    order, scores = order[:most], scores[:most]
    centre_and_size, label = predictions[place[order], :4], label[order].float()
    centre, half = centre_and_size[:, :2], centre_and_size[:, 2:] / 2
    xyxy = torch.cat((centre - half, centre + half), 1)
    if not task.needs_nms:
        return torch.cat((xyxy, scores[:, None], label[:, None]), 1), predictions[place[order], end:]
    apart = xyxy + _CLASS_OFFSET * label[:, None]
    # Whether a box is kept depends on those with higher scores alone, so a part from the start gives the same boxes.
    count = min(_FIRST_CANDIDATES, len(scores))
    while True:
        kept = _nms()(apart[:count], scores[:count], boxes.iou)
        if len(kept) >= boxes.max_det or count == len(scores):
            break
        count = min(4 * count, len(scores))
    kept = kept[: boxes.max_det]
    return torch.cat((xyxy[kept], scores[kept, None], label[kept, None]), 1), predictions[place[order[kept]], end:]


@cache
def _nms() -> Nms:
    """torchvision's NMS, from its library of kernels alone: to import all of torchvision takes a second."""
    found = importlib.util.find_spec("torchvision")
    if "torchvision" not in sys.modules and found is not None and found.origin is not None:
        for library in sorted(Path(found.origin).parent.glob("_C*.so")):
            with contextlib.suppress(OSError, RuntimeError, AttributeError):
                torch.ops.load_library(library)  # type: ignore[no-untyped-call]
                return cast("Nms", torch.ops.torchvision.nms.default)
    return cast("Nms", importlib.import_module("torchvision").ops.nms)
