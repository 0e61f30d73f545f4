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

BLOCK = 8
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
        rate: the rate proxy, a scalar in bits per pixel of the letterboxed image (one sample of a channel covers 64
            pixels).
        qp: (B,) float32, the QP of each tensor; 0 for those that were only clipped.
    """

    decoded: Tensor
    rate: Tensor
    qp: Tensor


def simulate_coding(coded: Tensor, simulation: SimulatedCoding) -> Simulated:
    """Clip, transform, quantize and transform back. The random numbers come from torch's global generator.

    Args:
        coded: (B, C, H, W), the tensors before coding.
        simulation: how to code them.
    """
    # Half precision would be coarser than the steps of low QPs.
    with torch.autocast(coded.device.type, enabled=False):
        return _simulate(coded.float(), simulation)


def _simulate(coded: Tensor, simulation: SimulatedCoding) -> Simulated:
    batch, _, height, width = coded.shape
    qp = torch.empty(batch, 1, 1, 1, 1, 1, device=coded.device).uniform_(simulation.qp_low, simulation.qp_high)
    sample = (simulation.clip_high - simulation.clip_low) / 255
    step = torch.exp2((qp - 4) / 6) * sample
    clipped = coded.clamp(simulation.clip_low, simulation.clip_high)
    whole_blocks = F.pad(clipped, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    coefficients = _to_frequency(whole_blocks)
    levels = coefficients.detach() / step
    quantized = levels.sign() * torch.floor(levels.abs() + _DEAD_ZONE) * step
    damaged = _from_frequency(coefficients + (quantized - coefficients).detach())[..., :height, :width]
    is_uncoded = torch.rand(batch, 1, 1, 1, device=coded.device) < simulation.uncoded
    decoded = torch.where(is_uncoded, clipped, damaged).clamp(simulation.clip_low, simulation.clip_high)
    bits = torch.log2(1 + _predicted(coefficients).abs() / step).sum()
    qps = torch.where(is_uncoded.reshape(-1), 0, qp.reshape(-1))
    return Simulated(decoded, bits / (batch * height * width * 64), qps)


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
