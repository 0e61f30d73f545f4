"""Scaling in numpy gives OpenCV's pixels, to the last bit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featcodec.images import letterbox
from featcodec.images.letterbox import Fitting
from featcodec.images.resizing import resize

SIDES = st.integers(1, 200)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(SIDES, SIDES, SIDES, SIDES)
@example(64, 48, 32, 24)  # halves are rounded in another way
@example(90, 60, 30, 20)
@example(90, 60, 30, 60)
@example(1, 1, 1, 1)
def test_shrinking_is_that_of_opencv(width: int, height: int, narrow: int, low: int) -> None:
    size = min(width, narrow), min(height, low)
    picture = noise(width, height)
    wanted = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(resize(picture, *size, shrinks=True), wanted)


@given(SIDES, SIDES, SIDES, SIDES)
@example(1, 1, 7, 5)
@example(40, 30, 80, 60)
def test_enlarging_is_that_of_opencv(width: int, height: int, wide: int, high: int) -> None:
    size = max(width, wide), max(height, high)
    picture = noise(width, height)
    wanted = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize(picture, *size, shrinks=False), wanted)


@pytest.mark.parametrize("size", [(1920, 1080), (640, 480), (333, 517), (512, 512), (3000, 7), (5, 3)])
def test_a_letterbox_is_the_same_without_opencv(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise(*size)
    wanted = Fitting(512).apply(picture).pixels
    monkeypatch.setattr(letterbox, "cv2", None)
    np.testing.assert_array_equal(Fitting(512).apply(picture).pixels, wanted)
