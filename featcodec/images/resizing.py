"""Scales pictures exactly as OpenCV does, in numpy: for an edge without OpenCV, which takes 150 MB.

A stream's encoder tag is made from the scaled pixels, so they must be the same to the last bit. The sums are those of
OpenCV's resize.cpp in their order and precision: float32 for areas, 11-bit weights for bilinear interpolation. OpenCV
is five times as fast, and is used where it is installed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_LEAST_COVERED = 1e-3
_ONE = 2048
"""A weight of 1 in bilinear interpolation."""
_STRIP = 1 << 18
"""Numbers of a strip of rows, so that they stay in the caches."""


def resize(picture: Pixels, width: int, height: int, *, shrinks: bool) -> Pixels:
    """Scale a picture.

    Args:
        picture: (H, W, 3) uint8.
        width, height: the new size; if it shrinks, neither is larger than it was.
        shrinks: take means over areas (INTER_AREA); else interpolate (INTER_LINEAR).

    Returns:
        (height, width, 3) uint8.
    """
    return _by_areas(picture, width, height) if shrinks else _interpolated(picture, width, height)


def _by_areas(picture: Pixels, width: int, height: int) -> Pixels:
    rows, columns = picture.shape[:2]
    across, down = 1 / (width / columns), 1 / (height / rows)
    x, y = round(across), round(down)
    if max(abs(across - x), abs(down - y)) < np.finfo(np.float64).eps:
        sums = picture[: height * y, : width * x].reshape(height, y, width, x, -1).sum((1, 3), dtype=np.int32)
        if x == y == 2:
            return _rounded((sums + 2) >> 2)
        return _rounded(np.rint(sums.astype(np.float32) * np.float32(1 / (x * y))))
    narrow = np.zeros((rows, width, picture.shape[2]), np.float32)
    strip = max(1, _STRIP // (width * picture.shape[2]))
    for top in range(0, rows, strip):
        some = picture[top : top + strip]
        for places, weights in zip(*_covered(columns, width), strict=True):
            narrow[top : top + strip] += some[:, places].astype(np.float32) * weights[:, None]
    sums = np.zeros((height, width, picture.shape[2]), np.float32)
    for places, weights in zip(*_covered(rows, height), strict=True):
        sums += narrow[places] * weights[:, None, None]
    return _rounded(np.rint(sums))


def _rounded(whole: npt.NDArray[Any]) -> Pixels:
    pixels: Pixels = np.clip(whole, 0, 255).astype(np.uint8)
    return pixels


@lru_cache(maxsize=16)
def _covered(source: int, target: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Which pixels of a line each new pixel covers, and how much of its area each of them is.

    Returns:
        two arrays (most pixels that one covers, target); what is left over has the weight 0.
    """
    scale = 1 / (target / source)
    found: list[list[tuple[int, float]]] = []
    for number in range(target):
        begin = number * scale
        end = begin + scale
        size = min(scale, source - begin)
        last = min(math.floor(end), source - 1)
        first = min(math.ceil(begin), last)
        covered = [(first - 1, (first - begin) / size)] if first - begin > _LEAST_COVERED else []
        covered += [(place, 1 / size) for place in range(first, last)]
        if end - last > _LEAST_COVERED:
            covered.append((last, min(end - last, 1.0, size) / size))
        found.append(covered)
    most = max(map(len, found))
    places, weights = np.zeros((most, target), np.intp), np.zeros((most, target), np.float32)
    for number, covered in enumerate(found):
        for position, (place, weight) in enumerate(covered):
            places[position, number], weights[position, number] = place, weight
    return places, weights


def _interpolated(picture: Pixels, width: int, height: int) -> Pixels:
    rows, columns = picture.shape[:2]
    left, right, across = _neighbours(columns, width, stops=True)
    above, below, down = _neighbours(rows, height, stops=False)
    values = picture.astype(np.int32)
    wide = (values[:, left] * across[0, :, None] + values[:, right] * across[1, :, None]) >> 4
    # Each product is cut off on its own, as 16-bit instructions do it.
    sums = ((wide[above] * down[0, :, None, None]) >> 16) + ((wide[below] * down[1, :, None, None]) >> 16)
    return _rounded((sums + 2) >> 2)


def _neighbours(
    source: int, target: int, *, stops: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """The two pixels of a line that each new pixel lies between, and their weights, (2, target).

    Args:
        source, target: pixels of the lines.
        stops: beyond the outermost pixels, take one of them whole instead of the same one twice.
    """
    at = ((np.arange(target) + 0.5) * (1 / (target / source)) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.intp)
    share = at - first.astype(np.float32)
    if stops:
        share[(first < 0) | (first >= source - 1)] = 0
    weights = np.rint(np.stack([1 - share, share]) * np.float32(_ONE)).astype(np.int32)
    return np.clip(first, 0, source - 1), np.clip(first + 1, 0, source - 1), weights
