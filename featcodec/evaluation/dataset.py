"""The data set of a sweep: images and their annotations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from featcodec.errors import InputError
from featcodec.images.annotations import Annotations, Note, no_note, read_json_bytes
from featcodec.images.sizes import check_files
from featcodec.system.paths import Source


@dataclass(frozen=True)
class Dataset:
    """Images and their annotations.

    Attributes:
        sources: the images.
        image_ids: the id of each image in the annotations.
        annotations: the annotations of these images only.
        digest: 16 hex digits that name the annotation file, the images, and how they are read.
        ignore_exif: how the images are read; see `read_image`.
    """

    sources: Sequence[Source]
    image_ids: Sequence[int | str]
    annotations: Annotations
    digest: str
    ignore_exif: bool = False


def open_dataset(
    sources: Sequence[Source], annotations: Annotations, *, ignore_exif: bool = False, note: Note = no_note
) -> Dataset:
    """Match images with their annotations. Annotated images that are not among the sources do not count.

    Args:
        sources: the images.
        annotations: their annotations.
        ignore_exif: take the pixels of images as they are stored; see `read_image`.
        note: is told what the sizes of the images cannot confirm; see `check_files`.

    Raises:
        InputError: an image is not annotated or cannot be read, two images have the same id, no image has an annotated
            box, or an image has another size than the annotations list.
    """
    image_ids = [annotations.image_id(source.name, source.path) for source in sources]
    wanted = set(image_ids)
    if len(wanted) < len(image_ids):
        double = next(source for source, one in zip(sources, image_ids, strict=True) if image_ids.count(one) > 1)
        raise InputError(f"{double.path}: another image has the same id; give each image once")
    content = annotations.content
    restricted = {
        **content,
        "images": [image for image in content["images"] if image["id"] in wanted],
        "annotations": [box for box in content["annotations"] if box["image_id"] in wanted],
    }
    of_these = Annotations(annotations.path, restricted)
    if not of_these.has_objects:
        raise InputError(
            f"{annotations.path}: has no box of an object on any of these {len(image_ids)} images, so there is nothing "
            "to score; give annotations with boxes, or other images"
        )
    files = zip(image_ids, (source.path for source in sources), strict=True)
    check_files(annotations, files, note, ignore_exif=ignore_exif)
    digest = hashlib.sha256(read_json_bytes(annotations.path))
    digest.update(repr(sorted(map(str, image_ids))).encode())
    if ignore_exif:
        digest.update(b"ignore_exif")
    return Dataset(sources, image_ids, of_these, digest.hexdigest()[:16], ignore_exif)
