"""Average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from featcodec.errors import InputError
from featcodec.images.annotations import Annotations

_OTHER_FIELDS = ("image_id", "bbox", "score")


@dataclass(frozen=True)
class Accuracy:
    """COCO box accuracy in percent, 0..100; NaN where nothing is annotated.

    Attributes:
        ap: mean over IoU 0.50:0.95, all areas, at most 100 boxes an image.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        images: images that were scored: all that the annotation file lists.
        unmatched: category names of results that the annotation file lacks, with the number of boxes that were left
            out, most first.
    """

    ap: float
    ap50: float
    ap75: float
    images: int
    unmatched: Mapping[str, int] = field(default_factory=dict)


def score(annotations: Annotations, results: Sequence[dict[str, Any]]) -> Accuracy:
    """Score COCO results against annotations.

    Every image of the annotation file counts, also one without a result.

    Args:
        annotations: the truth.
        results: what `featcodec.images.annotations.read_results` or `Detections.to_coco` returns. An entry's
            category_name says of which category it is; where it has none, its category_id does.

    Raises:
        InputError: as `match_boxes`.
    """
    _check(annotations, results)
    boxes, unmatched = _match_categories(annotations, results)
    return replace(accuracy_of(annotations, _evaluate(annotations, boxes)), unmatched=unmatched)


def match_boxes(annotations: Annotations, results: Sequence[dict[str, Any]]) -> COCOeval | None:
    """Match results with annotations, as far as accuracy, over all images or a resample of them, is computed from.

    Categories are matched as in `score`.

    Returns:
        pycocotools' evaluation after `evaluate`, or None without a single result that counts.

    Raises:
        InputError: a result is of an image that the annotation file does not list, or, without a name, of a category
            that it lacks; it has none of the results' names, or one of them twice; nothing is annotated; or some image
            ids are numbers and some are texts.
    """
    _check(annotations, results)
    return _evaluate(annotations, _match_categories(annotations, results)[0])


def _check(annotations: Annotations, results: Sequence[dict[str, Any]]) -> None:
    """Whether the annotations can be scored against, and are of the results' images."""
    if len({type(image_id) for image_id in annotations.image_ids}) > 1:
        raise InputError(f"{annotations.path}: some image ids are numbers and some are texts; use one kind")
    unknown = {result["image_id"] for result in results} - annotations.image_ids
    if unknown:
        raise InputError(
            f"{annotations.path}: lists no image {sorted(map(str, unknown))[0]} ({len(unknown)} such in the results); "
            "give the annotations of this set, or decode with `annotations`"
        )
    content = annotations.content
    if not content["annotations"] or not content["categories"]:
        raise InputError(f"{annotations.path}: annotates no box of any category, so there is nothing to score")


def _match_categories(
    annotations: Annotations, results: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Results with the annotation file's category ids, and how many boxes of which names it lacks.

    Of a result there is left what pycocotools needs: it changes what it is given, and takes a result with a "caption"
    or "segmentation" for another task's.
    """
    names = list(dict.fromkeys(result["category_name"] for result in results if "category_name" in result))
    by_name = {name: annotations.category_id(name) for name in names}
    if names and all(category is None for category in by_name.values()):
        raise InputError(
            f"{annotations.path}: none of its categories is a class of the results ({annotations.in_words(names)}); "
            "use annotations with the same class names"
        )
    ids = {category["id"] for category in annotations.content["categories"]}
    boxes, unmatched = [], Counter[str]()
    for number, result in enumerate(results, 1):
        if "category_name" in result:
            category = by_name[result["category_name"]]
        elif (category := result["category_id"]) not in ids:
            # Most likely a class id, and then so are those that happen to be among the categories' ids.
            raise InputError(
                f"{annotations.path}: has no category {category}, which entry {number} of the results is of; decode "
                "again, or with `annotations`, or give annotations with the results' category ids"
            )
        if category is None:
            unmatched[result["category_name"]] += 1
        else:
            boxes.append({"category_id": category, **{name: result[name] for name in _OTHER_FIELDS}})
    return boxes, dict(unmatched.most_common())


def _evaluate(annotations: Annotations, boxes: list[dict[str, Any]]) -> COCOeval | None:
    """pycocotools' evaluation of boxes, which it changes."""
    content = annotations.content
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**content, "annotations": [_complete(*pair) for pair in enumerate(content["annotations"], 1)]}
        truth.createIndex()
        if not boxes:
            return None
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
