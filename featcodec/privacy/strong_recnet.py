"""The strong RecNet: an attacker's network that is not held back by the paper's choices.

RecNet mirrors the front-end and ends in a SiLU, which leaves black spots. This network keeps its width at the
resolution of the tensor, where a layer is cheap and sees far, and makes all 8x8 pixels of a sample at once by a
sub-pixel convolution (Shi et al., arXiv:1609.05158). Its output is linear. It knows the QP, as an attacker does: a
stream says it. Conv3x3 (channels and one plane with the QP) -> hidden, SiLU, ResBlocks, SiLU, Conv3x3 -> 3 * 64 values.
BatchNorm follows each convolution but the last. Without it, training may never leave one gray for every picture, on
tensors that hide much.
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
    check_sizes,
    config_from,
    load_network,
    save_checkpoint,
)

KIND = "strong-recnet"
PIXELS_PER_SAMPLE = 8
"""A sample of the tensor covers 8x8 pixels at split 4."""
DEFAULT_HIDDEN_CHANNELS = 128
"""Twice the width of the RecNet for yolov5n."""
DEFAULT_BLOCKS = 3
_MAX_BLOCKS = 64


@dataclass(frozen=True)
class StrongRecNetConfig:
    """What the checkpoint of a strong RecNet holds besides the weights.

    Attributes:
        channels: channels of the attacked tensor.
        hidden_channels: channels inside the network.
        blocks: number of ResBlocks.
        normalized: whether there is BatchNorm. The first strong RecNets had none.
        edge_fingerprint: 16 hex digits that name detector and AE (`SplitModel.edge_fingerprint`).
        training: how the network was trained (stage, data, hyper-parameters, metrics); free form, for people.
    """

    channels: int
    hidden_channels: int
    blocks: int
    edge_fingerprint: str
    training: dict[str, Any]
    normalized: bool = False

    @property
    def input_channels(self) -> int:
        """Channels of the tensor that the network starts from."""
        return self.channels


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
            nn.Conv2d(width, 3 * PIXELS_PER_SAMPLE**2, 3, padding=1),
            nn.PixelShuffle(PIXELS_PER_SAMPLE),
        )
        self.eval()

    def forward(self, coded: Tensor, qp: Tensor | None = None) -> Tensor:
        """Compute the reconstruction.

        Args:
            coded: (B, channels, H, W): the tensor, either decoded or as it was before coding.
            qp: (B,) floating, the QP of each tensor, 0 to 63. None, or 0, means a tensor before coding.

        Returns:
            (B, 3, 8 H, 8 W) RGB. The values should be in [0, 1], but they are not clipped.
        """
        # Grey as the start: without it, the first steps only learn the brightness.
        output: Tensor = 0.5 + self.net(with_qp_plane(coded, qp))
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
    config = config_from(StrongRecNetConfig, content, later=("normalized",))
    check_sizes("channels", (config.channels, config.hidden_channels), 1, MAX_CHANNELS)
    check_sizes("blocks", [config.blocks], 0, _MAX_BLOCKS)
    check_fingerprint("edge fingerprint", config.edge_fingerprint)
    return config
