"""Reads COCO annotation and result files, and matches images to image ids."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from featcodec.errors import InputError, reason_of
from featcodec.images.names import ListedNames
from featcodec.system.files import read_bounded

_MAX_BYTES = 4 << 30
_MAX_NUMBER = 1e30
_SHOWN_NAMES = 5


def _is_any(_: Any) -> bool:
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < _MAX_NUMBER


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) or _is_number(value)


def _is_category_id(value: Any) -> bool:
    """Whether the value is a whole number, also written as 1.0. A bool (for Python, 0 or 1) does not count."""
    return _is_number(value) and not isinstance(value, bool) and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_Fields = Mapping[str, Callable[[Any], bool]]
_ENTRIES: Mapping[str, _Fields] = {
    "images": {"id": _is_id, "file_name": _is_any},
    "annotations": {"image_id": _is_id, "category_id": _is_category_id, "bbox": _is_box},
    "categories": {"id": _is_category_id, "name": _is_any},
}
_RESULT: _Fields = {"image_id": _is_id, "category_id": _is_category_id, "bbox": _is_box, "score": _is_number}
_NAMED_RESULT: _Fields = {**_RESULT, "category_name": _is_text}


@dataclass(frozen=True)
class Annotations:
    """A COCO annotation file.

    Attributes:
        path: the file.
        content: the JSON of the file: "images", "annotations" and "categories" are lists of dicts.
    """

    path: Path
    content: dict[str, Any]

    @property
    def image_ids(self) -> set[int | str]:
        """The ids of all images in the file."""
        return {image["id"] for image in self.content["images"]}

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
                known.append(int(category["id"]))
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


def read_annotations(path: Path) -> Annotations:
    """Read a COCO annotation file.

    Raises:
        InputError: the file cannot be read, is not JSON, lacks images, annotations or categories, or has two categories
            with the same id.
    """
    content = read_json(path)
    for key, needed in _ENTRIES.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or any(_lacking(entry, needed) for entry in entries):
            raise InputError(
                f"{path}: not a COCO annotation file; its {key!r} must be a list of entries with valid "
                f"{', '.join(needed)}"
            )
    names: dict[int, str] = {}
    for category in content["categories"]:
        name = str(category["name"])
        if (other := names.setdefault(category["id"], name)) != name:
            raise InputError(
                f"{path}: its categories {other!r} and {name!r} have the same id {int(category['id'])}; change one id"
            )
    return Annotations(path, content)


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a COCO results file: a list of dicts with image_id, category_id, bbox and score.

    The results of featcodec also have a category_name.

    Raises:
        InputError: the file cannot be read, is not JSON, or has another form.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: not a COCO results file (a JSON list); make it with `featcodec decode -o x.json`")
    for number, entry in enumerate(content, 1):
        is_named = isinstance(entry, dict) and "category_name" in entry
        if lacking := _lacking(entry, _NAMED_RESULT if is_named else _RESULT):
            raise InputError(f"{path}: entry {number} lacks a valid {lacking}; make it with `featcodec decode`")
    return content


def _lacking(entry: Any, needed: _Fields) -> str | None:
    """The first field that is missing or not valid in an entry, or None if all fields are valid."""
    if not isinstance(entry, dict):
        return next(iter(needed))
    return next((name for name, is_valid in needed.items() if name not in entry or not is_valid(entry[name])), None)


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


def read_json_bytes(path: Path, limit: int | None = None, what: str = "annotations") -> bytes:
    """The bytes of a JSON file. Whether they are JSON is not checked; see `read_json`.

    Raises:
        InputError: the file cannot be read or is larger than the limit.
    """
    most = _MAX_BYTES if limit is None else limit
    return read_bounded(path, most, InputError, what=what, remedy="give a JSON file")
