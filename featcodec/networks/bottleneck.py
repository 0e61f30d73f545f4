"""The bottleneck: AE at the edge shrinks the feature tensor, AD in the cloud expands it (paper, section III-B).

AE: Conv3x3 C -> hidden, SiLU, ResBlock, Conv3x3 hidden -> bottleneck channels, no activation.
AD: Conv3x3 bottleneck -> hidden, SiLU, ResBlock, Conv3x3 hidden -> C, SiLU. AE and AD have no BatchNorm.
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
    """The content of a bottleneck checkpoint besides its weights.

    Attributes:
        feature_channels: channels of the detector's feature tensor at the split (192 for yolov5m).
        hidden_channels: channels inside AE and AD (paper: two thirds of the feature channels).
        channels: channels of the tensor (paper: one third of the feature channels).
        clip_low, clip_high: clip range of the tensor (paper: [-3, 3]).
        split: the detector layer behind which the bottleneck was trained, 0..4.
        detector_fingerprint: 16 hex digits that name the detector whose feature tensors it was trained on.
        training: how the bottleneck was trained (stage, data, hyper-parameters, metrics); free form, for people.
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
        """The 8-bit quantizer of the clip range."""
        return UniformQuantizer(self.clip_low, self.clip_high)


class Bottleneck(nn.Module):
    """AE and AD with their configuration. A new bottleneck is in eval mode; its weights must be trained or loaded."""

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
        """8 bytes that name the weights."""
        return fingerprint(self.state_dict())


def save_bottleneck(path: Path, bottleneck: Bottleneck, *, half: bool = False) -> None:
    """Write a `.safetensors` checkpoint; `load_bottleneck` reads it.

    Args:
        path: the file.
        bottleneck: the network.
        half: store numbers as float16, for shipping. The rounded weights have another fingerprint.

    Raises:
        WeightsError: a number is too large for float16.
        OutputError: the file cannot be written.
    """
    save_checkpoint(path, KIND, asdict(bottleneck.config), bottleneck.state_dict(), half=half)


def load_bottleneck(path: Path) -> Bottleneck:
    """Read a checkpoint.

    Returns:
        the bottleneck, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, is damaged or is not a bottleneck, or its config contradicts its weights.
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
        name_or_path: a `.safetensors` checkpoint, the name of a shipped bottleneck, or "none" (or None) for latent
            coding. "auto" takes the bottleneck that `model` names. If `model` names none, "auto" takes the shipped
            default of the detector and split, if any.
        detector_fingerprint: 8 bytes that name the detector.
        split: the split layer that the user wants, if any.
        model: 8 bytes that name the wanted model (detector and bottleneck), if they are known.

    Raises:
        WeightsError: the file is not a bottleneck, or the bottleneck does not fit this detector and split.
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
    """The name of a model's detector, if featcodec knows it and ships the model's bottleneck, if any. Else None.

    Args:
        model: 8 bytes that name the model (`SplitModel.fingerprint`), if they are known.
    """
    for name, fingerprint_text in DETECTOR_FINGERPRINTS.items():
        detector = bytes.fromhex(fingerprint_text)
        learned = (load_bottleneck(each.path).fingerprint() for each in shipped_for(SHIPPED_BOTTLENECKS, detector))
        if model == detector or any(model == joined_fingerprint(detector, each) for each in learned):
            return name
    return None


def check_match(config: BottleneckConfig, detector_fingerprint: bytes, split: int | None, path: str) -> None:
    """Raise WeightsError unless the bottleneck was trained behind that detector and, if one is given, that split."""
    if config.detector_fingerprint != detector_fingerprint.hex():
        raise WeightsError(
            f"{path}: trained behind the detector {config.detector_fingerprint}, but {detector_fingerprint.hex()} is "
            "loaded; give the `detector` it was trained with"
        )
    if split is not None and config.split != split:
        raise WeightsError(f"{path}: trained behind layer {config.split}, not behind layer {split}; leave `split` out")
