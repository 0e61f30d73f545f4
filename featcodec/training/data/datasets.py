"""Training sets: images with or without boxes. `coco` and `yolo` read the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before anything of ultralytics)

# isort: split
import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError
from featcodec.images.annotations import names_in_words, similar_names
from featcodec.images.reading import IMAGE_SUFFIXES, read_image
from featcodec.system.paths import expand_sources, resolved


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image file and its labels.

    Attributes:
        path: the file.
        boxes: (N, 4) float32, centre x, centre y, width, height as fractions of the image. The boxes are inside the
            image and not empty.
        classes: (N,) int64, the detector's class numbers.
        labelled: False for an image without labels. If True and N = 0, the image is known to show none of the classes.
        ignore_exif: take the pixels as they are stored; see `read_image`.
    """

    path: Path
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    labelled: bool
    ignore_exif: bool = False

    def read(self) -> npt.NDArray[np.uint8]:
        """The image, (height, width, 3) uint8 RGB.

        Raises:
            InputError: the image cannot be read.
        """
        return read_image(self.path, ignore_exif=self.ignore_exif)


def read_unlabelled(sources: Sequence[str]) -> list[LabelledImage]:
    """Find images without labels, in the order of their paths.

    Args:
        sources: files, folders (searched recursively) and glob patterns.

    Raises:
        InputError: one of the sources matches no image.
    """
    # Each source is expanded alone, so that images of the same name in two folders do not clash.
    found = {
        resolved(source.path): source.path
        for argument in sources
        for source in expand_sources([argument], IMAGE_SUFFIXES, "images")
    }
    if not found:
        raise InputError("no images given; name files, folders or patterns")
    nothing = np.zeros((0, 4))
    return [labelled_image(path, nothing, nothing[:, 0], labelled=False) for path in sorted(found.values())]


def hold_out(images: Sequence[LabelledImage], count: int) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Set images aside for measuring: always the last `count` in the order of their paths.

    Returns:
        (kept, held out), both in the order of their paths.

    Raises:
        InputError: no image is left to train on, or `count` is negative.
    """
    if not 0 <= count < len(images):
        raise InputError(f"cannot hold out {count} of {len(images)} images; leave at least one to train on")
    ordered = sorted(images, key=lambda image: image.path)
    kept = len(ordered) - count
    return ordered[:kept], ordered[kept:]


def labelled_image(
    path: Path, corners: npt.NDArray[np.float64], classes: npt.NDArray[np.float64], *, labelled: bool = True
) -> LabelledImage:
    """Clip boxes to the image; drop empty boxes and repeated boxes.

    Args:
        corners: (N, 4) left, top, right, bottom as fractions of the image.
        classes: (N,).
    """
    corners = np.clip(corners, 0, 1)
    size = corners[:, 2:] - corners[:, :2]
    boxes = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, size], axis=1).astype(np.float32)
    rows = np.concatenate([classes[:, None], boxes], axis=1)[(boxes[:, 2:] > 0).all(axis=1)]
    rows = np.array(list(dict.fromkeys(map(tuple, rows.tolist()))), np.float64).reshape(-1, 5)
    return LabelledImage(path, rows[:, 1:].astype(np.float32), rows[:, 0].astype(np.int64), labelled)


def packed(images: Sequence[LabelledImage]) -> tuple[Any, ...]:
    """The arguments of `unpacked`. Another process gets them ten times as fast as 100,000 images with their arrays."""
    ends = np.cumsum([len(image.classes) for image in images])[:-1]
    boxes, classes = (np.concatenate([getattr(image, name) for image in images]) for name in ("boxes", "classes"))
    return ends, boxes, classes, [(str(image.path), image.labelled, image.ignore_exif) for image in images]


def unpacked(
    ends: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    others: Sequence[tuple[str, bool, bool]],
) -> list[LabelledImage]:
    """At least one image, from what `packed` returns."""
    labels = zip(np.split(boxes, ends), np.split(classes, ends), others, strict=True)
    return [LabelledImage(Path(path), own, numbers, *flags) for own, numbers, (path, *flags) in labels]


def check_objects(path: Path, images: Sequence[LabelledImage]) -> None:
    """Refuse labels that hold no box of any class of the detector: nothing could be learned from them."""
    if not any(len(image.classes) for image in images):
        raise InputError(
            f"{path}: no box of a class of the detector is on its {len(images)} images (crowds and empty boxes do not "
            "count); give labels with boxes"
        )


def check_names(path: Path, own: Sequence[str], names: Sequence[str]) -> None:
    """Refuse names with which labels would be lost, or would go to one of several classes, without a message."""
    double = next((name for name in own if list(names).count(name) > 1), None)
    if double is not None:
        raise InputError(f"{path}: the detector has several classes {double!r}; give each class its own name")
    # If no name matches, the caller says so.
    if (known := set(own) & set(names)) and (alike := list(similar_names(sorted(set(names) - known), own))):
        raise InputError(f"{path}: has no class {names_in_words(alike, own)}; spell the names as the detector does")
