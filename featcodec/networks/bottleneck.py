"""The bottleneck: AE at the edge shrinks the feature tensor, AD in the cloud restores it (paper, section III-B).

AE: Conv3x3 C -> hidden, SiLU, ResBlock, Conv3x3 hidden -> bottleneck channels, no activation.
AD: Conv3x3 bottleneck -> hidden, SiLU, ResBlock, Conv3x3 hidden -> C, SiLU. None of them has a BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featcodec.errors import WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.networks.blocks import channel_stack
from featcodec.networks.catalogue import AUTO, DETECTOR_FINGERPRINTS, NONE, SHIPPED_BOTTLENECKS, shipped_for
from featcodec.networks.checkpoints import (
    MAX_CHANNELS,
    check_fingerprint,
    check_sizes,
    check_split,
    config_from,
    fingerprint,
    load_network,
    save_checkpoint,
)
from featcodec.packing.quantize import UniformQuantizer

KIND = "bottleneck"


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


class Bottleneck(nn.Module):
    """AE and AD with their configuration; made in eval mode, to be trained or loaded."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.config = config
        outer, hidden, inner = config.feature_channels, config.hidden_channels, config.channels
        self.encoder = nn.Sequential(*channel_stack(outer, hidden, inner))
        self.decoder = nn.Sequential(*channel_stack(inner, hidden, outer), nn.SiLU())
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


def save_bottleneck(path: Path, bottleneck: Bottleneck, *, half: bool = False) -> None:
    """Write a `.safetensors` checkpoint; `load_bottleneck` reads it.

    Args:
        path: the file.
        bottleneck: the network.
        half: store numbers as float16, for shipping; rounded weights are another bottleneck, with another fingerprint.

    Raises:
        WeightsError: a number is beyond float16's range.
        OutputError: it cannot be written.
    """
    save_checkpoint(path, KIND, asdict(bottleneck.config), bottleneck.state_dict(), half=half)


def load_bottleneck(path: Path) -> Bottleneck:
    """Read a checkpoint.

    Returns:
        the bottleneck, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: missing, damaged, not a bottleneck, or a config that contradicts the weights.
    """
    return load_network(path, KIND, _read_config, Bottleneck)


def _read_config(content: Mapping[str, Any]) -> BottleneckConfig:
    config = config_from(BottleneckConfig, content)
    sizes = (config.feature_channels, config.hidden_channels, config.channels)
    check_sizes("channels", sizes, 1, MAX_CHANNELS)
    check_split(config.split)
    check_fingerprint("detector fingerprint", config.detector_fingerprint)
    config.quantizer()
    return config


def choose_bottleneck(
    name_or_path: str | Path | None, detector_fingerprint: bytes, split: int | None = None, model: bytes | None = None
) -> Bottleneck | None:
    """The bottleneck for a detector.

    Args:
        name_or_path: a `.safetensors` checkpoint, the name of a shipped bottleneck, "none" (or None) for direct coding,
            or "auto": the one that `model` names, else the shipped default of the detector and split, else none.
        detector_fingerprint: 8 bytes.
        split: the split layer that was asked for, if any.
        model: 8 bytes that name the detector and bottleneck that are wanted, if they are known.

    Raises:
        WeightsError: not a bottleneck, or not one for this detector and split.
    """
    if name_or_path is None or name_or_path == NONE:
        return None
    shipped = shipped_for(SHIPPED_BOTTLENECKS, detector_fingerprint)
    if name_or_path == AUTO:
        return _automatic([load_bottleneck(each.path) for each in shipped], detector_fingerprint, split, model)
    by_name = {each.name: each.path for each in shipped}
    if str(name_or_path) not in by_name and any(each.name == str(name_or_path) for each in SHIPPED_BOTTLENECKS):
        raise WeightsError(
            f"the bottleneck {name_or_path} was trained behind another detector than {detector_fingerprint.hex()}; "
            "give the `detector` it was trained with, or `bottleneck` none"
        )
    bottleneck = load_bottleneck(by_name.get(str(name_or_path), Path(name_or_path)))
    check_match(bottleneck.config, detector_fingerprint, split, str(name_or_path))
    return bottleneck


def _automatic(
    candidates: list[Bottleneck], detector_fingerprint: bytes, split: int | None, model: bytes | None
) -> Bottleneck | None:
    if model == detector_fingerprint:
        return None
    for candidate in candidates:
        if model == joined_fingerprint(detector_fingerprint, candidate.fingerprint()):
            return candidate
    return next((each for each in candidates if split in (None, each.config.split)), None)


def detector_of(model: bytes | None) -> str | None:
    """The name of the detector in a model that featcodec ships a part of, or None for any other model.

    Args:
        model: 8 bytes that name detector and bottleneck (`SplitModel.fingerprint`), if they are known.
    """
    for name, fingerprint_text in DETECTOR_FINGERPRINTS.items():
        detector = bytes.fromhex(fingerprint_text)
        learned = (load_bottleneck(each.path).fingerprint() for each in shipped_for(SHIPPED_BOTTLENECKS, detector))
        if model == detector or any(model == joined_fingerprint(detector, each) for each in learned):
            return name
    return None


def check_match(config: BottleneckConfig, detector_fingerprint: bytes, split: int | None, path: str) -> None:
    """Raise WeightsError unless it was trained behind that detector, and that split where one is given."""
    if config.detector_fingerprint != detector_fingerprint.hex():
        raise WeightsError(
            f"{path}: trained behind the detector {config.detector_fingerprint}, but {detector_fingerprint.hex()} is "
            "loaded; give the `detector` it was trained with"
        )
    if split is not None and config.split != split:
        raise WeightsError(f"{path}: trained behind layer {config.split}, not {split}; leave `split` out")
