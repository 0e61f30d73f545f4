"""Average precision of boxes, masks and keypoints as COCO defines it, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from featcodec.errors import InputError
from featcodec.images.annotations import Annotations, listed_size
from featcodec.images.entries import UnfitError, read_area, read_keypoints_if_any, read_score, shown
from featcodec.images.results import matched_ids
from featcodec.images.rle import RleError, rle_of
from featcodec.images.sizes import coded_sizes, difference

Kind: TypeAlias = Literal["bbox", "segm", "keypoints"]
"""What is compared, in COCO's words: boxes by their IoU, masks by theirs, or keypoints by their similarity (OKS)."""

FIELDS: Mapping[Kind, str] = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
"""The field of results and annotations that each kind compares."""
_PERSON_KEYPOINTS = 17


@dataclass(frozen=True)
class Accuracy:
    """COCO accuracy of boxes, masks or keypoints in percent, 0..100; NaN where nothing is annotated.

    Attributes:
        ap: mean over IoU 0.50:0.95, all areas, at most 100 boxes per image. Of keypoints: over OKS 0.50:0.95, at most
            20 objects per image.
        ap50: AP at IoU or OKS 0.50.
        ap75: AP at IoU or OKS 0.75.
        images: number of images that were scored: all images that the annotation file lists.
        unmatched: category names that the results have and the annotation file does not have, each with its number of
            left out boxes. The name with the most boxes is first.
    """

    ap: float
    ap50: float
    ap75: float
    images: int
    unmatched: Mapping[str, int] = field(default_factory=dict)


def kinds_of(results: Sequence[Mapping[str, Any]]) -> tuple[Kind, ...]:
    """The kinds that results can be scored as: as boxes always, and as what one of them has besides."""
    return "bbox", *(kind for kind in FIELDS if kind != "bbox" and any(FIELDS[kind] in result for result in results))


def score(annotations: Annotations, results: Sequence[dict[str, Any]], kind: Kind = "bbox") -> Accuracy:
    """Score COCO results against annotations.

    Every image of the annotation file counts, even an image without results. The similarity of keypoints takes the area
    of an object from its annotation. COCO's 17 keypoints have the tolerances of COCO; of any other number, each has the
    tolerance 1/number, as in ultralytics.

    Args:
        annotations: the ground truth.
        results: what `featcodec.images.results.read_results` or `Detections.to_coco` returns. The image_name of an
            entry says which image it is about, and the category_name which category it has. An entry without an
            image_name uses its image_id, and one without a category_name its category_id.
        kind: what is compared. Results and annotations must have it.

    Raises:
        InputError: the same cases as in `match_boxes`.
    """
    boxes, unmatched = _match_categories(annotations, results, _match_images(annotations, results), kind)
    return replace(accuracy_of(annotations, _evaluate(annotations, boxes, kind)), unmatched=unmatched)


def match_boxes(annotations: Annotations, results: Sequence[dict[str, Any]], kind: Kind = "bbox") -> COCOeval | None:
    """Match results with annotations. The accuracy over all images, or over a resample of them, is computed from this.

    Images and categories are matched as in `score`.

    Returns:
        pycocotools' evaluation after `evaluate`, or None if no result counts.

    Raises:
        InputError: the images of the results cannot be found (see `matched_ids`), or the annotation file lists one with
            another size; a result without a category_name has a category that the file does not have; the file has none
            of the category names in the results, or one of these names twice; nothing is annotated; some image ids
            are numbers and some are texts; or a result or an annotation lacks what is compared, or has something else
            in its place.
    """
    boxes, _ = _match_categories(annotations, results, _match_images(annotations, results), kind)
    return _evaluate(annotations, boxes, kind)


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
    annotations: Annotations, results: Sequence[dict[str, Any]], image_ids: Sequence[int | str], kind: Kind
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the results with the ids of the annotation file, and the number of boxes per unknown name.

    The returned results are copies with only the fields that pycocotools needs. One reason is that pycocotools changes
    its input. The other is that it takes a result with a "caption" or "segmentation" for a result of another task.
    Their id is the number of the entry, for messages; pycocotools gives them another.
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
            continue
        if FIELDS[kind] not in result:
            raise InputError(
                f"{annotations.path}: entry {number} of the results has no {FIELDS[kind]} to compare with it; use "
                "another `task`, or results of a detector that finds them"
            )
        fields = dict.fromkeys(("bbox", "score", FIELDS[kind]))
        box = {"id": number, "image_id": image_id, "category_id": category}
        boxes.append(box | {field: result[field] for field in fields})
    return boxes, dict(unmatched.most_common())


def _evaluate(annotations: Annotations, boxes: list[dict[str, Any]], kind: Kind) -> COCOeval | None:
    """Evaluate boxes with pycocotools, which changes them."""
    if not boxes:
        return None
    content = annotations.content
    objects = [_complete(*pair) for pair in enumerate(content["annotations"], 1)]
    keypoints = _PERSON_KEYPOINTS
    if kind == "segm":
        _add_masks(annotations, objects, boxes)
    elif kind == "keypoints":
        keypoints = _add_keypoints(annotations, objects, boxes)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**content, "annotations": objects}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(boxes), kind)
        if keypoints != _PERSON_KEYPOINTS:
            evaluation.params.kpt_oks_sigmas = np.full(keypoints, 1 / keypoints)
        evaluation.evaluate()
    return evaluation


def _add_masks(annotations: Annotations, objects: list[dict[str, Any]], boxes: Sequence[Mapping[str, Any]]) -> None:
    """Give the objects their masks as RLE, checked, because pycocotools checks nothing.

    Raises:
        InputError: an object has no mask, or something else in its place; an image has no size; or the mask of a result
            has another size than its image.
    """
    sizes = {image["id"]: listed_size(image) for image in annotations.content["images"]}
    lacking = [each for each in objects if not each.get("segmentation")]
    if lacking:
        raise InputError(
            f"{annotations.path}: {len(lacking)} of {len(objects)} annotations have no segmentation (the first is of "
            f"image {lacking[0]['image_id']}); give annotations with masks, or use `task` bbox"
        )
    for each in objects:
        try:
            each["segmentation"] = rle_of(each["segmentation"], *_whole_size(annotations, sizes, each["image_id"]))
        except RleError as error:
            raise InputError(
                f"{_place(annotations, each)} has a segmentation that is not {error}; correct it, or use `task` bbox"
            ) from None
    for box in boxes:
        width, height = _whole_size(annotations, sizes, box["image_id"])
        if box["segmentation"]["size"] != [height, width]:
            has = "{1}x{0}".format(*box["segmentation"]["size"])
            raise InputError(
                f"{annotations.path}: lists image {box['image_id']} as {width}x{height}, but entry {box['id']} of the "
                f"results has a mask of {has} pixels; give the annotations of the coded images"
            )


def _whole_size(
    annotations: Annotations, sizes: Mapping[Any, tuple[float, float] | None], image_id: int | str
) -> tuple[int, int]:
    size = sizes[image_id]
    if size is None or any(side != int(side) for side in size):
        raise InputError(
            f"{annotations.path}: its image {image_id} has no width and height in whole pixels, which masks need; add "
            "them, or use `task` bbox"
        )
    return int(size[0]), int(size[1])


def _add_keypoints(annotations: Annotations, objects: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> int:
    """Give the objects what pycocotools needs to compare keypoints, and return how many an object has.

    An object without keypoints, like an animal among people, is neither found nor missed.

    Raises:
        InputError: no object has keypoints; one has something else in their place, or no area; or objects and results
            have other numbers of keypoints.
    """
    lengths = Counter(len(each["keypoints"]) for each in objects if isinstance(each.get("keypoints"), list))
    if not lengths:
        raise InputError(
            f"{annotations.path}: its annotations have no keypoints; give annotations with them, or use `task` bbox"
        )
    length = lengths.most_common(1)[0][0]
    for each in objects:
        if each.get("keypoints") is None:
            each["keypoints"] = [0] * length
        annotation = annotations.content["annotations"][each["id"] - 1]
        try:
            seen = sum(value > 0 for value in read_keypoints_if_any(each["keypoints"])[2::3])
            each["num_keypoints"] = read_score(annotation.get("num_keypoints", seen))
            # What has no keypoints is compared with nothing, so its box will do.
            each["area"] = float(read_area(annotation.get("area", None if seen else each["area"])))
        except UnfitError as error:
            place = _place(annotations, each)
            raise InputError(f"{place} has keypoints, num_keypoints or area that are not {error}; correct it") from None
    for each, is_result in (*((each, False) for each in objects), *((each, True) for each in boxes)):
        if len(each["keypoints"]) != length:
            place = f"{annotations.path}: entry {each['id']} of the results" if is_result else _place(annotations, each)
            raise InputError(
                f"{place} has {len(each['keypoints']) // 3} keypoints, but most annotations have {length // 3}; give "
                "annotations and results of the same keypoints"
            )
        # numpy computes nothing with whole numbers of over 64 bits.
        each.update({name: list(map(float, each[name])) for name in ("bbox", "keypoints")})
    return length // 3


def _place(annotations: Annotations, each: Mapping[str, Any]) -> str:
    """Which annotation it is, for messages: by its own id if it has one, else by its number."""
    own = annotations.content["annotations"][each["id"] - 1].get("id")
    which = f"the annotation with the id {shown(own)}" if own is not None else f"annotation {each['id']}"
    return f"{annotations.path}: {which} (of image {each['image_id']})"


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
    medium and large, and these groups are not used here (see `_add_keypoints` for the area that keypoints need).
    """
    width, height = annotation["bbox"][2:4]
    crowd = 1 if annotation.get("iscrowd") else 0
    return {**annotation, "id": number, "area": width * height, "iscrowd": crowd}
