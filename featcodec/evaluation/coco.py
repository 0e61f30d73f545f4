"""Average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from featcodec.data.annotations import Annotations
from featcodec.errors import InputError


@dataclass(frozen=True)
class Accuracy:
    """COCO box accuracy in percent, 0..100; NaN where nothing is annotated.

    Attributes:
        ap: mean over IoU 0.50:0.95, all areas, at most 100 boxes a picture.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        images: pictures that were scored: all that the annotation file lists.
    """

    ap: float
    ap50: float
    ap75: float
    images: int


def score(annotations: Annotations, results: Sequence[dict[str, Any]]) -> Accuracy:
    """Score COCO results against annotations.

    Every picture of the annotation file counts, also one without a result.

    Raises:
        InputError: a result is of a picture that the annotation file does not list, or nothing is annotated.
    """
    unknown = {result["image_id"] for result in results} - annotations.image_ids
    if unknown:
        raise InputError(
            f"{annotations.path}: lists no image {sorted(map(str, unknown))[0]} ({len(unknown)} such in the results); "
            "give the annotations of this set, or decode with --annotations"
        )
    content = annotations.content
    if not content["annotations"]:
        raise InputError(f"{annotations.path}: annotates no box, so there is nothing to score")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**content, "annotations": [_complete(*pair) for pair in enumerate(content["annotations"], 1)]}
        truth.createIndex()
        if not results:
            return Accuracy(0.0, 0.0, 0.0, len(annotations.image_ids))
        # loadRes changes what it is given.
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75 = (float(value) * 100 if value >= 0 else float("nan") for value in evaluation.stats[:3])
    return Accuracy(ap, ap50, ap75, len(annotations.image_ids))


def _complete(number: int, annotation: dict[str, Any]) -> dict[str, Any]:
    """What pycocotools needs and hand-made annotation files leave out, or get wrong: it takes a match of id 0 for none.

    Areas only sort boxes into small, medium and large, which nobody asks for.
    """
    width, height = annotation["bbox"][2:4]
    crowd = 1 if annotation.get("iscrowd") else 0
    return {**annotation, "id": number, "area": width * height, "iscrowd": crowd}
