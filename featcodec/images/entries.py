"""The entries of COCO files: what can mean only one thing is brought into one form; everything else is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from featcodec.errors import InputError
from featcodec.images.rle import RleError, check_rle

_MAX_NUMBER = 1e30
_SHOWN_CHARACTERS = 60
_MOST_KEYPOINTS = 1000
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_MISSING: Any = object()


class UnfitError(Exception):
    """A value cannot be that of its field. The text says what the field must be."""


Reader: TypeAlias = Callable[[Any], Any]
"""Returns the value of a field in its one form, or raises `UnfitError`."""


def read_image_id(value: Any) -> int | float | str:
    """A number or a text as it is; 3.0 is 3."""
    if isinstance(value, str):
        return value
    if not _is_number(value) and not _is_whole(value):
        raise UnfitError("a number or a text")
    return int(value) if value == int(value) else value


def read_category_id(value: Any) -> int:
    """A whole number; 3.0 and "3" are 3."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    if _is_number(value) and value == int(value):
        return int(value)
    raise UnfitError("a whole number")


def read_name(value: Any) -> str | int | float:
    """A text that is not empty, or a number, which stands for its digits."""
    if (isinstance(value, str) and value) or _is_number(value):
        return value  # type: ignore[no-any-return]
    raise UnfitError("a text")


def read_text_if_any(value: Any) -> Any:
    """A text, or nothing."""
    if value is not _MISSING and not isinstance(value, str):
        raise UnfitError("a text")
    return value


def read_score(value: Any) -> float:
    """A finite number."""
    if not _is_number(value):
        raise UnfitError("a number")
    return value  # type: ignore[no-any-return]


def read_box(value: Any) -> list[float]:
    """Left, top, width, height: finite numbers, width and height not below 0."""
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)) or min(value[2:]) < 0:
        raise UnfitError("four numbers: left, top, width, height, the last two from 0")
    return value


def read_crowd_if_any(value: Any) -> Any:
    """0 or 1, also as a truth value or a text, or nothing."""
    if value is _MISSING or value is None:
        return value
    if isinstance(value, str) and value in ("0", "1"):
        return int(value)
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return int(value)
    raise UnfitError("0 or 1")


def read_area(value: Any) -> float:
    """A finite number from 0, in square pixels."""
    if not _is_number(value) or value < 0:
        raise UnfitError("an area from 0, in square pixels")
    return value  # type: ignore[no-any-return]


def read_size_if_any(value: Any) -> Any:
    """Width and height, or nothing."""
    if value is not _MISSING and not (
        isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and min(value) > 0
    ):
        raise UnfitError("two numbers over 0: width, height")
    return value


def read_mask_if_any(value: Any) -> Any:
    """A mask as RLE whose counts add up to its size (see `featcodec.images.rle.check_rle`), or nothing."""
    if value is not _MISSING:
        try:
            check_rle(value)
        except RleError as error:
            raise UnfitError(str(error)) from None
    return value


def read_keypoints_if_any(value: Any) -> Any:
    """x, y and score of up to 1000 keypoints in turns, or nothing."""
    if value is not _MISSING and not (
        isinstance(value, list) and 3 <= len(value) <= 3 * _MOST_KEYPOINTS and len(value) % 3 == 0
    ):
        raise UnfitError(f"a list of numbers: x, y and score of 1 to {_MOST_KEYPOINTS} keypoints")
    if value is not _MISSING and not all(map(_is_number, value)):
        raise UnfitError("numbers: x, y and score of each keypoint")
    return value


def normal_entries(
    path: Path, entries: Sequence[Any], place: str, fields: Mapping[str, Reader], remedy: str
) -> list[dict[str, Any]]:
    """The entries of a list with the given fields in their one form. Other fields stay as they are.

    Args:
        path: the file, for messages.
        entries: the list.
        place: which list it is, for messages, e.g. "of 'images'".
        fields: the reader of each field.
        remedy: what to do, for messages.

    Raises:
        InputError: an entry is not a JSON object, or lacks a field, or a field has a wrong value. The message has the
            number of the entry, counted from 1.
    """
    normal = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: entry {number} {place} is {shown(entry)}, not an object with fields; {remedy}")
        changed = {}
        for name, read in fields.items():
            value = entry.get(name, _MISSING)
            try:
                read_value = read(value)
            except UnfitError as error:
                has = f"no {name}" if value is _MISSING else f"the {name} {shown(value)}, not {error}"
                raise InputError(f"{path}: entry {number} {place} has {has}; {remedy}") from None
            if read_value is not value:
                changed[name] = read_value
        normal.append({**entry, **changed} if changed else entry)
    return normal


def unique_images(path: Path, images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The images, each once. An image that is listed twice in the same way is one image.

    Raises:
        InputError: two images have the same id. A number and a text with the same digits are the same id.
    """
    first: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, image in enumerate(images, 1):
        other, known = first.setdefault(str(image["id"]), (number, image))
        if known is not image and any(known.get(name) != image.get(name) for name in ("file_name", "width", "height")):
            raise InputError(
                f"{path}: entries {other} and {number} of 'images' have the same id {shown(image['id'])}; give each "
                "image its own id"
            )
    return [image for _, image in first.values()]


def refuse_corners(
    path: Path, annotations: Sequence[dict[str, Any]], sizes: Mapping[Any, tuple[float, float] | None]
) -> None:
    """Refuse boxes that are left, top, right, bottom by mistake.

    They are taken for such if all boxes of the file fit into their images when they are read in that way, and one does
    not fit when it is read as left, top, width, height.

    Args:
        path: the file, for messages.
        annotations: entries with an image_id and a bbox.
        sizes: (width, height) of the images by id, None where it is not known.

    Raises:
        InputError: the boxes look like corners.
    """
    outside = None
    for number, annotation in enumerate(annotations, 1):
        left, top, width, height = annotation["bbox"]
        size = sizes.get(annotation["image_id"])
        # In usual files one of the first boxes ends this.
        if width < left or height < top or (size is not None and (width > size[0] or height > size[1])):
            return
        if (
            outside is None
            and size is not None
            and (reaches_out(left + width, size[0]) or reaches_out(top + height, size[1]))
        ):
            outside = number
    if outside is not None:
        raise InputError(
            f"{path}: entry {outside} of 'annotations' has the bbox {shown(annotations[outside - 1]['bbox'])}, which "
            "reaches out of its image, and all boxes look like left, top, right, bottom; write left, top, width, height"
        )


def refuse_fractions(path: Path, annotations: Sequence[dict[str, Any]]) -> None:
    """Refuse boxes that are fractions of the image by mistake: none reaches beyond the first pixel.

    Args:
        path: the file, for messages.
        annotations: entries with a bbox.

    Raises:
        InputError: the boxes look like fractions.
    """
    are_whole = True
    for annotation in annotations:
        left, top, width, height = annotation["bbox"]
        if left + width > 1 or top + height > 1:  # in usual files the first box ends this
            return
        are_whole = are_whole and all(side == int(side) for side in annotation["bbox"])
    if not are_whole:
        raise InputError(
            f"{path}: all boxes are within the first pixel, as if they were fractions of the image, as in YOLO text; "
            "write pixels"
        )


def read_side(value: Any) -> float | None:
    """A side of an image in pixels, also as a text, or None if it is not a number from 1 on."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = int(value)
    return float(value) if _is_number(value) and value >= 1 else None


def shown(value: Any) -> str:
    """A value as a short text for a message of one line."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def reaches_out(end: float, side: float) -> bool:
    """Whether a box ends outside of the image by more than what careless rounding explains."""
    return end > side * 1.01 + 2


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Whether the value is a finite number. A bool (for Python, 0 or 1) does not count; NaN compares false."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER
