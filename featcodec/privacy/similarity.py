"""How alike a reconstruction and its original are: PSNR and edge-PSNR, and with the extra `audit` SSIM and MS-SSIM.

SSIM: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004. MS-SSIM: Wang et
al., "Multiscale structural similarity for image quality assessment", 2003. Both are computed by pytorch-msssim on R, G
and B, with the usual Gaussian window of 11x11 pixels and sigma 1.5, which stays inside the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec.errors import FeatcodecError
from featcodec.privacy.extras import import_extra
from featcodec.privacy.image_quality import image_quality
from featcodec.privacy.measures import EDGE_PSNR, MS_SSIM, PSNR, SSIM
from featcodec.privacy.readers import Measure, Original, Pixels, Score

QUALITY = (PSNR, EDGE_PSNR)
STRUCTURE = (SSIM, MS_SSIM)

_LIBRARY = "pytorch_msssim"
_LEAST_SIDES = {"ssim": 11, "ms_ssim": 161}
"""In pixels: the window, and the window after four halvings. No score of a smaller picture compares with others."""

Function = Callable[..., Tensor]


def structure_functions() -> dict[str, Function]:
    """Return the functions of pytorch-msssim by the names in `STRUCTURE`. Empty if it is not installed."""
    try:
        library = import_extra("SSIM", _LIBRARY)
    except FeatcodecError:
        return {}
    return {name: getattr(library, name) for name in _LEAST_SIDES}


def structure(
    original: npt.NDArray[np.floating[Any]], reconstruction: npt.NDArray[np.floating[Any]]
) -> dict[str, float]:
    """Compute SSIM and MS-SSIM.

    Args:
        original, reconstruction: (H, W, 3) floating-point RGB in [0, 1], of one size.

    Returns:
        "ssim" and "ms_ssim", each at most 1 (equal pictures); NaN if the shorter side is under 11 or 161 pixels. The
        result is empty without the library.
    """
    pair = [
        torch.from_numpy(np.ascontiguousarray(one, np.float32)).permute(2, 0, 1)[None]
        for one in (original, reconstruction)
    ]
    shorter = min(original.shape[:2])
    found = {}
    for name, function in structure_functions().items():
        enough = shorter >= _LEAST_SIDES[name]
        found[name] = float(function(*pair, data_range=1.0)) if enough else math.nan
    return found


def similarity_of(
    original: npt.NDArray[np.floating[Any]], reconstruction: npt.NDArray[np.floating[Any]]
) -> dict[str, float]:
    """Compute `QUALITY`, and `STRUCTURE` if its library is there, by name. Arguments as in `image_quality`."""
    quality = image_quality(original, reconstruction)
    clipped = np.clip(reconstruction, 0, 1)
    return {"psnr": quality.psnr, "edge_psnr": quality.edge_psnr, **structure(original, clipped)}


class Similarity:
    """The reader (`readers.Reader`) that compares whole pictures.

    A score counts the image, so a mean over images weighs each image alike. It counts nothing if it is undefined
    (a picture that is too small) or infinite (an exact reconstruction), because one such value would hide all others.

    Attributes:
        measures: PSNR and edge-PSNR; SSIM and MS-SSIM if pytorch-msssim is installed.
    """

    def __init__(self) -> None:
        self.measures: tuple[Measure, ...] = (*QUALITY, *(STRUCTURE if structure_functions() else ()))

    def scores(self, original: Original, pictures: Mapping[str, Pixels]) -> dict[str, dict[str, Score]]:
        """See `Reader.scores`."""
        truth = original.pixels.astype(np.float32) / 255
        found = {}
        for name, pixels in pictures.items():
            picture = pixels.astype(np.float32) / 255
            values = similarity_of(truth, picture)
            found[name] = {key: Score(value, 1) if math.isfinite(value) else Score() for key, value in values.items()}
        return found
