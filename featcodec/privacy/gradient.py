"""The gradient attack: a picture whose tensor is the observed one, found by gradient descent, without any training.

Whoever holds a camera holds front-end and AE. So an attacker can compute the tensor of any picture, and its gradient.
The attack starts from a first guess x0 and minimizes over the picture x

    |f(x) - z|^2 / var(z)  +  a TV(x)  +  b |x - x0|^2

where f is front-end and AE and z the observed tensor, decoded or uncompressed. The terms are means over samples, and
var(z) is the variance of the samples of z, so that the same weights suit every model. If several tensors cross, the
first term is the sum over them. TV is the mean absolute
difference of neighbours, horizontal and vertical. x - x0 is a sum of pictures of 1/1 to 1/32 of the size, scaled up:
the steps of the small ones change the brightness of large areas, which single pixels reach slowly. They are in axes of
brightness and colour, and colour takes smaller steps, because it changes the tensor little. Sources: Mahendran
and Vedaldi, "Understanding deep image representations by inverting them", arXiv:1412.0035 (objective and prior); He et
al., "Model inversion attacks against collaborative inference", ACSAC 2019 (the attack on a split network). To start
from a RecNet's guess is ours: it knows the brightness of large areas, and the gradient adds the detail that it lacks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from featcodec.codec import FeatureCodec
from featcodec.errors import InputError
from featcodec.images.letterbox import Letterbox
from featcodec.networks.features import Features, levels_of, map_levels
from featcodec.privacy.attack import Attack, Picture
from featcodec.split_model import SplitModel
from featcodec.system.devices import has_fast_bfloat16

_GRAY = 0.5
_LEVELS = 6
"""Sides of a letterboxed picture are multiples of 32, the factor of the smallest of six levels."""
_COLOUR = 0.1
"""Steps of colour in units of steps of brightness. With 1, colours drift where the tensor says little about them."""
_AXES = ((1.0, 1.0, 1.0), (_COLOUR, 0.0, -_COLOUR), (-0.5 * _COLOUR, _COLOUR, -0.5 * _COLOUR))
"""R, G and B of a step along each axis: brightness, red against blue, green against both."""
_LEAST_VARIANCE = 1e-6
"""Of a tensor without any detail. It keeps the loss finite."""


@dataclass(frozen=True)
class GradientSettings:
    """How the attack searches. The defaults were chosen on COCO train photographs (docs/privacy.md).

    Attributes:
        steps: number of steps; each is one pass forward and backward. The same for every image and model.
        rate: Adam's first step size, in units of the range of a sample. It falls to 0 along half a cosine.
        rate_from_gray: the same if the first guess is gray, from which the way is longer.
        smoothness: a, the weight of TV.
        nearness: b, the weight of the distance to the first guess; 0 if the first guess is gray.
    """

    steps: int = 100
    rate: float = 0.004
    rate_from_gray: float = 0.02
    smoothness: float = 1.5
    nearness: float = 3.0


@dataclass(frozen=True, eq=False)
class GradientAttack:
    """The attack on one codec. Nothing in it is random. Several threads may use it at once.

    It computes in float32, but on CPUs with fast bfloat16 in that: the same within 0.01 dB, in two thirds of the time.

    Attributes:
        codec: the codec whose tensors are attacked.
        start: the attack that makes the first guess, on the same codec; None starts from gray.
        settings: how it searches.
    """

    codec: FeatureCodec
    start: Attack | None = None
    settings: GradientSettings = field(default_factory=GradientSettings)
    _model: SplitModel = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_model", _in_float32(self.codec.model))

    def on_tensors(
        self, tensors: Features, letterboxes: Sequence[Letterbox], qps: Sequence[int] | None = None
    ) -> list[Picture]:
        """Return reconstructions. The result of an image does not depend on the others, except for rounding.

        Args:
            tensors: (B, C, H, W) of the codec, decoded or uncompressed; or a tuple with such a tensor per level.
            letterboxes: the letterboxes of the B images.
            qps: the QP of each tensor, for the first guess; None, or 0, means a tensor before coding.

        Raises:
            InputError: a reconstruction is not finite.
        """
        # The tensors may come from inference mode, whose tensors autograd refuses. So they are copied.
        with torch.no_grad():
            observed = map_levels(lambda level: level.float().clone(), tensors)
            first = self._guess(observed, letterboxes, qps)
        pictures = self._search(observed, first).permute(0, 2, 3, 1).cpu().numpy()
        if not np.isfinite(pictures).all():
            raise InputError("the gradient attack makes a picture that is not finite; use other networks")
        return [letterbox.crop(picture) for picture, letterbox in zip(pictures, letterboxes, strict=True)]

    def _guess(self, observed: Features, letterboxes: Sequence[Letterbox], qps: Sequence[int] | None) -> Tensor:
        """The first guess: (B, 3, height, width) in [0, 1]."""
        if self.start is not None:
            return self.start.letterboxed(observed, qps)
        size = letterboxes[0].height, letterboxes[0].width
        finest = levels_of(observed)[0]
        return torch.full((len(finest), 3, *size), _GRAY, device=finest.device)

    def _search(self, observed: Features, first: Tensor) -> Tensor:
        settings, from_gray = self.settings, self.start is None
        levels = _no_change(first)
        rate, nearness = (settings.rate_from_gray, 0.0) if from_gray else (settings.rate, settings.nearness)
        optimizer = torch.optim.Adam(levels, lr=rate, betas=(0.9, 0.99))
        wanted = [
            (level, level.var((1, 2, 3), keepdim=True).clamp(min=_LEAST_VARIANCE)) for level in levels_of(observed)
        ]
        with torch.enable_grad():
            for step in range(settings.steps):
                optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
                picture = first + _change(levels)
                inside = picture.clamp(0, 1)
                error = self._error(inside, wanted)
                # Without the last term, samples beyond the range would have no gradient that brings them back.
                loss = error + settings.smoothness * total_variation(picture) + (picture - inside).abs().mean((1, 2, 3))
                loss = loss + nearness * (picture - first).square().mean((1, 2, 3))
                for level, gradient in zip(levels, torch.autograd.grad(loss.sum(), levels), strict=True):
                    level.grad = gradient
                optimizer.step()
            return (first + _change(levels)).detach().clamp(0, 1)

    def _error(self, pictures: Tensor, wanted: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """How far the tensors of pictures are from the wanted ones, in units of the variance given with each: (B,)."""
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=has_fast_bfloat16(pictures.device)):
            found = [tensor.float() for tensor in levels_of(self._model.encode(pictures))]
        errors = [
            ((tensor - observed).square() / variance).mean((1, 2, 3))
            for tensor, (observed, variance) in zip(found, wanted, strict=True)
        ]
        return torch.stack(errors).sum(0)


def total_variation(pictures: Tensor) -> Tensor:
    """Compute the mean absolute difference of neighbours, horizontal plus vertical: (B, C, H, W) -> (B,)."""
    across = (pictures[..., 1:] - pictures[..., :-1]).abs().mean((1, 2, 3))
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean((1, 2, 3))
    return across + down


def _no_change(pictures: Tensor) -> list[Tensor]:
    """Zeros of the size of the pictures, of half that size, and so on."""
    batch, channels, height, width = pictures.shape
    return [
        torch.zeros(batch, channels, height >> level, width >> level, device=pictures.device, requires_grad=True)
        for level in range(_LEVELS)
    ]


def _change(levels: Sequence[Tensor]) -> Tensor:
    """The sum of all levels at the size of the first, in R, G and B."""
    total = levels[-1]
    for level in reversed(levels[:-1]):
        total = F.interpolate(total, size=level.shape[2:], mode="bilinear", align_corners=False) + level
    return torch.einsum("bahw,ac->bchw", total, torch.tensor(_AXES, device=total.device))


def _in_float32(model: SplitModel) -> SplitModel:
    """The model itself, or a copy in float32 if it computes in half precision, whose gradients vanish."""
    if model.detector.dtype == torch.float32:
        return model
    bottleneck = None if model.bottleneck is None else copy.deepcopy(model.bottleneck).float()
    return SplitModel(copy.deepcopy(model.detector).float(), bottleneck)
