"""What the bottleneck is rewarded for in adversarial training: reconstructions that fail. None of this is in the paper.

The paper subtracts w * L_rec. Two changes make it spend less accuracy for the same privacy. A *bound* stops the reward
where a reconstruction is already as bad as the blurred picture. And the weight is set by *gradients*, so that it means
the same for every detector and loss (as the adaptive weight of VQGAN, Esser et al., arXiv:2012.09841, Eq. 7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featcodec.errors import InputError
from featcodec.training.losses.reconstruction import EDGE_WEIGHT, edges_of, size_of

CELL = 8
"""The bound is applied to cells of 8x8 pixels, which is what one sample of the tensor covers at split 4."""
_SHRUNK = 4
"""The blur is computed at a quarter of the resolution: blurred pictures have no finer detail."""
_MEMORY = 0.9
_SMALLEST = 1e-12


@dataclass(frozen=True)
class PrivacyTerm:
    """How failed reconstructions are rewarded.

    Attributes:
        blur: standard deviation of the Gaussian, in pixels. Where a reconstruction is worse than the picture blurred by
            it, nothing more is gained. None rewards without a bound, as the paper does.
        colour_weight: weight of L1.
        edge_weight: beta of L_rec.
        squared: squares in place of absolute values; see `reconstruction_loss`.

    Raises:
        InputError: a number is out of range, or both weights are 0.
    """

    blur: float | None = None
    colour_weight: float = 1.0
    edge_weight: float = EDGE_WEIGHT
    squared: bool = False

    def __post_init__(self) -> None:
        if self.blur is not None and not _SHRUNK <= self.blur <= 64:
            raise InputError(f"a blur of {self.blur} pixels is not within {_SHRUNK}..64; give another one")
        weights = (self.colour_weight, self.edge_weight)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise InputError(f"colour weight and edge weight {weights} must be at least 0, and one of them above 0")

    def __call__(self, reconstruction: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """The reward of each image, and the share of it that is not at its bound.

        Args:
            reconstruction, images: (B, 3, H, W) RGB in [0, 1], H and W multiples of 8 and at least 16.

        Returns:
            the term, (B,) float32: L_rec; with a bound, a mean over cells, each at most that of the blurred picture.
                And the mean share of cells below their bound, a scalar in [0, 1] without gradient (1 without a bound).
        """
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            difference = reconstruction.float() - images
            if self.blur is None:
                both = (difference, edges_of(difference))
                colours, edges = (size_of(each, squared=self.squared).mean((1, 2, 3)) for each in both)
                return self.colour_weight * colours + 2 * self.edge_weight * edges, images.new_ones(())
            found = self._parts(difference)
            with torch.no_grad():
                bounds = self._parts(blurred(images, self.blur) - images)
            terms, shares = [], []
            for part, bound in zip(found, bounds, strict=True):
                terms.append(torch.minimum(part, bound).mean((1, 2)))
                shares.append((part < bound).float().mean())
            return torch.stack(terms).sum(0), torch.stack(shares).mean()

    def _parts(self, difference: Tensor) -> list[Tensor]:
        """The weighted errors of colours and edges per cell, each (B, H / 8, W / 8)."""
        parts = []
        if self.colour_weight:
            colours = size_of(difference, squared=self.squared).mean(1, keepdim=True)
            parts.append(self.colour_weight * F.avg_pool2d(colours, CELL)[:, 0])
        if self.edge_weight:
            # The sum over both directions, the mean over colours, as in L_rec.
            edges = size_of(edges_of(difference), squared=self.squared).mean(1, keepdim=True)
            edges = F.pad(2 * edges, (1, 1, 1, 1))
            parts.append(self.edge_weight * F.avg_pool2d(edges, CELL)[:, 0])
        return parts


def blurred(images: Tensor, deviation: float) -> Tensor:
    """A Gaussian blur, computed at a quarter of the resolution. The border pixels are repeated beyond the border.

    Args:
        images: (B, 3, H, W) float32, H and W multiples of 4.
        deviation: standard deviation in pixels, at least 4.
    """
    height, width = images.shape[-2:]
    small = F.avg_pool2d(images, _SHRUNK)
    sigma = deviation / _SHRUNK
    radius = math.ceil(3 * sigma)
    places = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (places / sigma).square())
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    small = F.conv2d(F.pad(small, (radius, radius, 0, 0), mode="replicate"), kernel, groups=3)
    small = F.conv2d(F.pad(small, (0, 0, radius, radius), mode="replicate"), kernel.transpose(2, 3), groups=3)
    return F.interpolate(small, (height, width), mode="bilinear", align_corners=False)


class AdaptiveWeight(nn.Module):
    """The weight with which the privacy term's gradient at AE's output is a chosen share of the objective's gradient.

    The weight is a running mean of what was measured, so it does not jump with single batches. It is a buffer, so that
    it belongs to the state of a run.

    Args:
        share: the norm of the weighted privacy gradient, as a share of the norm of the objective's gradient.

    Raises:
        InputError: the share is negative or not finite.
    """

    logarithm: Tensor
    is_measured: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < math.inf:
            raise InputError(f"a gradient share of {share} is not a number from 0; give for example 0.5")
        self.share = share
        self.register_buffer("logarithm", torch.zeros(()))
        self.register_buffer("is_measured", torch.zeros((), dtype=torch.bool))

    @property
    def weight(self) -> Tensor:
        """The weight of the privacy term, a scalar."""
        return self.logarithm.exp() * self.share

    @torch.no_grad()
    def measure(self, objective: Tensor, privacy: Tensor, active: Tensor) -> None:
        """Take one measurement into account.

        Args:
            objective, privacy: gradients of the two unweighted terms at AE's output, of one shape.
            active: share of the privacy term that is not at its bound. As this share falls, the same gradient per cell
                adds up to less; without this correction, the weight would rise until the last cells are at the bound.
        """
        norm = privacy.float().norm() / active.clamp(min=_SMALLEST).sqrt()
        ratio = objective.float().norm().clamp(min=_SMALLEST) / norm.clamp(min=_SMALLEST)
        now = ratio.log()
        self.logarithm.copy_(torch.where(self.is_measured, _MEMORY * self.logarithm + (1 - _MEMORY) * now, now))
        self.is_measured.fill_(True)
