"""Private details on a set of images: the file private.json that `featcodec scenes` writes beside its annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from featcodec.errors import InputError
from featcodec.images.annotations import read_json
from featcodec.images.names import ListedNames, name_of
from featcodec.images.reading import MAX_SIDE

PLATE = "plate"

_MAX_BYTES = 256 << 20
_MAX_TEXT = 256
_MAX_DETAILS = 1000
"""The largest number of details on one image. Each plate among them becomes a crop in memory."""
_REMEDY = "give the private.json of `featcodec scenes`"


@dataclass(frozen=True)
class PrivateDetail:
    """Something on an image that nobody should be able to recognise.

    Attributes:
        kind: "plate", "face" or "poster"; there may be other kinds later.
        box: left, top, width, height in pixels of the image; width and height are over 0.
        text: the text that is written there, or None.
        readable: whether a person could recognise it on the image.
    """

    kind: str
    box: tuple[float, float, float, float]
    text: str | None
    readable: bool


@dataclass(frozen=True)
class ReadablePlate:
    """A number plate that a person can read on the original.

    Attributes:
        box: left, top, width, height in pixels of the original.
        text: the text on the plate; not empty.
    """

    box: tuple[float, float, float, float]
    text: str


@dataclass(frozen=True)
class PrivateDetails:
    """The private details of a set.

    Attributes:
        path: the file.
        by_name: the details of each listed image, by its path without ending, in the order of the file.

    Images are matched by name: the path of an image within a run, whose ending does not count. See `ListedNames.find`.
    """

    path: Path
    by_name: Mapping[PurePath, tuple[PrivateDetail, ...]]

    def lists(self, image: PurePath) -> bool:
        """Whether an image is listed.

        Raises:
            InputError: several listed images have that name.
        """
        return self._listed_name(image) is not None

    def plates(self, image: PurePath) -> list[ReadablePlate]:
        """Return the readable plates on an image. The list is empty if the image is not listed.

        Raises:
            InputError: several listed images have that name.
        """
        name = self._listed_name(image)
        return [] if name is None else readable_plates(self.by_name[name])

    def check(self, images: Iterable[PurePath]) -> None:
        """Check that no two images of a run would be one listed image.

        Raises:
            InputError: they would be, or several listed images have the name of an image.
        """
        first: dict[PurePath, PurePath] = {}
        for image in images:
            name = self._listed_name(image)
            if name is not None and (other := first.setdefault(name, image)) != image:
                raise InputError(
                    f"{self.path}: {other} and {image} would both be its image {name}; give only one of them, or the "
                    "private.json that lists both"
                )

    def _listed_name(self, image: PurePath) -> PurePath | None:
        names = self._names.find(image.with_suffix(""))
        if len(names) > 1:
            raise InputError(
                f"{image}: {self.path} lists {len(names)} images of that name; start from the folder that the listed "
                "file names start from, or rename the images"
            )
        return names[0] if names else None

    @cached_property
    def _names(self) -> ListedNames[PurePath]:
        # The ending is off already; with one of an image, no other ending is taken for it.
        return ListedNames((f"{name.as_posix()}.png", name) for name in self.by_name)


def readable_plates(details: Iterable[PrivateDetail]) -> list[ReadablePlate]:
    """The number plates among these details that a person can read."""
    return [ReadablePlate(one.box, one.text) for one in details if one.kind == PLATE and one.readable and one.text]


def read_private_details(path: Path) -> PrivateDetails:
    """Read a file of private details.

    Raises:
        InputError: the file is unreadable, over 256 MiB or not JSON; a field is missing or has a wrong value; two
            images have one name; or an image has over 1000 details.
    """
    content = read_json(path, _MAX_BYTES, "set's private details")
    names: dict[int | str, PurePath] = {}
    found: dict[PurePath, list[PrivateDetail]] = {}
    for entry in _entries(path, content, "images"):
        number, file_name = entry.get("id"), entry.get("file_name")
        if not _is_id(number) or number in names:
            raise InputError(f"{path}: an image's id is {_shown(number)}, missing, wrong or used twice; {_REMEDY}")
        name = name_of(file_name) if isinstance(file_name, str) else None
        if name is None or not name.name or name in found:
            raise InputError(
                f"{path}: an image's file_name is {_shown(file_name)}, missing, wrong or used twice; {_REMEDY}"
            )
        names[number] = name
        found[name] = []
    for entry in _entries(path, content, "details"):
        name = names.get(number) if _is_id(number := entry.get("image_id")) else None
        if name is None:
            raise InputError(f"{path}: a detail's image_id is {_shown(number)}, not that of an image; {_REMEDY}")
        if len(found[name]) == _MAX_DETAILS:
            raise InputError(
                f"{path}: over {_MAX_DETAILS} details on {_shown(str(name))}, more than any scene has; {_REMEDY}"
            )
        found[name].append(_detail(path, entry))
    return PrivateDetails(path, {name: tuple(details) for name, details in found.items()})


def _entries(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: has no list {key!r} of private details; {_REMEDY}")
    return entries


def _detail(path: Path, entry: dict[str, Any]) -> PrivateDetail:
    kind, box, text, readable = (entry.get(name) for name in ("kind", "bbox", "text", "readable"))
    if not isinstance(kind, str) or len(kind) > _MAX_TEXT:
        raise InputError(f"{path}: a detail's kind is {_shown(kind)}, not a word; {_REMEDY}")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_pixels, box)) or min(box[2:]) <= 0:
        raise InputError(f"{path}: a detail's bbox is {_shown(box)}, not left, top, width, height; {_REMEDY}")
    if not (text is None or isinstance(text, str)) or len(text or "") > _MAX_TEXT:
        raise InputError(f"{path}: a detail's text is {_shown(text)}, not a short text or null; {_REMEDY}")
    if not isinstance(readable, bool):
        raise InputError(f"{path}: a detail's readable is {_shown(readable)}, not true or false; {_REMEDY}")
    left, top, width, height = map(float, box)
    return PrivateDetail(kind, (left, top, width, height), text, readable)


def _is_id(value: Any) -> TypeGuard[int | str]:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_pixels(value: Any) -> bool:
    # NaN compares false.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_SIDE


def _shown(value: Any) -> str:
    """Return a value as text for a message of one line."""
    text = ascii(value) if not isinstance(value, int) else "a number"
    return text if len(text) <= 60 else text[:57] + "..."
