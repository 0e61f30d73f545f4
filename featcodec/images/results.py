"""Reads COCO results, and finds the annotated image of each result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from featcodec.errors import InputError
from featcodec.images.annotations import MAX_BYTES, Annotations, read_json, read_json_lines
from featcodec.images.entries import (
    Reader,
    normal_entries,
    read_box,
    read_category_id,
    read_image_id,
    read_keypoints_if_any,
    read_mask_if_any,
    read_score,
    read_size_if_any,
    read_text_if_any,
    shown,
)
from featcodec.images.names import name_of
from featcodec.images.parquet import read_parquet

_RESULT: Mapping[str, Reader] = {
    "image_id": read_image_id,
    "category_id": read_category_id,
    "bbox": read_box,
    "score": read_score,
    "category_name": read_text_if_any,
    "image_name": read_text_if_any,
    "image_size": read_size_if_any,
    "segmentation": read_mask_if_any,
    "keypoints": read_keypoints_if_any,
}
_REMEDY = "make it with `featcodec decode`"


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a COCO results file: a list of dicts with image_id, category_id, bbox and score.

    The results of featcodec also have a category_name, an image_name and an image_size; see `Detections.to_coco`. There
    may be a segmentation (a mask as RLE) and keypoints.

    Args:
        path: a JSON list; or one entry per line, if it ends with .jsonl; or a table, if it ends with .parquet.

    Raises:
        InputError: the file cannot be read, is not of that kind, or has another form.
        FeatcodecError: the library that .parquet needs is not installed.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        content: Any = read_parquet(path, MAX_BYTES)
    elif ending == ".jsonl":
        content = read_json_lines(path, "results")
    else:
        content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: not a COCO results file (a JSON list); make it with `featcodec decode -o x.json`")
    results = normal_entries(path, content, "of the results", _RESULT, _REMEDY)
    for number, result in enumerate(results, 1):
        if "segmentation" in result and "image_size" in result:
            height, width = result["segmentation"]["size"]
            if [width, height] != result["image_size"]:
                raise InputError(
                    f"{path}: entry {number} of the results has a mask of {width}x{height} pixels on an image of "
                    f"{result['image_size'][0]}x{result['image_size'][1]}; {_REMEDY}"
                )
    return results


def matched_ids(annotations: Annotations, results: Sequence[Mapping[str, Any]]) -> list[int | str]:
    """The id of the annotated image that each result is about.

    The image_name of a result says it, even if the image_id is that of another image: without annotations, ids are
    made from file names, and annotation files have numbers of their own. A result without an image_name (of another
    program or an older version) is about the image with its image_id.

    Args:
        annotations: the ground truth.
        results: COCO results. An image_name is the path of the image within its run, with or without ending. It is
            matched as in `Annotations.image_id`.

    Raises:
        InputError: the annotation file lists no image of a name or of an id, or several images of a name; or results
            of two names would be about one image.
    """
    texts = dict.fromkeys(result["image_name"] for result in results if "image_name" in result)
    unnamed = dict.fromkeys(result["image_id"] for result in results if "image_name" not in result)
    names = {text: name for text in texts if (name := _listed_name(annotations, text)) is not None}
    listed = {each: image_id for each in unnamed if (image_id := annotations.listed_id(each)) is not None}
    if unknown := [*(text for text in texts if text not in names), *(each for each in unnamed if each not in listed)]:
        raise InputError(
            f"{annotations.path}: lists no image {shown(unknown[0])} (the results have {len(unknown)} such images); "
            "give the annotations of this set, or decode with `annotations`"
        )
    by_name = annotations.image_ids_of(names.values())
    return [
        by_name[names[result["image_name"]]] if "image_name" in result else listed[result["image_id"]]
        for result in results
    ]


def without_results(annotations: Annotations, image_ids: Iterable[int | str]) -> str | None:
    """One line about images with annotated objects that no result is about, or None.

    Args:
        annotations: the ground truth.
        image_ids: the id of the image of each result, from `matched_ids`.
    """
    found = set(image_ids)
    boxes = annotations.content["annotations"]
    with_objects = dict.fromkeys(box["image_id"] for box in boxes if not box.get("iscrowd"))
    lacking = [image_id for image_id in with_objects if image_id not in found]
    if not lacking:
        return None
    return (
        f"{len(lacking)} of {len(annotations.image_ids)} images have annotated boxes but no results (the first is "
        f"image {lacking[0]}), so these boxes count as missed"
    )


def _listed_name(annotations: Annotations, text: str) -> PurePath | None:
    """The name of a listed image from an image_name, or None."""
    name = PurePath(text)
    if not annotations.lists(name):
        name = name_of(text)
    return name if annotations.lists(name) else None
