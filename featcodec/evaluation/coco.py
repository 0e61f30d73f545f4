"""Average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from featcodec.errors import InputError
from featcodec.images.annotations import Annotations

_RESULT_FIELDS = ("image_id", "category_id", "bbox", "score")


@dataclass(frozen=True)
class Accuracy:
    """COCO box accuracy in percent, 0..100; NaN where nothing is annotated.

    Attributes:
        ap: mean over IoU 0.50:0.95, all areas, at most 100 boxes an image.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        images: images that were scored: all that the annotation file lists.
    """

    ap: float
    ap50: float
    ap75: float
    images: int


def score(annotations: Annotations, results: Sequence[dict[str, Any]]) -> Accuracy:
    """Score COCO results against annotations.

    Every image of the annotation file counts, also one without a result.

    Raises:
        InputError: as `match_boxes`.
    """
    return accuracy_of(annotations, match_boxes(annotations, results))


def match_boxes(annotations: Annotations, results: Sequence[dict[str, Any]]) -> COCOeval | None:
    """Match results with annotations, as far as accuracy, over all images or a resample of them, is computed from.

    Returns:
        pycocotools' evaluation after `evaluate`, or None without a single result.

    Raises:
        InputError: a result is of an image that the annotation file does not list, nothing is annotated, or some image
            ids are numbers and some are texts.
    """
    if len({type(image_id) for image_id in annotations.image_ids}) > 1:
        raise InputError(f"{annotations.path}: some image ids are numbers and some are texts; use one kind")
    unknown = {result["image_id"] for result in results} - annotations.image_ids
    if unknown:
        raise InputError(
            f"{annotations.path}: lists no image {sorted(map(str, unknown))[0]} ({len(unknown)} such in the results); "
            "give the annotations of this set, or decode with --annotations"
        )
    content = annotations.content
    if not content["annotations"] or not content["categories"]:
        raise InputError(f"{annotations.path}: annotates no box of any category, so there is nothing to score")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**content, "annotations": [_complete(*pair) for pair in enumerate(content["annotations"], 1)]}
        truth.createIndex()
        if not results:
            return None
        # loadRes changes what it is given, and takes a result with a "caption" or "segmentation" for another task's.
        boxes = [{field: result[field] for field in _RESULT_FIELDS} for result in results]
        evaluation = COCOeval(truth, truth.loadRes(boxes), "bbox")
        evaluation.evaluate()
    return evaluation


def accuracy_of(annotations: Annotations, evaluation: COCOeval | None) -> Accuracy:
    """The accuracy over all images, from what `match_boxes` returned."""
    if evaluation is None:
        return Accuracy(0.0, 0.0, 0.0, len(annotations.image_ids))
    with contextlib.redirect_stdout(io.StringIO()):
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
