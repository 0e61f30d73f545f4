"""Measures of how much of a picture an attack recovers: PSNR and edge-PSNR (paper, section IV-A), without torch.

A reconstruction is clipped to [0, 1] before it is compared, because an attacker knows the range of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError

_LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of R, G and B (ITU-R BT.709)."""
_PEAK = 1.0
_EDGE_PEAK = 4.0
"""The largest output of one Sobel filter on luma in [0, 1]."""
_FAILED_WITHIN = 0.3
"""In dB. A strong RecNet that showed one gray for all photographs was 0.8 dB below `one_colour`."""


@dataclass(frozen=True)
class ImageQuality:
    """How close a reconstruction is to its original, in dB. A higher value is closer, so less private.

    Attributes:
        psnr: PSNR of RGB; infinite if all pixels are equal.
        edge_psnr: PSNR of the gradient magnitude of luma; infinite if all gradients are equal. It is NaN for a picture
            under 3x3 pixels, which has no gradients.
    """

    psnr: float
    edge_psnr: float


def image_quality(
    original: npt.NDArray[np.floating[Any]], reconstruction: npt.NDArray[np.floating[Any]]
) -> ImageQuality:
    """Compute both measures. Arguments and errors are the same as in `psnr`."""
    return ImageQuality(psnr(original, reconstruction), edge_psnr(original, reconstruction))


def one_colour(original: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Return the picture of one colour that is closest to the original by PSNR: its mean colour everywhere.

    An attack that knows nothing of a picture but its mean colour makes this one. It is the floor of an attack's scores.

    Args:
        original: (H, W, 3) floating-point RGB.

    Returns:
        (H, W, 3) float32, read-only.
    """
    return np.broadcast_to(original.mean((0, 1), dtype=np.float64).astype(np.float32), original.shape)


def shows_nothing(psnr_of_attack: float, psnr_of_one_colour: float) -> bool:
    """Whether an attack failed: by mean PSNR in dB, it is hardly closer to the originals than `one_colour` is."""
    return psnr_of_attack < psnr_of_one_colour + _FAILED_WITHIN


def psnr(original: npt.NDArray[np.floating[Any]], reconstruction: npt.NDArray[np.floating[Any]]) -> float:
    """Compute the peak signal-to-noise ratio over all samples of R, G and B, with peak 1.

    Args:
        original: (H, W, 3) floating-point RGB in [0, 1].
        reconstruction: a picture of the same shape; it is clipped to [0, 1] first.

    Returns:
        dB; infinity if the pictures are equal, NaN if a sample is NaN.

    Raises:
        InputError: the pictures are not two floating-point RGB pictures of one size.
    """
    first, second = _comparable(original, reconstruction)
    return _decibel(first, second, _PEAK)


def edge_psnr(original: npt.NDArray[np.floating[Any]], reconstruction: npt.NDArray[np.floating[Any]]) -> float:
    """Compute the PSNR of the edges: of the gradient magnitude of luma by the 3x3 Sobel pair, with peak 4.

    The filters stay inside the picture, and there is no padding. The outermost pixels have no gradient of their own.

    Args:
        original: (H, W, 3) floating-point RGB in [0, 1].
        reconstruction: a picture of the same shape; it is clipped to [0, 1] first.

    Returns:
        dB; infinity if all gradients are equal, NaN for a picture under 3x3 pixels.

    Raises:
        InputError: the same cases as in `psnr`.
    """
    first, second = _comparable(original, reconstruction)
    if min(first.shape[:2]) < 3:
        return math.nan
    return _decibel(_gradient(first), _gradient(second), _EDGE_PEAK)


def mean_decibel(values: Iterable[float]) -> float:
    """Compute the mean of dB values over images.

    Infinite values (for example from an exact reconstruction of a white picture) and NaN are left out, because one of
    them would hide all others. A program that prints the mean should say how many values were left out.

    Returns:
        the mean of the finite values in dB. Without finite values: infinity if a value is infinite, else NaN.
    """
    values = list(values)
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        return math.fsum(finite) / len(finite)
    return math.inf if math.inf in values else math.nan


def _comparable(
    original: npt.NDArray[np.floating[Any]], reconstruction: npt.NDArray[np.floating[Any]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    for picture in (original, reconstruction):
        if not np.issubdtype(picture.dtype, np.floating) or picture.ndim != 3 or picture.shape[2] != 3:
            got = f"{picture.dtype} {picture.shape}"
            raise InputError(f"quality is measured on (height, width, 3) RGB in [0, 1] as floats, not {got}")
    if original.shape != reconstruction.shape or not original.size:
        raise InputError(f"pictures of {original.shape} and {reconstruction.shape} cannot be compared; use one size")
    return original.astype(np.float64), np.clip(reconstruction.astype(np.float64), 0, 1)


def _gradient(picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute the magnitude of the Sobel pair of luma: (H, W, 3) -> (H - 2, W - 2)."""
    luma: npt.NDArray[np.float64] = picture @ np.array(_LUMA)
    down = luma[:-2] + 2 * luma[1:-1] + luma[2:]
    across = luma[:, :-2] + 2 * luma[:, 1:-1] + luma[:, 2:]
    magnitude: npt.NDArray[np.float64] = np.hypot(down[:, 2:] - down[:, :-2], across[2:] - across[:-2])
    return magnitude


def _decibel(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], peak: float) -> float:
    error = float(np.mean((first - second) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)
