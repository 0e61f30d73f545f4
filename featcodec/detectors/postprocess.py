"""From predictions to boxes: multi-label non-maximum suppression (NMS), then from letterboxed to original pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from ultralytics.utils.nms import non_max_suppression

from featcodec.detections import BoxFilter, Detections
from featcodec.images.letterbox import Letterbox

_NO_TIME_LIMIT = 1e9
"""Without this limit, ultralytics stops after 2 seconds and drops the rest of the batch; it only writes a log line."""


def detections_of(
    predictions: Tensor, letterboxes: Sequence[Letterbox], names: tuple[str, ...], boxes: BoxFilter
) -> list[Detections]:
    """The detections of a batch.

    Args:
        predictions: (B, 4 + classes, boxes) from `SplitDetector.back`.
        letterboxes: how each of the B images lies in the detector's input.
        names: class names.
        boxes: which boxes are kept.
    """
    # ultralytics' NMS uses torchvision's kernel only if torchvision is loaded. The import is here: it takes a second.
    import torchvision  # noqa: F401, PLC0415

    kept = non_max_suppression(
        predictions.float(),
        conf_thres=boxes.conf,
        iou_thres=boxes.iou,
        multi_label=True,
        max_det=boxes.max_det,
        nc=len(names),
        max_time_img=_NO_TIME_LIMIT,
    )
    results = []
    for rows, letterbox in zip(kept, letterboxes, strict=True):
        values = rows.cpu().numpy()
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
