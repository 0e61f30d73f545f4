"""Noise textures for flat colours.

They are made once per process, and they are the same in each process. Scenes take random parts of them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec.scenes.canvas import Camera

_SIDE = 512
SAMPLES = 56.0
"""Texture samples per metre of ground."""

PERIOD = _SIDE / SAMPLES
"""The side of the asphalt texture in metres."""

Floats = npt.NDArray[np.float32]


@lru_cache(maxsize=1)
def clouds() -> Floats:
    """Make slowly varying noise: (512, 512) float32 in about -1 .. 1. Opposite edges fit together."""
    rng = np.random.default_rng(20)
    total = np.zeros((_SIDE, _SIDE), np.float32)
    for cells, share in ((4, 0.5), (8, 0.27), (16, 0.15), (32, 0.08)):
        total += share * _smooth(rng, cells)
    return np.asarray(total / np.abs(total).max())


@lru_cache(maxsize=1)
def asphalt() -> Floats:
    """Make grain with spots: (512, 512) float32 in about -1 .. 1. Opposite edges fit together."""
    rng = np.random.default_rng(21)
    grain = rng.standard_normal((_SIDE, _SIDE), dtype=np.float32) * 0.28
    return np.asarray(np.clip(grain + 0.5 * _smooth(rng, 64) + 0.5 * _smooth(rng, 12), -1, 1))


@lru_cache(maxsize=1)
def grain() -> Floats:
    """Make the noise of a sensor: (1024, 1024) float32 of unit variance."""
    fine = np.random.default_rng(22).standard_normal((1024, 1024), dtype=np.float32)
    return np.asarray((fine + 0.35 * np.roll(fine, 1, 0) + 0.35 * np.roll(fine, 1, 1)) / np.float32(1.116))


def part(texture: Floats, rng: np.random.Generator, height: int, width: int) -> Floats:
    """Cut a random part of a texture."""
    top = int(rng.integers(texture.shape[0] - height + 1))
    left = int(rng.integers(texture.shape[1] - width + 1))
    return texture[top : top + height, left : left + width]


def ground_texture(camera: Camera, rng: np.random.Generator, top: int, size: int) -> Floats:
    """Make the asphalt texture in perspective, at a random place. It fades with distance.

    Args:
        camera: the camera that sees the ground.
        rng: random generator for the place.
        top: first row, below the horizon.
        size: size of the image in pixels.

    Returns:
        (size - top, size, 1) float32.
    """
    across, ahead = rng.integers(_SIDE, size=2).tolist()
    return ground_texture_at(camera, (across, ahead), top, (size, size))


def ground_texture_at(camera: Camera, place: tuple[int, int], top: int, size: tuple[int, int]) -> Floats:
    """Make the asphalt texture in perspective. It fades with distance.

    Args:
        camera: the camera that sees the ground.
        place: where the camera is on the texture, in samples to the right and ahead; there are `SAMPLES` per metre, and
            the texture comes again after `PERIOD` metres.
        top: first row, below the horizon.
        size: width and height of the image in pixels.

    Returns:
        (height - top, width, 1) float32.
    """
    width, height = size
    rows = np.arange(top, height, dtype=np.float32) + 0.5
    depth = np.float32(camera.focal * camera.height) / np.maximum(rows - np.float32(camera.horizon), 0.8)
    columns = np.arange(width, dtype=np.float32) + 0.5 - np.float32(camera.centre)
    u = ((columns[None] * (depth / np.float32(camera.focal))[:, None]) * SAMPLES).astype(np.int32) + place[0]
    v = (depth * SAMPLES).astype(np.int32) + place[1]
    fade = 1 / (1 + 0.05 * depth)
    return np.asarray((asphalt()[v[:, None] % _SIDE, u % _SIDE] * fade[:, None])[..., None])


def _smooth(rng: np.random.Generator, cells: int) -> Floats:
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    wrapped = np.pad(coarse, 2, mode="wrap")
    scale = _SIDE // cells
    large = Image.fromarray(wrapped).resize(
        (wrapped.shape[1] * scale, wrapped.shape[0] * scale), Image.Resampling.BICUBIC
    )
    return np.asarray(large)[2 * scale : 2 * scale + _SIDE, 2 * scale : 2 * scale + _SIDE]
