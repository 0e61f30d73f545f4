"""Masks of objects from coefficients and prototypes (YOLACT, arXiv 1904.02689), in the pixels of the original image.

A mask is where the sum of the prototypes, weighted by a box's coefficients, is above 0, inside the box. The masks are
those of ultralytics' `ops.process_mask_native` (`retina_masks=True`): the sum is enlarged to the original image, then
compared with 0. Each is made for the pixels of its box alone, some columns at a time.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec.detections import Mask
from featcodec.images.letterbox import Letterbox

_COLUMNS_AT_ONCE = 256
"""A pixel takes a few of the samples, so the matrices of few pixels are small."""


def masks_of(
    coefficients: Tensor, prototypes: Tensor, xyxy: npt.NDArray[np.float32], letterbox: Letterbox
) -> tuple[Mask, ...]:
    """The masks of the boxes of one image. A mask may be empty.

    Args:
        coefficients: (N, masks).
        prototypes: (masks, h, w). The letterboxed image is a power of two times as high and as wide.
        xyxy: (N, 4) float32; left, top, right, bottom in original pixels, inside the image.
        letterbox: how the image lies in the detector's input.

    Raises:
        ValueError: the prototypes do not have such a size.
    """
    _, height, width = prototypes.shape
    times = letterbox.width // width
    if (width * times, height * times) != (letterbox.width, letterbox.height) or times & (times - 1):
        raise ValueError(f"prototypes of {width}x{height} do not fit an input of {letterbox.width}x{letterbox.height}")
    if not len(xyxy):
        return ()
    coefficients, prototypes = coefficients.float().cpu(), prototypes.float().cpu()
    # ultralytics enlarges the sum first until the border has whole samples, cuts it off, and enlarges the rest.
    border = [side for edges in _borders(letterbox) for side in edges]
    first = times // math.gcd(times, *border)
    sides = (width, letterbox.original_width), (height, letterbox.original_height)
    columns, rows = (
        _Axis(samples, first, (before * first // times, after * first // times), pixels)
        for (before, after), (samples, pixels) in zip(_borders(letterbox), sides, strict=True)
    )
    found = []
    # A box that is not a number, of damaged weights, has no pixels.
    boxes = np.ceil(np.where(np.isfinite(xyxy).all(1, keepdims=True), xyxy, 0)).astype(int)
    for weights, (left, top, right, bottom) in zip(coefficients, boxes.tolist(), strict=True):
        part = _mask(weights, prototypes, columns, rows, (left, top, right, bottom))
        found.append(Mask.of(part, left, top, letterbox.original_width, letterbox.original_height))
    return tuple(found)


def _borders(letterbox: Letterbox) -> tuple[tuple[int, int], tuple[int, int]]:
    """The borders to the left and right, and above and below, in letterboxed pixels."""
    (left, top), (width, height) = letterbox.offset, letterbox.resized
    return (left, letterbox.width - width - left), (top, letterbox.height - height - top)


def _mask(
    weights: Tensor, prototypes: Tensor, columns: _Axis, rows: _Axis, box: tuple[int, int, int, int]
) -> npt.NDArray[np.bool_]:
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        return np.zeros((0, 0), bool)
    (x0, x1), _ = columns.matrix(left, right)
    (y0, y1), down = rows.matrix(top, bottom)
    values = (weights @ prototypes[:, y0:y1, x0:x1].reshape(len(weights), -1)).view(y1 - y0, x1 - x0)
    values = down @ values
    mask = np.empty((bottom - top, right - left), bool)
    for start in range(left, right, _COLUMNS_AT_ONCE):
        end = min(start + _COLUMNS_AT_ONCE, right)
        (first, last), across = columns.matrix(start, end)
        mask[:, start - left : end - left] = (values[:, first - x0 : last - x0] @ across.T > 0).numpy()
    return mask


class _Axis:
    """How the samples of the prototypes are enlarged to the pixels of the original image, along one axis.

    That is done bilinearly, so each pixel takes two of the samples that the first enlargement makes, and each of these
    takes two samples of the prototypes.

    Args:
        samples: number of samples of the prototypes.
        first: by how much they are enlarged before the border is cut off.
        border: samples of the border, then, before and behind the image.
        pixels: side of the original image.
    """

    def __init__(self, samples: int, first: int, border: tuple[int, int], pixels: int) -> None:
        low, high, share = _taps(torch.arange(pixels), samples * first - sum(border), pixels)
        low, high = low + border[0], high + border[0]
        first_low, first_high, first_share = _taps(torch.arange(samples * first), samples, samples * first)
        self._places = torch.stack((first_low[low], first_high[low], first_low[high], first_high[high]), 1)
        shares = (1 - share) * (1 - first_share[low]), (1 - share) * first_share[low]
        self._shares = torch.stack((*shares, share * (1 - first_share[high]), share * first_share[high]), 1)

    def matrix(self, start: int, end: int) -> tuple[tuple[int, int], Tensor]:
        """The samples from one to another that the pixels from start to end take, and each pixel's shares of them."""
        places = self._places[start:end]
        low, high = int(places[0].min()), int(places[-1].max()) + 1
        matrix = torch.zeros(end - start, high - low)
        return (low, high), matrix.scatter_add_(1, places - low, self._shares[start:end])


def _taps(targets: Tensor, samples: int, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of bilinear interpolation without aligned corners: the sample before, the one behind, and the latter's share."""
    place = ((targets.float() + 0.5) * (samples / pixels) - 0.5).clamp(min=0)
    low = place.long().clamp(max=samples - 1)
    return low, (low + 1).clamp(max=samples - 1), place - low
