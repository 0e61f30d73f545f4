"""The strong RecNet: an attacker's network that is not held back by the paper's choices.

RecNet mirrors the front-end and ends in a SiLU, which leaves black spots. This network keeps its width at the
resolution of the tensor, where a layer is cheap and sees far, and makes all pixels of a sample (8x8) at once by a
sub-pixel convolution (Shi et al., arXiv:1609.05158). Its output is linear. It knows the QP, as an attacker does: a
stream says it. Conv3x3 (channels and one plane with the QP) -> hidden, SiLU, ResBlocks, SiLU, Conv3x3 -> 3 * 64 values.
BatchNorm follows each convolution but the last. Without it, training may never leave one gray for every picture, on
tensors that hide much. If several tensors cross, the samples of the coarser ones are repeated to the size of the
finest, and all are concatenated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featcodec.networks.blocks import ConvBlock, ResBlock, with_qp_plane
from featcodec.networks.checkpoints import (
    MAX_CHANNELS,
    check_fingerprint,
    check_power_of_two,
    check_sizes,
    check_split,
    config_from,
    load_network,
    save_checkpoint,
)
from featcodec.networks.features import Features
from featcodec.networks.fusion import MAX_LEVELS, Level, at_finest, check_level_count, check_levels

KIND = "strong-recnet"
PIXELS_PER_SAMPLE = 8
"""A sample of the tensor covers 8x8 pixels at split 4."""
_MAX_PIXELS = 64
_LATER = ("normalized", "split", "pixels_per_sample", "level_channels", "level_scales")
DEFAULT_HIDDEN_CHANNELS = 128
"""Twice the width of the RecNet for yolov5n."""
DEFAULT_BLOCKS = 3
_MAX_BLOCKS = 64


@dataclass(frozen=True)
class StrongRecNetConfig:
    """What the checkpoint of a strong RecNet holds besides the weights.

    Attributes:
        channels: channels of the attacked tensor; of several, the sum.
        hidden_channels: channels inside the network.
        blocks: number of ResBlocks.
        normalized: whether there is BatchNorm. The first strong RecNets had none.
        edge_fingerprint: 16 hex digits that name detector and AE (`SplitModel.edge_fingerprint`).
        training: how the network was trained (stage, data, hyper-parameters, metrics); free form, for people.
        split: the last layer of the front-end.
        pixels_per_sample: pixels that a sample of the finest tensor covers, per side: a power of two.
        level_channels, level_scales: channels and scale of each tensor, the finest first; none for one.
    """

    channels: int
    hidden_channels: int
    blocks: int
    edge_fingerprint: str
    training: dict[str, Any]
    normalized: bool = False
    split: int = 4
    pixels_per_sample: int = PIXELS_PER_SAMPLE
    level_channels: tuple[int, ...] = ()
    level_scales: tuple[int, ...] = ()

    @property
    def input_channels(self) -> int:
        """Channels of the tensor that the network starts from; of several, the sum."""
        return self.channels

    @property
    def inputs(self) -> tuple[Level, ...]:
        """Channels and scale of each tensor that the network starts from, the finest first."""
        return tuple(map(Level, self.level_channels, self.level_scales)) or (Level(self.channels, 0),)


def _first(inputs: int, outputs: int, *, normalized: bool) -> list[nn.Module]:
    """Conv3x3, BatchNorm if wanted, SiLU."""
    return [ConvBlock(inputs, outputs)] if normalized else [nn.Conv2d(inputs, outputs, 3, padding=1), nn.SiLU()]


class StrongRecNet(nn.Module):
    """The network with its configuration. A new network is in eval mode, ready to be trained or loaded."""

    def __init__(self, config: StrongRecNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_channels
        self.net = nn.Sequential(
            *_first(config.channels + 1, width, normalized=config.normalized),
            *(ResBlock(width, normalized=config.normalized) for _ in range(config.blocks)),
            nn.SiLU(),
            nn.Conv2d(width, 3 * config.pixels_per_sample**2, 3, padding=1),
            nn.PixelShuffle(config.pixels_per_sample),
        )
        self.eval()

    def forward(self, coded: Features, qp: Tensor | None = None) -> Tensor:
        """Compute the reconstruction.

        Args:
            coded: (B, channels, H, W): the tensor, either decoded or as it was before coding; or a tuple with such a
                tensor per level.
            qp: (B,) floating, the QP of each tensor, 0 to 63. None, or 0, means a tensor before coding.

        Returns:
            (B, 3, pixels_per_sample * H, pixels_per_sample * W) RGB, where H and W are those of the finest tensor. The
            values should be in [0, 1], but they are not clipped.

        Raises:
            WeightsError: there are more or fewer tensors than the network takes.
        """
        check_level_count(coded, len(self.config.inputs))
        # Grey as the start: without it, the first steps only learn the brightness.
        output: Tensor = 0.5 + self.net(with_qp_plane(at_finest(coded), qp))
        return output


def save_strong_recnet(path: Path, recnet: StrongRecNet, *, half: bool = False) -> None:
    """Write a `.safetensors` checkpoint. `load_strong_recnet` reads such a file.

    Args:
        path: the file.
        recnet: the network.
        half: store numbers as float16, for shipping.

    Raises:
        WeightsError: a number is outside the range of float16.
        OutputError: the file cannot be written.
    """
    save_checkpoint(path, KIND, asdict(recnet.config), recnet.state_dict(), half=half)


def load_strong_recnet(path: Path) -> StrongRecNet:
    """Read a checkpoint.

    Returns:
        the network, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, damaged or not a strong RecNet, or its config contradicts the weights.
    """
    return load_network(path, KIND, _read_config, StrongRecNet)


def _read_config(content: Mapping[str, Any]) -> StrongRecNetConfig:
    config = config_from(StrongRecNetConfig, content, later=_LATER)
    check_sizes("channels", [config.channels], 1, MAX_CHANNELS * MAX_LEVELS)
    check_sizes("hidden channels", [config.hidden_channels], 1, MAX_CHANNELS)
    check_power_of_two("pixels per sample", config.pixels_per_sample, _MAX_PIXELS)
    if config.level_channels or config.level_scales:
        check_levels(config.level_channels, config.level_scales)
        if sum(config.level_channels) != config.channels:
            raise ValueError(f"levels of {sum(config.level_channels)} channels, not {config.channels}")
    else:
        check_sizes("channels", [config.channels], 1, MAX_CHANNELS)
    check_split(config.split)
    check_sizes("blocks", [config.blocks], 0, _MAX_BLOCKS)
    check_fingerprint("edge fingerprint", config.edge_fingerprint)
    return config
