"""RecNet, the attacker's network: it turns a tensor back into a picture (paper, section III-C, Figs. 1 and 2).

RecNet mirrors AE and front-end. Conv is Conv2d, BatchNorm, SiLU; Deconv is ConvTranspose2d, BatchNorm, SiLU.
RecNet-bottleneck starts from the output of AE. RecNet-latent starts from the feature tensor of the detector, and does
not have the first three layers. A RecNet belongs to one model. The fingerprint in its config names this model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featcodec.errors import FeatcodecError
from featcodec.networks.blocks import ConvBlock, channel_stack
from featcodec.networks.checkpoints import (
    MAX_CHANNELS,
    check_fingerprint,
    check_sizes,
    config_from,
    load_network,
    save_checkpoint,
)

KIND = "recnet"
_OLD_KEYS = {"model_fingerprint": "codec_fingerprint"}
_LEAST_CHANNELS = 4  # because they are halved twice
_MAX_REPEATS = 64


@dataclass(frozen=True)
class RecNetConfig:
    """What a RecNet checkpoint holds besides the weights.

    Attributes:
        feature_channels: channels of the detector's feature tensor after model.4 (192 for yolov5m).
        hidden_channels, channels: the same as in the bottleneck, or both 0 for RecNet-latent.
        repeats: number of inverse bottlenecks in the two inverse-C3 blocks, deepest first (paper, yolov5m: 4 and 2).
        model_fingerprint: 16 hex digits that name the model that was attacked in training (`SplitModel.fingerprint`).
        training: how the network was trained (stage, data, hyper-parameters, metrics); free form, for people.
        edge_fingerprint: 16 hex digits that name detector and AE (`SplitModel.edge_fingerprint`). It is empty in older
            checkpoints, which attack only the model of `model_fingerprint`.
    """

    feature_channels: int
    hidden_channels: int
    channels: int
    repeats: tuple[int, int]
    model_fingerprint: str
    training: dict[str, Any]
    edge_fingerprint: str = ""

    @property
    def input_channels(self) -> int:
        """Channels of the tensor that RecNet starts from."""
        return self.channels or self.feature_channels


class _Deconv(nn.Sequential):
    """A layer that doubles height and width. Kernel and padding are the same as in the convolution that it inverts."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        padding = (kernel - 1) // 2
        odd = kernel % 2
        super().__init__(
            nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding, output_padding=odd, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(),
        )


class _InverseBottleneck(nn.Module):
    """x + Conv1x1(Conv3x3(x)): the reverse of a bottleneck block of the front-end."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(channels, channels), ConvBlock(channels, channels, 1, padding=0))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.body(x)
        return output


class _InverseC3(nn.Module):
    """Conv1x1 doubles the channels. One half goes through the repeats. Each half then has a Conv1x1; both are added."""

    def __init__(self, channels: int, repeats: int) -> None:
        super().__init__()
        self.expand = ConvBlock(channels, 2 * channels, 1, padding=0)
        self.repeats = nn.Sequential(*(_InverseBottleneck(channels) for _ in range(repeats)))
        self.through = ConvBlock(channels, channels, 1, padding=0)
        self.beside = ConvBlock(channels, channels, 1, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.expand(x).chunk(2, 1)
        output: Tensor = self.through(self.repeats(first)) + self.beside(second)
        return output


class RecNet(nn.Module):
    """The network with its configuration. A new network is in eval mode, ready to be trained or loaded."""

    def __init__(self, config: RecNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.feature_channels
        self.restore = nn.Sequential()
        if config.channels:
            self.restore = nn.Sequential(
                *channel_stack(config.channels, config.hidden_channels, width),
                nn.SiLU(),
            )
        deep, shallow = config.repeats
        self.invert = nn.Sequential(
            _InverseC3(width, deep),
            _Deconv(width, width // 2, 3),
            _InverseC3(width // 2, shallow),
            _Deconv(width // 2, width // 4, 3),
            _Deconv(width // 4, 3, 6),
        )
        self.eval()

    def forward(self, coded: Tensor, qp: Tensor | None = None) -> Tensor:
        """Compute the reconstruction.

        Args:
            coded: (B, input_channels, H, W): the tensor, either decoded or as it was before coding.
            qp: not used: this network does not know the QP.

        Returns:
            (B, 3, 8 H, 8 W) RGB. The values should be in [0, 1], but they are not clipped.
        """
        output: Tensor = self.invert(self.restore(coded))
        return output


def mirrored_repeats(front_end: Sequence[nn.Module]) -> tuple[int, int]:
    """Return the repeats of the two inverse-C3 blocks that mirror the C3 blocks of a front-end, deepest first.

    Args:
        front_end: the layers model.0 .. model.4 of a detector.

    Raises:
        FeatcodecError: the front-end does not have exactly two C3 blocks, for example with a split before model.4.
    """
    blocks = [getattr(layer, "m", None) for layer in front_end]
    repeats = [len(block) for block in blocks if isinstance(block, nn.Sequential)]
    if len(repeats) != 2:
        raise FeatcodecError(f"RecNet mirrors a front-end with two C3 blocks, but this has {len(repeats)}; use split 4")
    return repeats[1], repeats[0]


def save_recnet(path: Path, recnet: RecNet, *, half: bool = False) -> None:
    """Write a `.safetensors` checkpoint. `load_recnet` reads such a file.

    Args:
        path: the file.
        recnet: the network.
        half: store numbers as float16, for shipping.

    Raises:
        WeightsError: a number is outside the range of float16.
        OutputError: the file cannot be written.
    """
    save_checkpoint(path, KIND, asdict(recnet.config), recnet.state_dict(), half=half)


def load_recnet(path: Path) -> RecNet:
    """Read a checkpoint.

    Returns:
        the network, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, damaged or not a RecNet, or its config contradicts the weights.
    """
    return load_network(path, KIND, _read_config, RecNet)


def _read_config(content: Mapping[str, Any]) -> RecNetConfig:
    config = config_from(RecNetConfig, content, _OLD_KEYS, later=("edge_fingerprint",))
    check_sizes("feature channels", [config.feature_channels], _LEAST_CHANNELS, MAX_CHANNELS)
    inner = (config.hidden_channels, config.channels)
    # RecNet-latent has neither hidden channels nor channels.
    check_sizes("channels", inner, min(1, *inner), MAX_CHANNELS)
    if any(inner) != all(inner):
        raise ValueError(f"channels {inner}: one is 0 and the other is not")
    check_sizes("repeats", config.repeats, 0, _MAX_REPEATS)
    check_fingerprint("model fingerprint", config.model_fingerprint)
    if config.edge_fingerprint:
        check_fingerprint("edge fingerprint", config.edge_fingerprint)
    return config
