"""COCO annotation and result files: reading them, and matching images to image ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from featcodec.errors import InputError
from featcodec.system.files import read_bounded

_MAX_BYTES = 4 << 30
_MAX_NUMBER = 1e30


def _is_any(_: Any) -> bool:
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < _MAX_NUMBER


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) or _is_number(value)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_Fields = Mapping[str, Callable[[Any], bool]]
_ENTRIES: Mapping[str, _Fields] = {
    "images": {"id": _is_id, "file_name": _is_any},
    "annotations": {"image_id": _is_id, "category_id": _is_number, "bbox": _is_box},
    "categories": {"id": _is_number, "name": _is_any},
}
_RESULT: _Fields = {"image_id": _is_id, "category_id": _is_number, "bbox": _is_box, "score": _is_number}


@dataclass(frozen=True)
class Annotations:
    """A COCO annotation file.

    Attributes:
        path: the file.
        content: its JSON: "images", "annotations" and "categories" are lists of dicts.
    """

    path: Path
    content: dict[str, Any]

    @property
    def image_ids(self) -> set[int | str]:
        """Ids of all its images."""
        return {image["id"] for image in self.content["images"]}

    @property
    def names(self) -> list[str]:
        """The names of all its categories, in the order of their ids."""
        ordered = sorted(self.content["categories"], key=lambda category: category["id"])
        return [str(category["name"]) for category in ordered]

    def image_id(self, relative: PurePath) -> int | str:
        """The id of the image whose file name, without folder and ending, is that of `relative`.

        Raises:
            InputError: there is none, or more than one.
        """
        ids = self._ids_by_stem.get(relative.stem, [])
        if not ids:
            raise InputError(f"{relative}: {self.path} lists no image of that name; give the annotations of this set")
        if len(ids) > 1:
            raise InputError(f"{relative}: {self.path} lists {len(ids)} images of that name; rename them apart")
        return ids[0]

    @cached_property
    def _ids_by_stem(self) -> dict[str, list[int | str]]:
        ids: dict[str, list[int | str]] = {}
        for image in self.content["images"]:
            ids.setdefault(PurePath(str(image["file_name"])).stem, []).append(image["id"])
        return ids

    def category_ids(self, names: Sequence[str]) -> dict[int, int]:
        """Class id -> category id, by name.

        Raises:
            InputError: the file names none of the detector's classes.
        """
        by_name = {str(category["name"]): int(category["id"]) for category in self.content["categories"]}
        matched = {index: by_name[name] for index, name in enumerate(names) if name in by_name}
        if not matched:
            raise InputError(
                f"{self.path}: none of its categories is a class of the detector ({', '.join(names[:3])}, ...); "
                "use annotations with the same class names"
            )
        return matched


def read_annotations(path: Path) -> Annotations:
    """Read a COCO annotation file.

    Raises:
        InputError: unreadable, not JSON, or without images, annotations and categories.
    """
    content = read_json(path)
    for key, needed in _ENTRIES.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or any(_lacking(entry, needed) for entry in entries):
            raise InputError(f"{path}: not a COCO annotation file: its {key!r} lack valid {', '.join(needed)}")
    return Annotations(path, content)


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a COCO results file: a list of dicts with image_id, category_id, bbox and score.

    Raises:
        InputError: unreadable, not JSON, or of another form.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: not a COCO results file (a JSON list); make it with `featcodec decode -o x.json`")
    for entry in content:
        if lacking := _lacking(entry, _RESULT):
            raise InputError(f"{path}: a result lacks a valid {lacking}; make it with `featcodec decode`")
    return content


def _lacking(entry: Any, needed: _Fields) -> str | None:
    """The first field that an entry lacks or that is not what it should be."""
    if not isinstance(entry, dict):
        return next(iter(needed))
    return next((name for name, is_valid in needed.items() if name not in entry or not is_valid(entry[name])), None)


def read_json(path: Path, limit: int | None = None, what: str = "annotations") -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        limit: most bytes; None means 4 GiB.
        what: no such file is larger, for messages.

    Raises:
        InputError: unreadable, larger than the limit, or not JSON.
    """
    data = read_json_bytes(path, limit, what)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); make it again") from None


def read_json_bytes(path: Path, limit: int | None = None, what: str = "annotations") -> bytes:
    """The bytes of a JSON file, which need not be JSON; see `read_json`.

    Raises:
        InputError: unreadable or larger than the limit.
    """
    most = _MAX_BYTES if limit is None else limit
    return read_bounded(path, most, InputError, what=what, remedy="give a JSON file")
