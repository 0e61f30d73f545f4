"""LPIPS, a perceptual distance: how different two pictures look to a network (Zhang et al., arXiv:1801.03924).

The package lpips has the weights of the distance, but not those of AlexNet, on which it stands. torchvision downloads
these; featcodec does not. So LPIPS is measured only if they are in torch's cache already.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featcodec.errors import FeatcodecError
from featcodec.privacy.extras import import_extra
from featcodec.privacy.measures import LPIPS
from featcodec.privacy.readers import Measure, Original, Pixels, Score
from featcodec.system.files import read_bounded

ALEXNET = "alexnet-owt-7be5be79.pth"
"""The name of torchvision's file. It ends in the first digits of the file's SHA-256."""
_MAX_BYTES = 256 << 20
_LEAST_SIDE = 63
"""Pixels: the smallest picture of which AlexNet's last layers still see something."""


@dataclass(frozen=True, eq=False)
class PerceptualReader:
    """LPIPS with AlexNet as a reader: the mean distance over images. Lower means that the attacker sees more.

    Images under 63 pixels do not count.

    Raises:
        FeatcodecError: lpips is not installed, or AlexNet's weights are not in torch's cache or are damaged.
    """

    _network: Any = field(init=False)

    def __post_init__(self) -> None:
        package: Any = import_extra("LPIPS", "lpips")
        path = alexnet_path()
        if not path.is_file():
            raise FeatcodecError(
                f"LPIPS: needs AlexNet's weights, which are not in {path.parent}; get {ALEXNET} by "
                "`python -c 'import torchvision; torchvision.models.alexnet(weights=\"DEFAULT\")'`, or do without"
            )
        weights = read_bounded(path, _MAX_BYTES, FeatcodecError, what="file of weights", remedy="remove it")
        digest = hashlib.sha256(weights).hexdigest()
        if not digest.startswith(path.stem.rsplit("-", 1)[1]):
            raise FeatcodecError(f"{path}: is damaged (SHA-256 {digest[:8]}); remove it and download it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips calls torchvision by parameters of old
            network = package.LPIPS(net="alex", verbose=False)
        object.__setattr__(self, "_network", network.eval().requires_grad_(False))

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The distance."""
        return (LPIPS,)

    def scores(self, original: Original, pictures: Mapping[str, Pixels]) -> dict[str, dict[str, Score]]:
        """Measure the distance of each picture to the original; see `Reader.scores`."""
        if min(original.pixels.shape[:2]) < _LEAST_SIDE:
            return {name: {LPIPS.name: Score()} for name in pictures}
        truth = _as_input(original.pixels)
        with torch.inference_mode():
            return {
                name: {LPIPS.name: Score(float(self._network(truth, _as_input(picture))), 1)}
                for name, picture in pictures.items()
            }


def alexnet_path() -> Path:
    """Where torchvision keeps AlexNet's weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET


def _as_input(picture: Pixels) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
