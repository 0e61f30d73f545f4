"""From predictions to boxes: multi-label non-maximum suppression (NMS), then from letterboxed to original pixels."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from featcodec.detections import BoxFilter, Detections
from featcodec.images.letterbox import Letterbox

_MOST_CANDIDATES = 30_000
_FIRST_CANDIDATES = 2_000
_CLASS_OFFSET = 7680
"""Boxes of different classes are moved apart by so many pixels. Number and offset are those of ultralytics."""

Nms: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]


def detections_of(
    predictions: Sequence[Tensor] | Tensor, letterboxes: Sequence[Letterbox], names: tuple[str, ...], boxes: BoxFilter
) -> list[Detections]:
    """The detections of a batch. They are those of ultralytics' `non_max_suppression` with several labels per box.

    Args:
        predictions: (B, 4 + classes, boxes) from `SplitDetector.back`; or per image (4 + classes, boxes).
        letterboxes: how each of the B images lies in the detector's input.
        names: class names.
        boxes: which boxes are kept.
    """
    results = []
    for each, letterbox in zip(predictions, letterboxes, strict=True):
        values = _kept(each.float().T, boxes).cpu().numpy()
        results.append(
            Detections(
                xyxy=letterbox.undo(values[:, :4].astype(np.float32)),
                scores=values[:, 4].astype(np.float32),
                class_ids=values[:, 5].astype(np.int64),
                names=names,
                width=letterbox.original_width,
                height=letterbox.original_height,
            )
        )
    return results


def _kept(predictions: Tensor, boxes: BoxFilter) -> Tensor:
    """The boxes that NMS keeps, (N, 6): left, top, right, bottom, score, class; the highest score first.

    Args:
        predictions: (boxes, 4 + classes): centre x, y, width, height, class scores.
        boxes: which boxes are kept.
    """
    predictions = predictions[predictions[:, 4:].amax(1) > boxes.conf]
    place, label = torch.where(predictions[:, 4:] > boxes.conf)
    scores, order = predictions[place, 4 + label].sort(descending=True, stable=True)
    order, scores = order[:_MOST_CANDIDATES], scores[:_MOST_CANDIDATES]
    centre_and_size, label = predictions[place[order], :4], label[order].float()
    centre, half = centre_and_size[:, :2], centre_and_size[:, 2:] / 2
    xyxy = torch.cat((centre - half, centre + half), 1)
    apart = xyxy + _CLASS_OFFSET * label[:, None]
    # Whether a box is kept depends on those with higher scores alone, so a part from the start gives the same boxes.
    count = min(_FIRST_CANDIDATES, len(scores))
    while True:
        kept = _nms()(apart[:count], scores[:count], boxes.iou)
        if len(kept) >= boxes.max_det or count == len(scores):
            break
        count = min(4 * count, len(scores))
    kept = kept[: boxes.max_det]
    return torch.cat((xyxy[kept], scores[kept, None], label[kept, None]), 1)


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
