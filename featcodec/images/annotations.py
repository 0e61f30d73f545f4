"""Reads COCO annotation files, and matches images to image ids."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from featcodec.errors import InputError, reason_of
from featcodec.images.entries import (
    Reader,
    normal_entries,
    read_box,
    read_category_id,
    read_crowd_if_any,
    read_image_id,
    read_name,
    read_side,
    refuse_corners,
    refuse_fractions,
    shown,
    unique_images,
)
from featcodec.images.names import ListedNames
from featcodec.system.files import read_bounded

MAX_BYTES = 4 << 30
"""The largest file of annotations or results."""
_SHOWN_NAMES = 5


_ENTRIES: Mapping[str, Mapping[str, Reader]] = {
    "images": {"id": read_image_id, "file_name": read_name},
    "annotations": {
        "image_id": read_image_id,
        "category_id": read_category_id,
        "bbox": read_box,
        "iscrowd": read_crowd_if_any,
    },
    "categories": {"id": read_category_id, "name": read_name},
}


@dataclass(frozen=True)
class Annotations:
    """A COCO annotation file.

    Attributes:
        path: the file.
        content: the JSON of the file: "images", "annotations" and "categories" are lists of dicts. An
            annotation has exactly the id of its image and of its category, also if the file writes them in other forms.
    """

    path: Path
    content: dict[str, Any]

    @property
    def image_ids(self) -> set[int | str]:
        """The ids of all images in the file."""
        return {image["id"] for image in self.content["images"]}

    def listed_id(self, image_id: int | float | str) -> int | str | None:
        """The id of the listed image that an id means, or None. 3, 3.0 and "3" mean the same image."""
        return self._ids_by_text.get(str(read_image_id(image_id)))

    @cached_property
    def _ids_by_text(self) -> dict[str, int | str]:
        return {str(image["id"]): image["id"] for image in self.content["images"]}

    @property
    def has_objects(self) -> bool:
        """Whether there is a box of a single object. A box of a crowd (iscrowd) is neither found nor missed."""
        return not all(annotation.get("iscrowd") for annotation in self.content["annotations"])

    @property
    def names(self) -> list[str]:
        """The names of all categories in the file, in the order of their ids."""
        ordered = sorted(self.content["categories"], key=lambda category: category["id"])
        return [str(category["name"]) for category in ordered]

    def image_id(self, name: PurePath, file: PurePath | None = None) -> int | str:
        """The id of an image of a run.

        Args:
            name: the path of the image within the run, without ending (`Source.name`). The listed image with the same
                path is meant, else the one whose path has the most last parts in common with it.
            file: the file of the image, for messages; None means the name.

        Raises:
            InputError: the file lists no image of that name, or more than one fits.
        """
        ids = self._images.find(name)
        if not ids:
            raise InputError(
                f"{file or name}: {self.path} lists no image of that name; give the annotations of this set"
            )
        if len(ids) > 1:
            raise InputError(
                f"{file or name}: {self.path} lists {len(ids)} images of that name; start from the folder that the "
                "listed file names start from, or rename the images"
            )
        return ids[0]

    def image_ids_of(self, names: Iterable[PurePath]) -> dict[PurePath, int | str]:
        """The id of each image of a run; see `image_id`. No two images have the same id.

        Raises:
            InputError: the file lists no image of one of the names, or several; or two names mean one listed image.
        """
        first: dict[int | str, PurePath] = {}
        for name in names:
            image_id = self.image_id(name)
            if (other := first.setdefault(image_id, name)) != name:
                raise InputError(
                    f"{self.path}: {other} and {name} would both be its image {image_id!r}; give only one of them, or "
                    "annotations that list both"
                )
        return {name: image_id for image_id, name in first.items()}

    def lists(self, name: PurePath) -> bool:
        """Whether the file lists an image of that name, or several."""
        return bool(self._images.find(name))

    @cached_property
    def _images(self) -> ListedNames[int | str]:
        return ListedNames((str(image["file_name"]), image["id"]) for image in self.content["images"])

    def category_ids(self, names: Sequence[str]) -> dict[int, int]:
        """Class id -> category id, by name. Classes without a category are left out (see `without_category`).

        Raises:
            InputError: no category has the name of a class, or two categories have the name of one class.
        """
        ids = {index: self.category_id(name) for index, name in enumerate(names)}
        matched = {index: category for index, category in ids.items() if category is not None}
        if not matched:
            raise InputError(
                f"{self.path}: none of its categories is a class of the detector ({self.in_words(names)}); "
                "use annotations with the same class names"
            )
        return matched

    def category_id(self, name: str) -> int | None:
        """The id of the category with exactly that name, or None if the file has no such category.

        Raises:
            InputError: two categories have that name, so the name does not say which category is meant.
        """
        ids = self._ids_by_name.get(name, [])
        if len(ids) > 1:
            raise InputError(
                f"{self.path}: its categories {ids[0]} and {ids[1]} have the same name {name!r}; rename one category, "
                "or give both the same id"
            )
        return ids[0] if ids else None

    def without_category(self, names: Iterable[str]) -> list[str]:
        """The names that no category has, each name once."""
        return [name for name in dict.fromkeys(names) if name not in self._ids_by_name]

    def in_words(self, names: Sequence[str]) -> str:
        """A text with some names that are not in the file, for a message; see `names_in_words`."""
        return names_in_words(names, self.names)

    @cached_property
    def _ids_by_name(self) -> dict[str, list[int]]:
        ids: dict[str, list[int]] = {}
        for category in sorted(self.content["categories"], key=lambda category: category["id"]):
            known = ids.setdefault(str(category["name"]), [])
            if category["id"] not in known:
                known.append(category["id"])
        return ids


def names_in_words(names: Sequence[str], known: Iterable[str]) -> str:
    """A text with a few of these unknown names, for a message. Names that are similar to a known name come first."""
    alike = similar_names(names, known)
    ordered = sorted(names, key=lambda name: name not in alike)
    shown = [repr(name) + (f" (it has {alike[name]!r})" if name in alike else "") for name in ordered[:_SHOWN_NAMES]]
    more = f" and {len(ordered) - _SHOWN_NAMES} more" if len(ordered) > _SHOWN_NAMES else ""
    return ", ".join(shown) + more


def similar_names(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Unknown name -> the known name that differs from it only in case, spaces, hyphens or underscores."""
    exact = set(known)
    by_letters = {_letters(name): name for name in sorted(exact) if _letters(name)}
    return {name: by_letters[_letters(name)] for name in names if name not in exact and _letters(name) in by_letters}


def _letters(name: str) -> str:
    return "".join(re.split(r"[\s_-]+", name.casefold()))


Note: TypeAlias = Callable[[str], None]
"""Takes one line that says what was left out."""


def no_note(_: str) -> None:
    """A `Note` that goes nowhere."""


def read_annotations(path: Path, note: Note = no_note) -> Annotations:
    """Read a COCO annotation file.

    Annotations of images and categories that the file does not list are left out, because files are often cut down to
    some images.

    Args:
        path: the file.
        note: is told how many annotations are left out.

    Raises:
        InputError: the file cannot be read, is not JSON, lacks images, annotations or categories; an entry lacks a
            field or has a wrong value in it; two images or two categories have the same id; an annotation has a text
            as the id of its image, but images have numbers, or the other way round; all annotations would be left out;
            or the boxes look like left, top, right, bottom, or like fractions of the image.
    """
    content = read_json(path)
    for key, fields in _ENTRIES.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise InputError(f"{path}: not a COCO annotation file; its {key!r} must be a list of entries")
        content[key] = normal_entries(path, entries, f"of {key!r}", fields, "correct the entry")
    content["images"] = unique_images(path, content["images"])
    names: dict[int, str] = {}
    for category in content["categories"]:
        name = str(category["name"])
        if (other := names.setdefault(category["id"], name)) != name:
            raise InputError(
                f"{path}: its categories {other!r} and {name!r} have the same id {category['id']}; change one id"
            )
    annotations = Annotations(path, content)
    content["annotations"] = _listed_annotations(annotations, names, note)
    refuse_fractions(path, content["annotations"])
    refuse_corners(path, content["annotations"], {image["id"]: listed_size(image) for image in content["images"]})
    return annotations


def _listed_annotations(annotations: Annotations, categories: Collection[int], note: Note) -> list[dict[str, Any]]:
    """The annotations of listed images and categories, each with exactly the id of its image."""
    path, entries = annotations.path, annotations.content["annotations"]
    kinds = {isinstance(image_id, str) for image_id in annotations.image_ids}
    if entries and not kinds:
        raise InputError(f"{path}: lists no image; give the annotations of this set")
    kept = []
    unlisted: dict[str, list[int]] = {"images": [], "categories": []}
    for number, entry in enumerate(entries, 1):
        image_id = annotations.listed_id(entry["image_id"])
        if image_id is None:
            if isinstance(entry["image_id"], str) not in kinds:
                raise InputError(
                    f"{path}: entry {number} of 'annotations' has the image_id {shown(entry['image_id'])}, but the "
                    f"ids in 'images' are {'numbers' if False in kinds else 'texts'}; correct the entry"
                )
            unlisted["images"].append(number)
        elif categories and entry["category_id"] not in categories:
            unlisted["categories"].append(number)
        else:
            same = type(image_id) is type(entry["image_id"])
            kept.append(entry if same else {**entry, "image_id": image_id})
    for key, numbers in unlisted.items():
        if numbers:
            field = {"images": "image_id", "categories": "category_id"}[key]
            which = (
                f"{path}: {len(numbers)} of {len(entries)} annotations have {field}s that {key!r} "
                f"does not list (the first is entry {numbers[0]}, {shown(entries[numbers[0] - 1][field])})"
            )
            if not kept:
                raise InputError(f"{which}; no box is left, so correct the ids")
            note(f"note: {which}; they are left out")
    return kept


def listed_size(image: Mapping[str, Any]) -> tuple[float, float] | None:
    """(width, height) in pixels of an image that an annotation file lists, or None if it does not say it."""
    width, height = read_side(image.get("width")), read_side(image.get("height"))
    return None if width is None or height is None else (width, height)


def read_json(path: Path, limit: int | None = None, what: str = "annotations") -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        limit: the largest size in bytes; None means 4 GiB.
        what: the kind of the file, for messages.

    Raises:
        InputError: the file cannot be read, is larger than the limit, or is not JSON.
    """
    data = read_json_bytes(path, limit, what)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({reason_of(error)}); make the file again") from None


def read_json_lines(path: Path, what: str) -> list[Any]:
    """The entries of a file with one JSON value per line. Empty lines do not count.

    Args:
        path: the file.
        what: the kind of the file, for messages.

    Raises:
        InputError: the file cannot be read, is over 4 GiB, or a line is not JSON.
    """
    entries = []
    for number, line in enumerate(io.BytesIO(read_json_bytes(path, None, what)), 1):
        try:
            if line.strip():
                entries.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: line {number} is not JSON ({reason_of(error)}); make the file again") from None
    return entries


def read_json_bytes(path: Path, limit: int | None = None, what: str = "annotations") -> bytes:
    """The bytes of a JSON file. Whether they are JSON is not checked; see `read_json`.

    Raises:
        InputError: the file cannot be read or is larger than the limit.
    """
    most = MAX_BYTES if limit is None else limit
    return read_bounded(path, most, InputError, what=what, remedy="give a JSON file")
