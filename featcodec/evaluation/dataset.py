"""The data set of a sweep: images and their annotations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from featcodec.errors import InputError
from featcodec.images.annotations import Annotations, read_json_bytes
from featcodec.system.paths import Source


@dataclass(frozen=True)
class Dataset:
    """Images and their annotations.

    Attributes:
        sources: the images.
        image_ids: the id of each image in the annotations.
        annotations: the annotations of these images only.
        digest: 16 hex digits that name the annotation file and the images.
    """

    sources: Sequence[Source]
    image_ids: Sequence[int | str]
    annotations: Annotations
    digest: str


def open_dataset(sources: Sequence[Source], annotations: Annotations) -> Dataset:
    """Match images with their annotations. Annotated images that are not among the sources do not count.

    Raises:
        InputError: an image is not annotated, two images have the same id, or no image has an annotated box.
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
    if not restricted["annotations"]:
        raise InputError(
            f"{annotations.path}: has no box on any of these {len(image_ids)} images, so there is nothing to score; "
            "give annotations with boxes, or other images"
        )
    digest = hashlib.sha256(read_json_bytes(annotations.path))
    digest.update(repr(sorted(map(str, image_ids))).encode())
    return Dataset(sources, image_ids, Annotations(annotations.path, restricted), digest.hexdigest()[:16])
