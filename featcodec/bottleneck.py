"""The bottleneck: AE at the edge shrinks the feature tensor, AD in the cloud restores it (paper, section III-B).

AE: Conv3x3 C -> hidden, SiLU, ResBlock, Conv3x3 hidden -> bottleneck channels, no activation.
AD: Conv3x3 bottleneck -> hidden, SiLU, ResBlock, Conv3x3 hidden -> C, SiLU. None of them has a BatchNorm.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.checkpoints import fingerprint, load_checkpoint, save_checkpoint
from featcodec.errors import FeatcodecError, WeightsError
from featcodec.quantize import UniformQuantizer

KIND = "bottleneck"
_MAX_CHANNELS = 4096
_SPLITS = range(5)


@dataclass(frozen=True)
class BottleneckConfig:
    """What a bottleneck checkpoint says besides its weights.

    Attributes:
        feature_channels: channels of the detector's feature tensor at the split (192 for yolov5m).
        hidden_channels: width inside AE and AD (paper: two thirds).
        channels: channels of the coded tensor (paper: one third).
        clip_low, clip_high: clip range of the coded tensor (paper: [-3, 3]).
        split: the detector layer it was trained behind, 0..4.
        detector_fingerprint: 16 hex digits; the detector whose features it was trained on.
        training: how it came to be (stage, data, hyper-parameters, metrics); free form, for people.
    """

    feature_channels: int
    hidden_channels: int
    channels: int
    clip_low: float
    clip_high: float
    split: int
    detector_fingerprint: str
    training: dict[str, Any]

    def quantizer(self) -> UniformQuantizer:
        """The 8-bit quantizer of its clip range."""
        return UniformQuantizer(self.clip_low, self.clip_high)


class ResBlock(nn.Module):
    """x + Conv3x3(SiLU(Conv3x3(x))) (paper, Fig. 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        output: Tensor = x + self.body(x)
        return output


class Bottleneck(nn.Module):
    """AE and AD with their configuration; made in eval mode, to be trained or loaded."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.config = config
        outer, hidden, inner = config.feature_channels, config.hidden_channels, config.channels
        self.encoder = nn.Sequential(
            nn.Conv2d(outer, hidden, 3, padding=1),
            nn.SiLU(),
            ResBlock(hidden),
            nn.Conv2d(hidden, inner, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(inner, hidden, 3, padding=1),
            nn.SiLU(),
            ResBlock(hidden),
            nn.Conv2d(hidden, outer, 3, padding=1),
            nn.SiLU(),
        )
        self.eval()

    def encode(self, features: Tensor) -> Tensor:
        """AE: (B, feature_channels, H, W) -> (B, channels, H, W)."""
        output: Tensor = self.encoder(features)
        return output

    def decode(self, coded: Tensor) -> Tensor:
        """AD: (B, channels, H, W) -> (B, feature_channels, H, W)."""
        output: Tensor = self.decoder(coded)
        return output

    def fingerprint(self) -> bytes:
        """8 bytes that name its weights."""
        return fingerprint(self.state_dict())


def save_bottleneck(path: Path, bottleneck: Bottleneck) -> None:
    """Write a `.safetensors` checkpoint; `load_bottleneck` reads it.

    Raises:
        OutputError: it cannot be written.
    """
    save_checkpoint(path, KIND, asdict(bottleneck.config), bottleneck.state_dict())


def load_bottleneck(path: Path) -> Bottleneck:
    """Read a checkpoint.

    Returns:
        the bottleneck, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: missing, damaged, not a bottleneck, or a config that contradicts the weights.
    """
    content, state = load_checkpoint(path, KIND)
    try:
        config = BottleneckConfig(**{field.name: content[field.name] for field in fields(BottleneckConfig)})
        sizes = (config.feature_channels, config.hidden_channels, config.channels)
        if any(not isinstance(size, int) or not 1 <= size <= _MAX_CHANNELS for size in sizes):
            raise ValueError(f"channels {sizes}")
        if not isinstance(config.split, int) or config.split not in _SPLITS:
            raise ValueError(f"split {config.split!r}")
        if not isinstance(config.detector_fingerprint, str):
            raise TypeError(f"detector fingerprint {config.detector_fingerprint!r}")
        config.quantizer()
        with torch.device("meta"):
            bottleneck = Bottleneck(config)
        # On the meta device nothing is allocated before the stored shapes have been found to match.
        bottleneck.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    except (KeyError, OverflowError, RuntimeError, TypeError, ValueError, FeatcodecError) as error:
        reason = (str(error).splitlines() or ["?"])[0]
        raise WeightsError(f"{path}: its config does not fit its weights ({reason}); train it again") from None
    return bottleneck.eval().requires_grad_(False)
