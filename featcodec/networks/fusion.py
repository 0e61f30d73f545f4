"""AE and AD for several levels: AE fuses them into one tensor, AD makes them out of it again. Not in the paper.

MPEG's test model for feature coding does the same (multi-scale feature fusion, arXiv:2512.10230).

AE: a convolution per level to hidden channels at one scale, the sum, SiLU, ResBlock, Conv3x3 to the tensor's channels.
Finer levels enter by strided convolutions. The others enter by 1x1 convolutions, because layers as deep as theirs
already see far; coarser ones are then repeated to the scale (nearest neighbour).
AD: Conv3x3 to hidden, SiLU, ResBlocks, an exit per level: Conv3x3, then sub-pixels for a finer level (Shi et al.,
arXiv:1609.05158), a strided convolution for a coarser one.
An exit ends in SiLU(x) + slope * x, with a learned slope per channel, 0 at first. AD for one tensor ends in SiLU,
because the layers behind which one tensor crosses end so. Most levels do, too: in a short training at a learning rate
of 0.002, exits without SiLU stayed near the means. But a deeper layer may end in a sum, for example with attention,
and then goes below SiLU's least value. With a slope, any value can be made.

A *scale* is the logarithm to base 2 of how many times smaller a tensor's sides are than those of the finest level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featcodec.errors import WeightsError
from featcodec.networks.blocks import ResBlock
from featcodec.networks.checkpoints import MAX_CHANNELS, check_sizes
from featcodec.networks.features import Features, features_of_levels, levels_of

MAX_LEVELS = 8
MAX_SCALE = 5
"""The coarsest level of a detector has 64 pixels per sample, the finest 2."""


class Level(NamedTuple):
    """Channels and scale of one level."""

    channels: int
    scale: int


class BottleneckSizes(NamedTuple):
    """Sizes of a bottleneck; see `featcodec.networks.bottleneck.BottleneckConfig`."""

    hidden_channels: int
    channels: int
    fusion_scale: int


def default_sizes(
    levels: Sequence[Level], fusion_scale: int | None = None, channels: int | None = None
) -> BottleneckSizes:
    """Sizes of a bottleneck that nobody chose.

    For one tensor, those of the paper: two thirds and one third of its channels. Several levels are fused one scale
    above the finest. There, AE computes less than a third of what it does at the finest scale, and a sample is still
    fine enough for the boxes of the finest level. At coarser scales, the tensor would need more channels, each of so
    few samples that a video codec finds little to predict. The tensor has a quarter of the samples of the finest
    level. A quarter is less than the paper's third, because deeper layers keep less of the picture; coarser levels are
    computed from the finest one and add little. Inside, there are one and a half times the tensor's channels: twice, as
    in the paper, would cost the edge of yolo11n 1.1 GFLOP per image of 512x512 pixels behind layer 10 instead of 0.7.

    Args:
        levels: the levels, the finest first.
        fusion_scale, channels: values that somebody chose, if any.
    """
    if len(levels) == 1:
        width = levels[0].channels
        # As the paper, also if the tensor's channels were chosen.
        return BottleneckSizes(max(1, round(width * 2 / 3)), channels or max(1, round(width / 3)), 0)
    scale = min(1, levels[-1].scale) if fusion_scale is None else fusion_scale
    inner = channels or min(max(1, levels[0].channels * 4**scale // 4), MAX_CHANNELS)
    return BottleneckSizes(min(-(-3 * inner // 2), MAX_CHANNELS), inner, scale)


def check_levels(channels: Sequence[int], scales: Sequence[int]) -> None:
    """Raise ValueError unless these are channels and scales of levels, the finest first."""
    if len(channels) != len(scales) or not 1 <= len(channels) <= MAX_LEVELS:
        raise ValueError(f"{len(channels)} channels and {len(scales)} scales are not 1 to {MAX_LEVELS} levels")
    check_sizes("channels of levels", channels, 1, MAX_CHANNELS)
    check_sizes("scales of levels", scales, 0, MAX_SCALE)
    if scales[0] or list(scales) != sorted(scales):
        raise ValueError(f"scales {', '.join(map(str, scales))}: not in order from 0")


def check_level_count(features: Features, count: int) -> tuple[Tensor, ...]:
    """The levels of features.

    Raises:
        WeightsError: there are more or fewer than the network takes.
    """
    levels = levels_of(features)
    if len(levels) != count:
        raise WeightsError(
            f"a network for {count} tensors was given {len(levels)}; use the detector and split it was trained with"
        )
    return levels


def at_finest(features: Features) -> Tensor:
    """All levels in one tensor, at the scale of the finest: samples of coarser levels are repeated.

    Args:
        features: (B, C, H, W) per level.

    Returns:
        (B, sum of all C, H, W); of one level, the level itself.
    """
    levels = levels_of(features)
    if len(levels) == 1:
        return levels[0]
    size = levels[0].shape[2:]
    return torch.cat([levels[0], *(F.interpolate(level, size, mode="nearest") for level in levels[1:])], 1)


def _strided(inputs: int, outputs: int, doublings: int) -> nn.Conv2d:
    """A convolution that makes the sides 2**doublings times smaller and that sees every sample.

    One doubling is that of YOLO's convolutions. Further windows do not overlap: that is cheap, and the ResBlock sees
    across their edges.
    """
    if doublings == 1:
        return nn.Conv2d(inputs, outputs, 3, 2, 1)
    return nn.Conv2d(inputs, outputs, 2**doublings, 2**doublings)


class _Entry(nn.Module):
    """One level on its way to the fusion scale: (B, C, H, W) -> (B, hidden, H', W')."""

    def __init__(self, level: Level, hidden: int, fusion_scale: int) -> None:
        super().__init__()
        down = fusion_scale - level.scale
        self.repeat = 2 ** max(-down, 0)
        self.convolution = _strided(level.channels, hidden, down) if down > 0 else nn.Conv2d(level.channels, hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.convolution(x)
        return output if self.repeat == 1 else F.interpolate(output, scale_factor=float(self.repeat), mode="nearest")


class FusingEncoder(nn.Module):
    """AE for several levels.

    Args:
        levels: the levels, the finest first.
        hidden, outputs: channels inside, and of the tensor.
        fusion_scale: the scale of the tensor.
    """

    def __init__(self, levels: Sequence[Level], hidden: int, outputs: int, fusion_scale: int) -> None:
        super().__init__()
        self.entries = nn.ModuleList(_Entry(level, hidden, fusion_scale) for level in levels)
        self.fused = nn.Sequential(nn.SiLU(), ResBlock(hidden), nn.Conv2d(hidden, outputs, 3, padding=1))

    def forward(self, features: Features) -> Tensor:
        """(B, C, H, W) per level -> (B, outputs, H', W') at the fusion scale.

        Raises:
            WeightsError: there are more or fewer levels.
        """
        levels = check_level_count(features, len(self.entries))
        first, *others = [entry(level) for entry, level in zip(self.entries, levels, strict=True)]
        output: Tensor = self.fused(sum(others, first))
        return output


class _Exit(nn.Module):
    """The way from the fusion scale to one level: (B, hidden, H', W') -> (B, C, H, W)."""

    def __init__(self, level: Level, hidden: int, fusion_scale: int) -> None:
        super().__init__()
        up = fusion_scale - level.scale
        self.convolution = (
            _strided(hidden, level.channels, -up) if up < 0 else nn.Conv2d(hidden, level.channels * 4**up, 3, padding=1)
        )
        self.shuffle = nn.PixelShuffle(2 ** max(up, 0))
        self.slope = nn.Parameter(torch.zeros(level.channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        values = self.shuffle(self.convolution(x))
        output: Tensor = F.silu(values) + self.slope * values
        return output


class SplittingDecoder(nn.Module):
    """AD for several levels.

    Args:
        levels: the levels, the finest first.
        inputs, hidden: channels of the tensor (and of the plane with the QP, if there is one), and inside.
        fusion_scale: the scale of the tensor.
        blocks: the number of ResBlocks.
    """

    def __init__(self, levels: Sequence[Level], inputs: int, hidden: int, fusion_scale: int, blocks: int = 1) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, padding=1), nn.SiLU(), *(ResBlock(hidden) for _ in range(blocks))
        )
        self.exits = nn.ModuleList(_Exit(level, hidden, fusion_scale) for level in levels)

    def forward(self, tensor: Tensor) -> Features:
        """(B, inputs, H', W') at the fusion scale -> (B, C, H, W) per level."""
        trunk = self.trunk(tensor)
        return features_of_levels([leave(trunk) for leave in self.exits])


def structure_text(levels: Sequence[Level], fusion_scale: int) -> str:
    """What tells apart networks of equal weights; see `featcodec.networks.checkpoints.fingerprint`."""
    return f"fusion at {fusion_scale}: " + ", ".join(f"{level.channels}/{level.scale}" for level in levels)


def largest_fusion_scale(levels: Sequence[Level]) -> int:
    """Beyond the coarsest level, every level would only be thrown away."""
    return max(level.scale for level in levels)
