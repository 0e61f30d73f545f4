"""COCO's run-length code of masks (RLE), and outlines of objects (polygons): written, read and checked.

The code counts the pixels of runs that alternately are not and are of the object, column by column, from the left. The
compressed form writes the counts as text, five bits per character (`rleToString` in maskApi.c of pycocotools, which
trusts what it gets: wrong counts or coordinates make it write beyond its memory or allocate without bound). So all that
comes from a file is checked here before pycocotools sees it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

MAX_PIXELS = 1 << 30
"""The largest mask. pycocotools counts pixels in 32 bits."""
_MOST_CHARACTERS = 7
"""Per count: more hold no number of 32 bits."""
_LONGEST_OUTLINE = 1 << 22
"""In pixels. pycocotools takes 40 bytes for each pixel that the outline passes."""
_LEAST_NUMBERS = 6
"""Of a polygon: three points. pycocotools takes a list of four numbers for a box."""


class RleError(ValueError):
    """What a file gives is not a mask. The text says what it must be."""


def encode(
    pixels: npt.NDArray[np.bool_], left: int = 0, top: int = 0, width: int | None = None, height: int | None = None
) -> str:
    """The compressed counts of a mask.

    Args:
        pixels: (h, w) bool, the part of the mask outside of which nothing is of the object.
        left, top: where the part lies in the mask.
        width, height: size of the mask in pixels; None is that of the part.

    Returns:
        the counts as text. They are those of `pycocotools.mask.encode` for the whole mask, which is never made.
    """
    h, w = pixels.shape
    height, width = h if height is None else height, w if width is None else width
    if not pixels.any():
        counts = [width * height]
    else:
        padded = np.zeros((w, h + 1), np.int8)  # a gap after each column, so that no run goes on into the next
        padded[:, :h] = pixels.T
        steps = np.diff(padded.ravel(), prepend=np.int8(0))
        starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        column, row = np.divmod(starts, h + 1)
        begin = (left + column) * height + top + row
        end = begin + ends - starts
        # A run that ends at the lower edge of the mask may go on at the upper edge of the next column.
        apart = begin[1:] != end[:-1]
        begin, end = begin[np.r_[True, apart]], end[np.r_[apart, True]]
        borders = np.stack((begin, end), 1).ravel()
        counts = np.diff(borders, prepend=0).tolist()
        if end[-1] < width * height:
            counts.append(width * height - int(end[-1]))
    text: bytes = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
    return text.decode("ascii")


def decode(counts: str, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The mask, (height, width) bool, of compressed counts.

    Raises:
        RleError: the counts are not those of a mask of this size.
    """
    runs = runs_of(counts, width, height)
    is_object = np.arange(len(runs)) % 2 == 1
    pixels: npt.NDArray[np.bool_] = np.repeat(is_object, runs).reshape(width, height).T
    return pixels


def runs_of(counts: str, width: int, height: int) -> npt.NDArray[np.int64]:
    """The counts of a mask, from their text.

    Args:
        counts: the compressed counts.
        width, height: size of the mask in pixels.

    Returns:
        (runs,) int64: the numbers of pixels that are not, are, are not, ... of the object. They add up to all pixels.

    Raises:
        RleError: the text is not such a code, or is that of a mask of another size.
    """
    wrong = RleError("the counts of a mask, as COCO compresses them")
    try:
        code = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise wrong from None
    if not len(code) or code.min() < 0 or code.max() > 63 or code[-1] & 0x20:
        raise wrong
    ends = np.flatnonzero(code & 0x20 == 0)
    starts = np.r_[0, ends[:-1] + 1]
    lengths = ends - starts + 1
    if lengths.max() > _MOST_CHARACTERS:
        raise wrong
    place = np.arange(len(code)) - np.repeat(starts, lengths)
    values = np.add.reduceat((code & 0x1F) << (5 * place), starts)
    values -= (code[ends] & 0x10 != 0) * (np.int64(1) << (5 * lengths))  # the last character has the sign
    # From the fourth on, a count is written as the difference to the one two before.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    _check_runs(values, width, height)
    return values


def check_rle(value: Any) -> None:
    """Check an RLE from a file: {"size": [height, width], "counts": text or list of numbers}.

    Raises:
        RleError: it is not one, is over 2^30 pixels, or the counts do not add up to its size.
    """
    if not isinstance(value, dict) or "size" not in value or "counts" not in value:
        raise RleError("a mask as RLE: an object with size and counts")
    size, counts = value["size"], value["counts"]
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise RleError("a mask of the size [height, width]")
    height, width = size
    if height * width > MAX_PIXELS:
        raise RleError(f"a mask of at most {MAX_PIXELS} pixels")
    if isinstance(counts, str):
        runs_of(counts, width, height)
    elif isinstance(counts, list) and counts and all(type(count) is int for count in counts):
        _check_runs(np.clip(np.array(counts, object), -1, MAX_PIXELS + 1).astype(np.int64), width, height)
    else:
        raise RleError("a mask with counts that are a text or whole numbers")


def check_polygons(value: Any, width: int, height: int) -> None:
    """Check the polygons of an object: lists of x and y in turns, in pixels.

    Args:
        value: the list of polygons.
        width, height: size of the image in pixels.

    Raises:
        RleError: a polygon has fewer than three points or something that is not a number, lies farther out of the image
            than the image is large, or has a longer outline than any object.
    """
    if not isinstance(value, list) or not value:
        raise RleError("a list of polygons")
    side = max(width, height)
    total = 0.0
    for polygon in value:
        if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < _LEAST_NUMBERS:
            raise RleError("polygons of three points or more: x, y, x, y, ...")
        if not all(type(number) in (int, float) and -side <= number <= 2 * side for number in polygon):
            raise RleError(f"polygons within the image of {width}x{height} pixels")
        points = np.array(polygon, np.float64).reshape(-1, 2)
        total += float(np.abs(points - np.roll(points, 1, 0)).max(1).sum())
    if total > _LONGEST_OUTLINE:
        raise RleError(f"polygons with an outline of at most {_LONGEST_OUTLINE} pixels")


def rle_of(value: Any, width: int, height: int) -> dict[str, Any]:
    """The segmentation of an annotation as compressed RLE, {"size": [height, width], "counts": bytes or text}.

    Args:
        value: polygons, or an RLE with counts as text or as numbers (COCO's annotations of crowds).
        width, height: size of the image in pixels.

    Raises:
        RleError: it is none of these (see `check_rle` and `check_polygons`), or has another size than the image.
    """
    if width * height > MAX_PIXELS:
        raise RleError(f"a mask of at most {MAX_PIXELS} pixels")
    if isinstance(value, dict):
        check_rle(value)
        if value["size"] != [height, width]:
            raise RleError(f"a mask of the image's {width}x{height} pixels")
        whole: dict[str, Any] = value
        return coco_mask.frPyObjects(value, height, width) if isinstance(value["counts"], list) else whole
    check_polygons(value, width, height)
    merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(value, height, width))
    return merged


def _check_runs(runs: npt.NDArray[np.int64], width: int, height: int) -> None:
    # Of numbers over 32 bits, the sum could wrap around.
    if runs.min() < 0 or runs.max() > MAX_PIXELS or int(runs.sum()) != width * height:
        raise RleError(f"the counts of a mask of {width}x{height} pixels")
