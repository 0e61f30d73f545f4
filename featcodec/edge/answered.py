"""What an answer says was found, as Detections. An answer may come from anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featcodec.detections import Detections, Mask
from featcodec.edge.messages import Answer
from featcodec.errors import in_one_line
from featcodec.images.entries import UnfitError, read_keypoints_if_any, read_mask_if_any

_MOST_BOXES = 1000
_LONGEST_NAME = 40
_NUMBERS = 3
"""Of a keypoint: x, y and score."""


def detections_of(answer: Answer) -> Detections:
    """The boxes of an answer, and the masks and keypoints that it holds.

    Boxes and keypoints are cut off at the sides of the picture, and names are made short. An object whose mask or
    keypoints cannot be those of the picture has an empty mask, or keypoints that are not seen.

    Args:
        answer: its width and height are those of a picture.
    """
    rows = [row for row in answer.detections if 0 < row["score"] <= 1][:_MOST_BOXES]
    labels = [in_one_line(row["category_name"][:_LONGEST_NAME]) for row in rows]
    names = tuple(dict.fromkeys(labels))
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 2, 2)
    limits = (answer.width, answer.height)
    corners = np.clip(np.sort(boxes.cumsum(axis=1), axis=1), 0, limits)
    return Detections(
        corners.reshape(-1, 4).astype(np.float32),
        np.array([row["score"] for row in rows], np.float32),
        np.array([names.index(label) for label in labels], np.int64),
        names,
        answer.width,
        answer.height,
        _masks_of(rows, *limits),
        _keypoints_of(rows, *limits),
    )


def _masks_of(rows: Sequence[Mapping[str, Any]], width: int, height: int) -> tuple[Mask, ...] | None:
    """A mask for each row, or None if none has one."""
    found = [_mask_of(row, width, height) for row in rows]
    if not any(found):
        return None
    empty = Mask.of(np.zeros((0, 0), np.bool_), 0, 0, width, height)
    return tuple(each or empty for each in found)


def _mask_of(row: Mapping[str, Any], width: int, height: int) -> Mask | None:
    value = row.get("segmentation")
    if not isinstance(value, dict) or value.get("size") != [height, width] or not isinstance(value.get("counts"), str):
        return None
    try:
        return Mask(width, height, read_mask_if_any(value)["counts"])
    except UnfitError:
        return None


def _keypoints_of(rows: Sequence[Mapping[str, Any]], width: int, height: int) -> npt.NDArray[np.float32] | None:
    """(rows, K, 3) float32, or None if no row has keypoints. K is that of the first row that has some."""
    found = [_points_of(row) for row in rows]
    count = next((len(each) for each in found if len(each)), 0)
    if not count:
        return None
    whole = [each if len(each) == count else np.zeros((count, _NUMBERS)) for each in found]
    return np.clip(np.stack(whole), 0, (width, height, 1)).astype(np.float32)


def _points_of(row: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """(K, 3) float64; K is 0 if the row has no keypoints."""
    try:
        return np.array(read_keypoints_if_any(row.get("keypoints", [])), np.float64).reshape(-1, _NUMBERS)
    except UnfitError:
        return np.zeros((0, _NUMBERS))
