"""Uniform quantization of tensors: float to unsigned samples and back. Clips, never wraps (paper, section IV-B)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError

LATENT_CLIP = (-0.2786, 3.0)
"""Clip range of latent coding: SiLU's minimum is -0.2785 (paper, section IV-B)."""


@dataclass(frozen=True)
class UniformQuantizer:
    """Maps [low, high] linearly onto the samples 0 .. 2**bits - 1. Values outside the range are clipped.

    The contract: `dequantize(quantize(x))` is within half a step of clip(x), and
    `quantize(dequantize(q)) == q` for every sample q.

    Attributes:
        low, high: the clip range in feature units; finite, low < high. Both are rounded to float32, because the
            bitstream stores float32. So encoder and decoder compute with the same numbers.
        bits: sample bit depth, 1..8.

    Raises:
        InputError: the range is empty, not finite or too narrow, or the bit depth is outside 1..8.
    """

    low: float
    high: float
    bits: int = 8

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            low, high = float(np.float32(self.low)), float(np.float32(self.high))
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"clip range [{self.low}, {self.high}] is empty or not finite; use low < high")
        if not hasattr(self.bits, "__index__") or not 1 <= self.bits <= 8:
            raise InputError(f"bit depth {self.bits} is not supported; use 1 to 8")
        if (high - low) / ((1 << self.bits) - 1) < 4 * float(np.spacing(np.float32(max(-low, high)))):
            raise InputError(f"clip range [{low}, {high}] is too narrow: its levels are equal in float32; widen it")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        object.__setattr__(self, "bits", int(self.bits))

    @property
    def levels(self) -> int:
        """The highest sample value, 2**bits - 1."""
        return (1 << self.bits) - 1

    @property
    def step(self) -> float:
        """The distance between two neighbouring levels, in feature units."""
        return (self.high - self.low) / self.levels

    def quantize(self, features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
        """Round each value to its nearest level.

        Args:
            features: float array of any shape. Infinities are clipped like every other value.

        Returns:
            uint8 array of the same shape, values 0..`levels`.

        Raises:
            InputError: a value is NaN, which no sample can stand for.
        """
        if np.isnan(features).any():
            raise InputError("the tensor holds NaN, so it cannot be quantized; check the detector's weights")
        clipped = np.clip(features.astype(np.float64, copy=False), self.low, self.high)
        return np.rint((clipped - self.low) / self.step).astype(np.uint8)

    def dequantize(self, samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The feature value that each sample stands for.

        Args:
            samples: uint8 array of any shape; values above `levels` count as `levels`.

        Returns:
            float32 array of the same shape, values in [low, high].
        """
        table = np.linspace(self.low, self.high, self.levels + 1).astype(np.float32)
        return table[np.minimum(samples, self.levels)]
