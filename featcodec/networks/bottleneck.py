"""The bottleneck: AE at the edge shrinks the feature tensor, AD in the cloud expands it (paper, section III-B).

AE: Conv3x3 C -> hidden, SiLU, ResBlock, Conv3x3 hidden -> bottleneck channels, no activation.
AD: Conv3x3 bottleneck -> hidden, SiLU, ResBlock, Conv3x3 hidden -> C, SiLU. AE and AD have no BatchNorm.

Not in the paper: AD may be wider and deeper than AE, because it runs in the cloud, and it may know the QP. Then it also
undoes coding noise, and needs no restoration. And AE may fuse several levels into one tensor (`fusion`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.errors import WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.networks.blocks import channel_stack, with_qp_plane
from featcodec.networks.catalogue import (
    AUTO,
    DETECTOR_FINGERPRINTS,
    NONE,
    SHIPPED_BOTTLENECKS,
    Shipped,
    shipped_for,
)
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
from featcodec.networks.features import Features
from featcodec.networks.fusion import (
    MAX_LEVELS,
    FusingEncoder,
    Level,
    SplittingDecoder,
    check_level_count,
    check_levels,
    largest_fusion_scale,
    structure_text,
)
from featcodec.packing.quantize import UniformQuantizer

KIND = "bottleneck"
_LATER = (
    *("decoder_hidden_channels", "decoder_blocks", "decoder_knows_qp"),
    *("level_channels", "level_scales", "fusion_scale"),
)
"""Config fields that checkpoints of older versions do not have."""
_MAX_BLOCKS = 64


@dataclass(frozen=True)
class BottleneckConfig:
    """The content of a bottleneck checkpoint besides its weights.

    Attributes:
        feature_channels: channels of the detector's feature tensor at the split (192 for yolov5m); of several levels,
            the sum.
        hidden_channels: channels inside AE and AD (paper: two thirds of the feature channels).
        channels: channels of the tensor (paper: one third of the feature channels).
        clip_low, clip_high: clip range of the tensor (paper: [-3, 3]).
        split: the detector layer behind which the bottleneck was trained, 0..127.
        detector_fingerprint: 16 hex digits that name the detector whose feature tensors it was trained on.
        training: how the bottleneck was trained (stage, data, hyper-parameters, metrics); free form, for people.
        decoder_hidden_channels: channels inside AD; 0 means `hidden_channels`, as in the paper.
        decoder_blocks: ResBlocks of AD; 1 in the paper.
        decoder_knows_qp: whether AD takes the QP as one more channel (`featcodec.networks.blocks.with_qp_plane`).
        level_channels, level_scales: channels and scale of each level, the finest first, if AE fuses levels
            (`featcodec.networks.fusion`); else both are empty.
        fusion_scale: the scale of the tensor; 0 is that of the finest level.
    """

    feature_channels: int
    hidden_channels: int
    channels: int
    clip_low: float
    clip_high: float
    split: int
    detector_fingerprint: str
    training: dict[str, Any]
    decoder_hidden_channels: int = 0
    decoder_blocks: int = 1
    decoder_knows_qp: bool = False
    level_channels: tuple[int, ...] = ()
    level_scales: tuple[int, ...] = ()
    fusion_scale: int = 0

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that AE fuses, the finest first; none if AE takes one tensor, as in the paper."""
        return tuple(map(Level, self.level_channels, self.level_scales))

    def quantizer(self) -> UniformQuantizer:
        """The 8-bit quantizer of the clip range."""
        return UniformQuantizer(self.clip_low, self.clip_high)


class Bottleneck(nn.Module):
    """AE and AD with their configuration. A new bottleneck is in eval mode; its weights must be trained or loaded."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.config = config
        outer, hidden, inner = config.feature_channels, config.hidden_channels, config.channels
        width, inputs = config.decoder_hidden_channels or hidden, inner + config.decoder_knows_qp
        self.encoder: nn.Module
        self.decoder: nn.Module
        if config.levels:
            scale = config.fusion_scale
            self.encoder = FusingEncoder(config.levels, hidden, inner, scale)
            self.decoder = SplittingDecoder(config.levels, inputs, width, scale, config.decoder_blocks)
        else:
            self.encoder = nn.Sequential(*channel_stack(outer, hidden, inner))
            self.decoder = nn.Sequential(*channel_stack(inputs, width, outer, config.decoder_blocks), nn.SiLU())
        self.eval()

    def encode(self, features: Features) -> Tensor:
        """AE.

        Args:
            features: (B, feature_channels, H, W); or, if AE fuses levels, (B, C, H, W) per level, the finest first.

        Returns:
            (B, channels, H, W); of levels, at the fusion scale.

        Raises:
            WeightsError: there are more or fewer levels than AE takes.
        """
        if not self.config.levels:
            (features,) = check_level_count(features, 1)
        output: Tensor = self.encoder(features)
        return output

    def decode(self, coded: Tensor, qp: Tensor | None = None, decoder: nn.Module | None = None) -> Features:
        """AD.

        Args:
            coded: (B, channels, H, W).
            qp: (B,) floating, the QP of each tensor, 0 to 63. None, or 0, means a tensor before coding. An AD that does
                not know the QP ignores it.
            decoder: AD in another form, that computes in its place.

        Returns:
            what AE was given: (B, feature_channels, H, W), or the levels.
        """
        network = self.decoder if decoder is None else decoder
        output: Features = network(with_qp_plane(coded, qp) if self.config.decoder_knows_qp else coded)
        return output

    def fingerprint(self) -> bytes:
        """8 bytes that name the weights."""
        return fingerprint(self.state_dict(), structure=self._structure())

    def edge_fingerprint(self) -> bytes:
        """8 bytes that name the weights of AE alone."""
        return fingerprint(self.encoder.state_dict(), structure=self._structure())

    def _structure(self) -> str:
        levels = self.config.levels
        return structure_text(levels, self.config.fusion_scale) if levels else ""


def with_decoder(bottleneck: Bottleneck, hidden_channels: int, blocks: int, *, knows_qp: bool) -> Bottleneck:
    """The same AE with a larger AD, which computes the same as the given one until it is trained.

    What is new in AD starts with random weights, but nothing of it reaches the output yet (as in Net2Net, Chen et al.,
    arXiv:1511.05641). The random numbers come from torch's global generator.

    Args:
        bottleneck: AE and AD; not changed.
        hidden_channels, blocks, knows_qp: the new AD; see `BottleneckConfig`.

    Raises:
        WeightsError: the new AD would be smaller than the given one.
    """
    old = bottleneck.config
    width = old.decoder_hidden_channels or old.hidden_channels
    if hidden_channels < width or blocks < old.decoder_blocks or (old.decoder_knows_qp and not knows_qp):
        raise WeightsError(
            f"AD has {width} hidden channels and {old.decoder_blocks} blocks; give at least as many, and the QP if it "
            "knows it"
        )
    config = replace(old, decoder_hidden_channels=hidden_channels, decoder_blocks=blocks, decoder_knows_qp=knows_qp)
    larger = Bottleneck(config)
    larger.encoder.load_state_dict(bottleneck.encoder.state_dict())
    before = [module for module in bottleneck.decoder.modules() if isinstance(module, nn.Conv2d)]
    after = [module for module in larger.decoder.modules() if isinstance(module, nn.Conv2d)]
    exits = max(1, len(old.levels))
    first, *middle = before[:-exits]
    slopes = {name: slope for name, slope in bottleneck.decoder.state_dict().items() if name.endswith(".slope")}
    larger.decoder.load_state_dict(slopes, strict=False)
    with torch.no_grad():
        _grow(after[0], first)
        for number, convolution in enumerate(middle, 1):
            _grow(after[number], convolution)
        for convolution in after[len(middle) + 2 : -exits : 2]:  # the second convolution of each new ResBlock
            nn.init.zeros_(convolution.weight)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        for wider, convolution in zip(after[-exits:], before[-exits:], strict=True):
            _grow(wider, convolution)
    return larger


def _grow(larger: nn.Conv2d, smaller: nn.Conv2d) -> None:
    """Copy a convolution into a larger one. Its outputs do not depend on the new inputs."""
    outputs, inputs = smaller.weight.shape[:2]
    larger.weight[:outputs] = 0
    larger.weight[:outputs, :inputs] = smaller.weight
    if larger.bias is not None and smaller.bias is not None:
        larger.bias[:outputs] = smaller.bias


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
    config = config_from(BottleneckConfig, content, later=_LATER)
    check_sizes("feature channels", [config.feature_channels], 1, MAX_CHANNELS * MAX_LEVELS)
    check_sizes("channels", (config.hidden_channels, config.channels), 1, MAX_CHANNELS)
    if config.level_channels or config.level_scales or config.fusion_scale:
        check_levels(config.level_channels, config.level_scales)
        check_sizes("fusion scale", [config.fusion_scale], 0, largest_fusion_scale(config.levels))
        if sum(config.level_channels) != config.feature_channels:
            raise ValueError(f"levels of {sum(config.level_channels)} channels, not {config.feature_channels}")
    else:
        check_sizes("feature channels", [config.feature_channels], 1, MAX_CHANNELS)
    check_sizes("decoder hidden channels", [config.decoder_hidden_channels], 0, MAX_CHANNELS)
    check_sizes("decoder blocks", [config.decoder_blocks], 0, _MAX_BLOCKS)
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


def shipped_model(model: bytes | None) -> tuple[str, str] | None:
    """The names of a detector that featcodec knows and of the shipped bottleneck ("none" without one) that are a model.

    Args:
        model: 8 bytes that name the model (`SplitModel.fingerprint`), if they are known.

    Returns:
        detector, bottleneck; or None if featcodec does not ship that.
    """
    for name, fingerprint_text in DETECTOR_FINGERPRINTS.items():
        detector = bytes.fromhex(fingerprint_text)
        if model == detector:
            return name, NONE
        for shipped in shipped_for(SHIPPED_BOTTLENECKS, detector):
            if model == joined_fingerprint(detector, _fingerprint(shipped)):
                return name, shipped.name
    return None


@functools.cache  # thousands of streams may ask
def _fingerprint(shipped: Shipped) -> bytes:
    return load_bottleneck(shipped.path).fingerprint()


def check_match(config: BottleneckConfig, detector_fingerprint: bytes, split: int | None, path: str) -> None:
    """Raise WeightsError unless the bottleneck was trained behind that detector and, if one is given, that split."""
    if config.detector_fingerprint != detector_fingerprint.hex():
        raise WeightsError(
            f"{path}: trained behind the detector {config.detector_fingerprint}, but {detector_fingerprint.hex()} is "
            "loaded; give the `detector` it was trained with"
        )
    if split is not None and config.split != split:
        raise WeightsError(f"{path}: trained behind layer {config.split}, not behind layer {split}; leave `split` out")
