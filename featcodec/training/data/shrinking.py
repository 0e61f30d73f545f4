"""A small copy of training images, to carry to another machine: no larger than training uses them, and a JPEG each."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featcodec.errors import InputError
from featcodec.system.files import write_atomically
from featcodec.system.folders import atomic_folder
from featcodec.training.data.datasets import LabelledImage

LABELLED, UNLABELLED, ANNOTATIONS = "images", "unlabelled", "annotations.json"
QUALITIES = (95, 90, 85, 80, 75, 70, 60, 50, 40, 30)
"""Qualities of JPEG, best first."""
_SAMPLE = 32


def shrink_images(
    images: Sequence[LabelledImage],
    names: Sequence[str],
    output: Path,
    *,
    image_size: int,
    limit: int,
) -> int:
    """Write a copy of training images: images/ and annotations.json (COCO), and unlabelled/.

    Files get numbers for names, in the order of the images, so that what is held out of them stays the same. Labels
    are those that training sees: without crowds and without classes that the detector does not know.

    Args:
        images: labelled and unlabelled images.
        names: the class names that `images` have the numbers of.
        output: the new folder; it may be there if it holds no file.
        image_size: longest side of a copy, in pixels. No image is made larger.
        limit: bytes that all images together may take. The best quality that fits is chosen.

    Returns:
        the quality of the JPEG files, 1 to 100.

    Raises:
        InputError: an image cannot be read, or the images do not fit into the limit.
        OutputError: the folder holds files, or cannot be written.
    """
    if not images:
        raise InputError("no images to copy; give at least one")
    if image_size < 1:
        raise InputError(f"an image size of {image_size} is below 1; give for example 512")
    with atomic_folder(output, ()) as folder:
        for quality in QUALITIES[_first_that_may_fit(images, image_size, limit) :]:
            if (listed := _copy(images, folder, image_size, limit, quality)) is not None:
                write_atomically(folder / ANNOTATIONS, _coco(listed, names), overwrite=True)
                return quality
        raise InputError(
            f"{len(images)} images of {image_size} pixels do not fit into {limit:,} bytes; give a smaller size, fewer "
            "images, or more room"
        )


def _first_that_may_fit(images: Sequence[LabelledImage], image_size: int, limit: int) -> int:
    """Where to begin in `QUALITIES`, from a few images. One that is too good only costs time."""
    sample = images[:: max(1, len(images) // _SAMPLE)]
    copies = [_small(image, image_size) for image in sample]
    for number, quality in enumerate(QUALITIES):
        # A tenth more, because the sample may be larger than the rest.
        if sum(len(_jpeg(copy, quality)) for copy in copies) * len(images) <= 1.1 * limit * len(sample):
            return max(0, number - 1)
    return len(QUALITIES) - 1


def _copy(
    images: Sequence[LabelledImage], folder: Path, image_size: int, limit: int, quality: int
) -> list[tuple[str, LabelledImage, tuple[int, int]]] | None:
    """Write the copies; the labelled ones with their names and sizes, or None as soon as they take too many bytes."""
    left, labelled = limit, []
    for number, image in enumerate(images):
        name = f"{number:07d}.jpg"
        copy = _small(image, image_size)
        data = _jpeg(copy, quality)
        left -= len(data)
        if left < 0:
            return None
        kind = LABELLED if image.labelled else UNLABELLED
        (folder / kind).mkdir(exist_ok=True)
        write_atomically(folder / kind / name, data, overwrite=True)
        if image.labelled:
            labelled.append((name, image, copy.size))
    return labelled


def _small(image: LabelledImage, image_size: int) -> Image.Image:
    copy = Image.fromarray(image.read())
    # As `thumbnail` has it: never larger, at least one pixel, and the same shape.
    copy.thumbnail((image_size, image_size), Image.Resampling.LANCZOS)
    return copy


def _jpeg(copy: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    copy.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def _coco(labelled: Sequence[tuple[str, LabelledImage, tuple[int, int]]], names: Sequence[str]) -> bytes:
    """Category ids are class numbers from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, image, (width, height)) in enumerate(labelled, 1):
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        scale = np.array([width, height, width, height])
        for (x, y, w, h), category in zip(image.boxes.astype(np.float64) * scale, image.classes, strict=True):
            box = [round(float(side), 3) for side in (x - w / 2, y - h / 2, w, h)]
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": int(category) + 1, "bbox": box}
            annotations.append({**annotation, "area": round(float(w * h), 3), "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()
