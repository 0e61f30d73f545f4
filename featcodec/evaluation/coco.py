"""Average precision as COCO defines it, computed by pycocotools."""

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
from featcodec.images.results import matched_ids
from featcodec.images.sizes import coded_sizes, difference


@dataclass(frozen=True)
class Accuracy:
    """COCO box accuracy in percent, 0..100; NaN where nothing is annotated.

    Attributes:
        ap: mean over IoU 0.50:0.95, all areas, at most 100 boxes per image.
        ap50: AP at IoU 0.50.
        ap75: AP at IoU 0.75.
        images: number of images that were scored: all images that the annotation file lists.
        unmatched: category names that the results have and the annotation file does not have, each with its number of
            left out boxes. The name with the most boxes is first.
    """

    ap: float
    ap50: float
    ap75: float
    images: int
    unmatched: Mapping[str, int] = field(default_factory=dict)


def score(annotations: Annotations, results: Sequence[dict[str, Any]]) -> Accuracy:
    """Score COCO results against annotations.

    Every image of the annotation file counts, even an image without results.

    Args:
        annotations: the ground truth.
        results: what `featcodec.images.results.read_results` or `Detections.to_coco` returns. The image_name of an
            entry says which image it is about, and the category_name which category it has. An entry without an
            image_name uses its image_id, and one without a category_name its category_id.

    Raises:
        InputError: the same cases as in `match_boxes`.
    """
    boxes, unmatched = _match_categories(annotations, results, _match_images(annotations, results))
    return replace(accuracy_of(annotations, _evaluate(annotations, boxes)), unmatched=unmatched)


def match_boxes(annotations: Annotations, results: Sequence[dict[str, Any]]) -> COCOeval | None:
    """Match results with annotations. The accuracy over all images, or over a resample of them, is computed from this.

    Images and categories are matched as in `score`.

    Returns:
        pycocotools' evaluation after `evaluate`, or None if no result counts.

    Raises:
        InputError: the images of the results cannot be found (see `matched_ids`), or the annotation file lists one with
            another size; a result without a category_name has a category that the file does not have; the file has none
            of the category names in the results, or one of these names twice; nothing is annotated; or some image ids
            are numbers and some are texts.
    """
    return _evaluate(annotations, _match_categories(annotations, results, _match_images(annotations, results))[0])


def _match_images(annotations: Annotations, results: Sequence[dict[str, Any]]) -> list[int | str]:
    """The image of each result, in annotations that can be used for a score."""
    if len({type(image_id) for image_id in annotations.image_ids}) > 1:
        raise InputError(f"{annotations.path}: some image ids are numbers and some are texts; use one kind")
    image_ids = matched_ids(annotations, results)
    if (differing := difference(annotations, coded_sizes(image_ids, results))) is not None:
        raise InputError(differing)
    content = annotations.content
    if not content["annotations"] or not content["categories"]:
        raise InputError(f"{annotations.path}: has no boxes or no categories, so there is nothing to score")
    if not annotations.has_objects:
        raise InputError(f"{annotations.path}: has only boxes of crowds (iscrowd), so there is nothing to score")
    return image_ids


def _match_categories(
    annotations: Annotations, results: Sequence[dict[str, Any]], image_ids: Sequence[int | str]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the results with the ids of the annotation file, and the number of boxes per unknown name.

    The returned results are copies with only the fields that pycocotools needs. One reason is that pycocotools changes
    its input. The other is that it takes a result with a "caption" or "segmentation" for a result of another task.
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
    for number, (image_id, result) in enumerate(zip(image_ids, results, strict=True), 1):
        if "category_name" in result:
            category = by_name[result["category_name"]]
        elif (category := result["category_id"]) not in ids:
            # This is most likely a class id. Then the other ids are class ids too, even if they look like category ids.
            raise InputError(
                f"{annotations.path}: has no category {category}, but entry {number} of the results has it; decode "
                "again, decode with `annotations`, or give annotations with the category ids of the results"
            )
        if category is None:
            unmatched[result["category_name"]] += 1
        else:
            boxes.append(
                {"image_id": image_id, "category_id": category, "bbox": result["bbox"], "score": result["score"]}
            )
    return boxes, dict(unmatched.most_common())


def _evaluate(annotations: Annotations, boxes: list[dict[str, Any]]) -> COCOeval | None:
    """Evaluate boxes with pycocotools, which changes them."""
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
    """Compute the accuracy over all images from the result of `match_boxes`."""
    if evaluation is None:
        return Accuracy(0.0, 0.0, 0.0, len(annotations.image_ids))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75 = (float(value) * 100 if value >= 0 else float("nan") for value in evaluation.stats[:3])
    return Accuracy(ap, ap50, ap75, len(annotations.image_ids))


def _complete(number: int, annotation: dict[str, Any]) -> dict[str, Any]:
    """Fill in the fields that pycocotools needs. Annotation files made by hand may lack them, or have wrong values.

    The id is new, because pycocotools takes a match with id 0 for no match. The area only sorts boxes into small,
    medium and large, and these groups are not used here.
    """
    width, height = annotation["bbox"][2:4]
    crowd = 1 if annotation.get("iscrowd") else 0
    return {**annotation, "id": number, "area": width * height, "iscrowd": crowd}
