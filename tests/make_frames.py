"""Deterministic gray frames that look to an encoder like frames of features: smooth, structured, a little noisy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TILE = 32


def make_frame(shape: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """A (height, width) uint8 frame; another one for every seed."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    tile = x // TILE + 7 * (y // TILE) + seed
    waves = 40 * np.sin((y + 3 * tile) / 9) * np.cos(x / (7 + tile % 5))
    stripes = np.where((3 * x + 2 * y + 5 * seed) // 17 % 2 == 0, 14, 0)
    noise = np.random.default_rng(seed).integers(-2, 3, shape)
    return np.clip(np.rint(70 + 9 * (tile % 6) + waves + stripes + noise), 0, 255).astype(np.uint8)


def noise(shape: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Samples without any structure: the worst case of every encoder."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
