"""Training images and boxes from an ultralytics data YAML and its YOLO text labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before anything of ultralytics)

# isort: split
import numpy as np
from ultralytics.data.utils import img2label_paths

from featcodec.errors import InputError
from featcodec.images.annotations import Note, no_note
from featcodec.images.entries import shown
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.images.sizes import note_turned
from featcodec.system.files import read_bounded
from featcodec.system.paths import exists, expand_sources, is_file, is_folder
from featcodec.training.data.datasets import LabelledImage, check_names, check_objects, labelled_image
from featcodec.training.data.yaml_files import read_yaml

_MAX_TEXT = 64 << 20
_TOLERANCE = 0.01  # how far rounded coordinates in YOLO text may be outside the image, as in ultralytics


def read_data_yaml(
    path: Path, names: Sequence[str], split: str = "train", note: Note = no_note, *, ignore_exif: bool = False
) -> list[LabelledImage]:
    """Read the images of one split of an ultralytics data set, in the order of their paths. Nothing is downloaded.

    The labels are in text files, in the folder `labels` beside `images`. Each line is a box (class, centre x, centre y,
    width, height as fractions) or a polygon; a polygon becomes its enclosing box. As in ultralytics, an image without a
    label file shows no object.

    Args:
        path: the YAML file, with `names`, the splits, and optionally `path`, the folder that the splits are relative
            to. A relative `path` is searched beside the YAML file and in the working folder.
        names: the detector's class names. The classes of the data set are matched by name; other classes are left out.
        split: "train", "val" or "test"; its entry is a folder, a text file that lists images, or a list of both.
        note: is told how many images with labels EXIF data turns; see `note_turned`.
        ignore_exif: take the pixels of images as they are stored; see `read_image`.

    Raises:
        InputError: the data set is unreadable or damaged (for labels, the message has the number of the line), or it
            has no such split, no image, no label, or no box of a class of the detector; or an image cannot be read.
    """
    content = _read_yaml(path)
    if "kpt_shape" in content:
        raise InputError(f"{path}: labels with keypoints (kpt_shape) are not boxes; use a data set for detection")
    class_ids = _class_ids(path, content.get("names"), names)
    entries = content.get(split)
    entries = [entries] if isinstance(entries, str) else entries
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise InputError(f"{path}: {split!r} is not a folder, a text file or a list of them; say where the images are")
    root = _data_root(path, content)
    files = sorted({file for entry in entries for file in _split_files(path, root, entry)})
    label_files = [Path(name) for name in img2label_paths([str(file) for file in files])]
    if not any(map(is_file, label_files)):
        raise InputError(
            f"{path}: none of the {len(files)} images of {split!r} has labels ({label_files[0]} is missing); put them "
            "into the folder labels beside images"
        )
    images = [_read_label_file(*pair, class_ids) for pair in zip(files, label_files, strict=True)]
    check_objects(path, images)
    if not ignore_exif:
        note_turned((image.path for image in images if len(image.boxes)), note)
    return [replace(image, ignore_exif=ignore_exif) for image in images]


def read_class_names(path: Path) -> list[str]:
    """Read the class names of an ultralytics data set, in the order of their numbers.

    Raises:
        InputError: the YAML file cannot be read, or names no classes.
    """
    names = _numbered_names(path, _read_yaml(path).get("names"))
    return [names[number] for number in sorted(names)]


def _read_yaml(path: Path) -> dict[Any, Any]:
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: not the YAML of a data set (names, train, val); give a data YAML")
    return data


def _read_lines(path: Path, remedy: str) -> list[str]:
    data = read_bounded(path, _MAX_TEXT, InputError, what="list or label file", remedy=remedy, unreadable=remedy)
    try:
        return data.decode("utf-8-sig").splitlines()
    except ValueError:
        raise InputError(f"{path}: not UTF-8 text; {remedy}") from None


def _class_ids(path: Path, own_names: Any, names: Sequence[str]) -> dict[int, int | None]:
    """Class number in the data set -> class number of the detector, or None if the detector does not know the class."""
    by_name = {name: index for index, name in enumerate(names)}
    own = _numbered_names(path, own_names)
    check_names(path, list(own.values()), names)
    matched = {number: by_name.get(name) for number, name in own.items()}
    if all(index is None for index in matched.values()):
        raise InputError(
            f"{path}: none of its names is a class of the detector ({', '.join(names[:3])}, ...); use the same names"
        )
    return matched


def _numbered_names(path: Path, own_names: Any) -> dict[int, str]:
    """Class number in the data set -> class name."""
    if isinstance(own_names, list):
        own_names = dict(enumerate(own_names))
    if not isinstance(own_names, dict) or not own_names or not all(str(key).isdecimal() for key in own_names):
        raise InputError(f"{path}: its names are neither a list nor a mapping from numbers to names; correct the file")
    if wrong := [name for name in own_names.values() if name is None or isinstance(name, (list, dict, set))]:
        raise InputError(f"{path}: its names have {shown(wrong[0])}, which is not a name; correct the file")
    return {int(key): str(name) for key, name in own_names.items()}


def _data_root(path: Path, content: Mapping[Any, Any]) -> Path:
    folder = path.absolute().parent
    named = content.get("path")
    if not named:
        return folder
    root = _first_existing(Path(str(named)), folder, Path.cwd())
    if root is None:
        raise InputError(f"{path}: its path {named} is not a folder beside it; write the data set's absolute path")
    return root


def _first_existing(relative: Path, *folders: Path) -> Path | None:
    return next((folder / relative for folder in folders if exists(folder / relative)), None)


def _split_files(path: Path, root: Path, entry: str) -> Iterator[Path]:
    """The images of one entry of a split."""
    found = root / entry
    if not exists(found) and entry.startswith("../"):  # some exports look like this; ultralytics accepts them
        found = root / entry.removeprefix("../")
    if is_folder(found):
        for source in expand_sources([str(found)], IMAGE_SUFFIXES, "images"):
            yield source.path
    elif found.suffix.lower() == ".txt" and is_file(found):
        for number, line in enumerate(_read_lines(found, "list one image per line"), 1):
            if line.strip():
                # In ultralytics, "./" is the folder of the list; other paths start from the working folder.
                file = _first_existing(Path(line.strip()), found.parent, root, Path.cwd())
                if file is None or not is_file(file):
                    raise InputError(f"{found}, line {number}: {line.strip()}: no such file; correct the list")
                yield file
    elif found.suffix.lower() in IMAGE_SUFFIXES and is_file(found):
        yield found
    else:
        raise InputError(f"{path}: {found} is neither a folder nor a list of images (.txt); correct the path")


def _read_label_file(image: Path, label_file: Path, class_ids: Mapping[int, int | None]) -> LabelledImage:
    lines = _read_lines(label_file, "make the labels again") if exists(label_file) else []
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            class_id, *corners = _parse_label(line, class_ids)
        except ValueError as error:
            raise InputError(f"{label_file}, line {number}: {error}; correct the label") from None
        if (index := class_ids[int(class_id)]) is not None:
            rows.append((index, *corners))
    table = np.array(rows, np.float64).reshape(-1, 5)
    return labelled_image(image, table[:, 1:], table[:, 0])


def _parse_label(line: str, class_ids: Mapping[int, int | None]) -> tuple[float, float, float, float, float]:
    """Class, left, top, right, bottom from a line of YOLO text.

    Raises:
        ValueError: the line is not a label.
    """
    fields = line.split()
    try:
        class_id, *numbers = map(float, fields)
    except ValueError:
        raise ValueError("not numbers") from None
    if class_id not in class_ids:
        raise ValueError(f"class {fields[0]} is not in the names of the data set")
    if not all(-_TOLERANCE <= number <= 1 + _TOLERANCE for number in numbers):
        raise ValueError("coordinates are not fractions of the image, from 0 to 1")
    if len(numbers) == 4:
        x, y, width, height = numbers
        if width < 0 or height < 0:
            raise ValueError("a box of negative size")
        return class_id, x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"{len(fields)} columns are neither a box (5) nor a polygon (7, 9, ...)")
    return class_id, min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])
