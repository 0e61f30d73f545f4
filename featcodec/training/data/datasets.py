"""Training sets: images with or without boxes, read from COCO JSON, an ultralytics data YAML or plain folders."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before anything of ultralytics)

# isort: split
import numpy as np
import numpy.typing as npt
import yaml  # type: ignore[import-untyped, unused-ignore]
from ultralytics.data.utils import img2label_paths

from featcodec.errors import InputError
from featcodec.images.annotations import names_in_words, read_annotations, similar_names
from featcodec.images.reading import IMAGE_SUFFIXES, read_image
from featcodec.system.files import read_bounded
from featcodec.system.paths import expand_sources

_MAX_TEXT = 64 << 20
_TOLERANCE = 0.01  # how far rounded coordinates in YOLO text may be outside the image, as in ultralytics


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image file and its labels.

    Attributes:
        path: the file.
        boxes: (N, 4) float32, centre x, centre y, width, height as fractions of the image. The boxes are inside the
            image and not empty.
        classes: (N,) int64, the detector's class numbers.
        labelled: False for an image without labels. If True and N = 0, the image is known to show none of the classes.
    """

    path: Path
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    labelled: bool


def read_coco(annotations: Path, images: Path, names: Sequence[str]) -> list[LabelledImage]:
    """Read the images of a COCO annotation file, in the order of their paths.

    Crowds (iscrowd) and categories that the detector does not know are left out. Boxes are clipped to their image.

    Args:
        annotations: the JSON file.
        images: the folder that the file names are relative to. An image that is not there is searched in the
            subfolders by its bare file name.
        names: the detector's class names; categories are matched by name.

    Raises:
        InputError: the file is not a COCO annotation file, lists no image, lists an image with an impossible size,
            has no class of the detector or spells a class differently, or an image file is missing.
    """
    content = read_annotations(annotations)
    _check_names(annotations, content.names, names)
    class_ids = {category: index for index, category in content.category_ids(names).items()}
    boxes: dict[int | str, list[tuple[float, ...]]] = defaultdict(list)
    for annotation in content.content["annotations"]:
        if annotation["category_id"] in class_ids and not annotation.get("iscrowd"):
            box = (class_ids[annotation["category_id"]], *annotation["bbox"])
            boxes[annotation["image_id"]].append(box)
    find = _Finder(annotations, images)
    found = []
    for image in content.content["images"]:
        path = find(str(image["file_name"]))
        width, height = _listed_size(annotations, image, path)
        rows = np.array(boxes.get(image["id"], []), np.float64).reshape(-1, 5)
        left_top = rows[:, 1:3]
        corners = np.concatenate([left_top, left_top + rows[:, 3:5]], axis=1) / [width, height, width, height]
        found.append(_labelled_image(path, corners, rows[:, 0]))
    if not found:
        raise InputError(f"{annotations}: lists no image; give the annotations of this set")
    return sorted(found, key=lambda image: image.path)


def read_data_yaml(path: Path, names: Sequence[str], split: str = "train") -> list[LabelledImage]:
    """Read the images of one split of an ultralytics data set, in the order of their paths. Nothing is downloaded.

    The labels are in text files, in the folder `labels` beside `images`. Each line is a box (class, centre x, centre y,
    width, height as fractions) or a polygon; a polygon becomes its enclosing box. As in ultralytics, an image without a
    label file shows no object.

    Args:
        path: the YAML file, with `names`, the splits, and optionally `path`, the folder that the splits are relative
            to. A relative `path` is searched beside the YAML file and in the working folder.
        names: the detector's class names. The classes of the data set are matched by name; other classes are left out.
        split: "train", "val" or "test"; its entry is a folder, a text file that lists images, or a list of both.

    Raises:
        InputError: the data set is unreadable or damaged (for labels, the message has the number of the line), or it
            has no such split, no image, no label, or no class of the detector.
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
    if not any(label_file.is_file() for label_file in label_files):
        raise InputError(
            f"{path}: none of the {len(files)} images of {split!r} has labels ({label_files[0]} is missing); put them "
            "into the folder labels beside images"
        )
    return [_read_label_file(file, label_file, class_ids) for file, label_file in zip(files, label_files, strict=True)]


def read_class_names(path: Path) -> list[str]:
    """Read the class names of an ultralytics data set, in the order of their numbers.

    Raises:
        InputError: the YAML file cannot be read, or names no classes.
    """
    names = _numbered_names(path, _read_yaml(path).get("names"))
    return [names[number] for number in sorted(names)]


def read_unlabelled(sources: Sequence[str]) -> list[LabelledImage]:
    """Find images without labels, in the order of their paths.

    Args:
        sources: files, folders (searched recursively) and glob patterns.

    Raises:
        InputError: one of the sources matches no image.
    """
    # Each source is expanded alone, so that images of the same name in two folders do not clash.
    found = {
        source.path.resolve(): source.path
        for argument in sources
        for source in expand_sources([argument], IMAGE_SUFFIXES, "images")
    }
    if not found:
        raise InputError("no images given; name files, folders or patterns")
    nothing = np.zeros((0, 4))
    return [_labelled_image(path, nothing, nothing[:, 0], labelled=False) for path in sorted(found.values())]


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


def _labelled_image(
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


class _Finder:
    """Finds the image files that an annotation file lists."""

    def __init__(self, annotations: Path, folder: Path) -> None:
        self.annotations = annotations
        self.folder = folder
        self._by_name: dict[str, list[Path]] | None = None

    def __call__(self, file_name: str) -> Path:
        relative = PurePath(file_name)
        if not relative.is_absolute() and ".." not in relative.parts and (self.folder / relative).is_file():
            return self.folder / relative
        matches = self._named(relative.name)
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
            for path in sorted(self.folder.rglob("*")):
                if path.is_file():
                    self._by_name[path.name].append(path)
        return self._by_name.get(name, [])


def _listed_size(annotations: Path, image: Mapping[str, Any], path: Path) -> tuple[float, float]:
    """(width, height) in pixels that the boxes of an image refer to."""
    if "width" not in image and "height" not in image:
        height, width, _ = read_image(path).shape
        return width, height
    size = image.get("width"), image.get("height")
    if not all(isinstance(side, (int, float)) and 0 < side < math.inf for side in size):
        raise InputError(f"{annotations}: {image['file_name']} has the size {size}; make the annotations again")
    return float(size[0]), float(size[1])  # type: ignore[arg-type]


def _read_yaml(path: Path) -> dict[Any, Any]:
    content = _read_lines(path, "give a data YAML")
    try:
        data = yaml.safe_load("\n".join(content))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())  # its last line says the line of the file
        raise InputError(f"{path}: not YAML ({reason}); correct the file") from None
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
    _check_names(path, list(own.values()), names)
    matched = {number: by_name.get(name) for number, name in own.items()}
    if all(index is None for index in matched.values()):
        raise InputError(
            f"{path}: none of its names is a class of the detector ({', '.join(names[:3])}, ...); use the same names"
        )
    return matched


def _check_names(path: Path, own: Sequence[str], names: Sequence[str]) -> None:
    """Refuse names with which labels would be lost, or would go to one of several classes, without a message."""
    double = next((name for name in own if list(names).count(name) > 1), None)
    if double is not None:
        raise InputError(f"{path}: the detector has several classes {double!r}; give each class its own name")
    # If no name matches, the caller says so.
    if (known := set(own) & set(names)) and (alike := list(similar_names(sorted(set(names) - known), own))):
        raise InputError(f"{path}: has no class {names_in_words(alike, own)}; spell the names as the detector does")


def _numbered_names(path: Path, own_names: Any) -> dict[int, str]:
    """Class number in the data set -> class name."""
    if isinstance(own_names, list):
        own_names = dict(enumerate(own_names))
    if not isinstance(own_names, dict) or not own_names or not all(str(key).isdecimal() for key in own_names):
        raise InputError(f"{path}: its names are neither a list nor a mapping from numbers to names; correct the file")
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
    return next((folder / relative for folder in folders if (folder / relative).exists()), None)


def _split_files(path: Path, root: Path, entry: str) -> Iterator[Path]:
    """The images of one entry of a split."""
    found = root / entry
    if not found.exists() and entry.startswith("../"):  # some exports look like this; ultralytics accepts them
        found = root / entry.removeprefix("../")
    if found.is_dir():
        for source in expand_sources([str(found)], IMAGE_SUFFIXES, "images"):
            yield source.path
    elif found.suffix.lower() == ".txt" and found.is_file():
        for number, line in enumerate(_read_lines(found, "list one image per line"), 1):
            if line.strip():
                # In ultralytics, "./" is the folder of the list; other paths start from the working folder.
                file = _first_existing(Path(line.strip()), found.parent, root, Path.cwd())
                if file is None or not file.is_file():
                    raise InputError(f"{found}, line {number}: {line.strip()}: no such file; correct the list")
                yield file
    elif found.suffix.lower() in IMAGE_SUFFIXES and found.is_file():
        yield found
    else:
        raise InputError(f"{path}: {found} is neither a folder nor a list of images (.txt); correct the path")


def _read_label_file(image: Path, label_file: Path, class_ids: Mapping[int, int | None]) -> LabelledImage:
    lines = _read_lines(label_file, "make the labels again") if label_file.exists() else []
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
    return _labelled_image(image, table[:, 1:], table[:, 0])


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
