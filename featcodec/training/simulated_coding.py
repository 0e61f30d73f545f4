"""Simulate what VVC does to the tensor, so that gradients can pass, and estimate how many bits it costs.

This is not in the paper and is off by default. VVC codes blocks of the frame in the frequency domain: it transforms,
divides by the step size and rounds. The simulation does the same with the DCT of 8x8 blocks and with VVC's step size at
a QP, 2 ** ((QP - 4) / 6) samples of 8 bits (H.266, clause 8.7.3). Gradients pass straight through the rounding (Bengio
et al., arXiv:1308.3432). The rate proxy is sum log2(1 + |coefficient| / step), a smooth count of the bits of sparse
coefficients. The paper's authors used the mean |DCT| in later work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from featcodec.bitstream import MAX_QP
from featcodec.errors import InputError
from featcodec.networks.features import Features, features_of_levels, levels_of

BLOCK = 8
PIXELS_PER_SAMPLE = 8
"""At split 4."""
_DEAD_ZONE = 0.4
"""Added before rounding down. It is below one half, as in encoders that weigh rate against distortion."""


@dataclass(frozen=True)
class SimulatedCoding:
    """How training damages the tensor.

    Attributes:
        clip_low, clip_high: the clip range.
        qp_low, qp_high: each tensor of a batch is coded at a QP that is drawn uniformly from this range.
        uncoded: share of tensors that are only clipped, so that the uncompressed path stays good.

    Raises:
        InputError: a range is empty or not finite, or its highest QP is too high for VVC.
    """

    clip_low: float
    clip_high: float
    qp_low: float = 32.0
    qp_high: float = 43.0
    uncoded: float = 0.25

    def __post_init__(self) -> None:
        for what, low, high in (("clip", self.clip_low, self.clip_high), ("QP", self.qp_low, self.qp_high)):
            if not -math.inf < low <= high < math.inf:
                raise InputError(f"{what} range [{low}, {high}] is empty or not finite; use low <= high")
        if self.qp_high > MAX_QP:
            raise InputError(f"QP {self.qp_high} is above {MAX_QP}; use QPs that VVC has")


class Simulated(NamedTuple):
    """The result of `simulate_coding`.

    Attributes:
        decoded: the decoded tensors, in the shape of the tensors before coding.
        rate: the rate proxy, a scalar in bits per pixel of the letterboxed image.
        qp: (B,) float32, the QP of each image's tensors; 0 for those that were only clipped.
    """

    decoded: Features
    rate: Tensor
    qp: Tensor


def simulate_coding(
    coded: Features, simulation: SimulatedCoding, pixels_per_sample: int = PIXELS_PER_SAMPLE
) -> Simulated:
    """Clip, transform, quantize and transform back. The random numbers come from torch's global generator.

    Args:
        coded: (B, C, H, W), the tensors before coding; or a tuple with such a tensor per level. All levels of an image
            are coded at one QP, because they lie in one frame.
        simulation: how to code them.
        pixels_per_sample: pixels that a sample covers, per side; of several levels, a sample of the finest.
    """
    levels = levels_of(coded)
    batch, _, height, width = levels[0].shape
    # Half precision would be coarser than the steps of low QPs.
    with torch.autocast(levels[0].device.type, enabled=False):
        qp = torch.empty(batch, 1, 1, 1, 1, 1, device=levels[0].device)
        qp.uniform_(simulation.qp_low, simulation.qp_high)
        is_uncoded = torch.rand(batch, 1, 1, 1, device=levels[0].device) < simulation.uncoded
        found = [_simulate(level.float(), simulation, qp, is_uncoded) for level in levels]
    bits = torch.stack([bits for _, bits in found]).sum()
    qps = torch.where(is_uncoded.reshape(-1), 0, qp.reshape(-1))
    decoded = features_of_levels([decoded for decoded, _ in found])
    return Simulated(decoded, bits / (batch * height * width * pixels_per_sample**2), qps)


def _simulate(coded: Tensor, simulation: SimulatedCoding, qp: Tensor, is_uncoded: Tensor) -> tuple[Tensor, Tensor]:
    """One level after coding, and its bits."""
    height, width = coded.shape[2:]
    sample = (simulation.clip_high - simulation.clip_low) / 255
    step = torch.exp2((qp - 4) / 6) * sample
    clipped = coded.clamp(simulation.clip_low, simulation.clip_high)
    whole_blocks = F.pad(clipped, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    coefficients = _to_frequency(whole_blocks)
    levels = coefficients.detach() / step
    quantized = levels.sign() * torch.floor(levels.abs() + _DEAD_ZONE) * step
    damaged = _from_frequency(coefficients + (quantized - coefficients).detach())[..., :height, :width]
    decoded = torch.where(is_uncoded, clipped, damaged).clamp(simulation.clip_low, simulation.clip_high)
    return decoded, torch.log2(1 + _predicted(coefficients).abs() / step).sum()


def _predicted(coefficients: Tensor) -> Tensor:
    """Subtract from each block's mean the mean of the block to its left: intra prediction makes flat regions cheap."""
    mean = coefficients[..., 0, 0]
    residual = torch.cat((mean[..., :1], mean[..., 1:] - mean[..., :-1]), -1)
    is_mean = torch.zeros(BLOCK, BLOCK, dtype=torch.bool, device=coefficients.device)
    is_mean[0, 0] = True
    return torch.where(is_mean, residual[..., None, None], coefficients)


def _to_frequency(values: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H / 8, W / 8, 8, 8), orthonormal DCT-II of each block."""
    batch, channels, height, width = values.shape
    blocks = values.reshape(batch, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(3, 4)
    transform = _dct(values)
    return transform @ blocks @ transform.T


def _from_frequency(coefficients: Tensor) -> Tensor:
    batch, channels, rows, columns, _, _ = coefficients.shape
    transform = _dct(coefficients)
    blocks = transform.T @ coefficients @ transform
    return blocks.transpose(3, 4).reshape(batch, channels, rows * BLOCK, columns * BLOCK)


def _dct(like: Tensor) -> Tensor:
    """The orthonormal DCT-II matrix, (8, 8)."""
    frequency = torch.arange(BLOCK, device=like.device, dtype=like.dtype)
    angle = math.pi / (2 * BLOCK) * torch.outer(frequency, 2 * frequency + 1)
    scale = torch.full((BLOCK, 1), math.sqrt(2 / BLOCK), device=like.device, dtype=like.dtype)
    scale[0] = math.sqrt(1 / BLOCK)
    return scale * angle.cos()
