"""Training images and boxes from a COCO annotation file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before anything of ultralytics)

# isort: split
import numpy as np

from featcodec.errors import InputError
from featcodec.images.annotations import Note, listed_size, no_note, read_annotations
from featcodec.images.names import ListedNames
from featcodec.images.sizes import check_files, read_size
from featcodec.system.paths import files_below, is_file
from featcodec.training.data.datasets import LabelledImage, check_names, check_objects, labelled_image


def read_coco(
    annotations: Path, images: Path, names: Sequence[str], note: Note = no_note, *, ignore_exif: bool = False
) -> list[LabelledImage]:
    """Read the images of a COCO annotation file, in the order of their paths.

    Crowds (iscrowd) and categories that the detector does not know are left out. Boxes are clipped to their image.

    Args:
        annotations: the JSON file.
        images: the folder that the file names are relative to. An image that is not there is searched in the
            subfolders by its file name, and by as many of its folders as fit.
        names: the detector's class names; categories are matched by name.
        note: is told what is left out or cannot be confirmed; see `read_annotations` and `check_files`.
        ignore_exif: take the pixels of images as they are stored; see `read_image`.

    Raises:
        InputError: the file is not a COCO annotation file, lists no image, lists an image with an impossible size,
            has no box of a class of the detector or spells a class differently, an image file is missing, two listed
            images are one file, or an image file has another shape than is listed.
    """
    content = read_annotations(annotations, note)
    check_names(annotations, content.names, names)
    class_ids = {category: index for index, category in content.category_ids(names).items()}
    boxes: dict[int | str, list[tuple[float, ...]]] = defaultdict(list)
    for annotation in content.content["annotations"]:
        if annotation["category_id"] in class_ids and not annotation.get("iscrowd"):
            box = (class_ids[annotation["category_id"]], *annotation["bbox"])
            boxes[annotation["image_id"]].append(box)
    find = _Finder(annotations, images)
    found = []
    taken: dict[Path, str] = {}
    for image in content.content["images"]:
        path = find(str(image["file_name"]))
        if path in taken:
            raise InputError(
                f"{annotations}: {taken[path]} and {image['file_name']} would both be the file {path}; correct the "
                "file names, or give the folder that they start from"
            )
        taken[path] = str(image["file_name"])
        width, height = _listed_size(annotations, image, path, ignore_exif=ignore_exif)
        rows = np.array(boxes.get(image["id"], []), np.float64).reshape(-1, 5)
        left_top = rows[:, 1:3]
        corners = np.concatenate([left_top, left_top + rows[:, 3:5]], axis=1) / [width, height, width, height]
        found.append(labelled_image(path, corners, rows[:, 0]))
    if not found:
        raise InputError(f"{annotations}: lists no image; give the annotations of this set")
    check_objects(annotations, found)
    files = [(image["id"], path) for image, path in zip(content.content["images"], taken, strict=True)]
    check_files(content, files, note, ignore_exif=ignore_exif, fractions=True)
    return sorted((replace(image, ignore_exif=ignore_exif) for image in found), key=lambda image: image.path)


class _Finder:
    """Finds the image files that an annotation file lists."""

    def __init__(self, annotations: Path, folder: Path) -> None:
        self.annotations = annotations
        self.folder = folder
        self._by_name: dict[str, list[Path]] | None = None

    def __call__(self, file_name: str) -> Path:
        relative = PurePath(file_name)
        if not relative.is_absolute() and ".." not in relative.parts and is_file(self.folder / relative):
            return self.folder / relative
        matches = self._named(relative.name)
        if len(matches) > 1:
            named = ((path.relative_to(self.folder).as_posix(), path) for path in matches)
            matches = ListedNames(named).find(relative.with_suffix(""))
        if not matches:
            raise InputError(
                f"{self.folder / relative.name}: no such file, but {self.annotations} lists it; give the folder of its "
                "images, or annotations of these images only"
            )
        if len(matches) > 1:
            raise InputError(
                f"{file_name}: listed in {self.annotations}, but {self.folder} holds {len(matches)} files of that "
                "name; give the folder that file names start from"
            )
        return matches[0]

    def _named(self, name: str) -> list[Path]:
        if self._by_name is None:
            self._by_name = defaultdict(list)
            try:
                found = files_below(self.folder)
            except OSError as error:
                folder = error.filename or self.folder
                raise InputError(f"{folder}: cannot be read ({error.strerror}); check the path") from None
            for path in found:
                self._by_name[path.name].append(path)
        return self._by_name.get(name, [])


def _listed_size(annotations: Path, image: Mapping[str, Any], path: Path, *, ignore_exif: bool) -> tuple[float, float]:
    """(width, height) in pixels that the boxes of an image refer to."""
    if "width" not in image and "height" not in image:
        return read_size(path).read_as(ignore_exif=ignore_exif)
    if (size := listed_size(image)) is None:
        wrong = image.get("width"), image.get("height")
        raise InputError(f"{annotations}: {image['file_name']} has the size {wrong}; make the annotations again")
    return size
