"""RecNet, the attacker's network: it turns a tensor back into a picture (paper, section III-C, Figs. 1 and 2).

RecNet mirrors AE and front-end. Conv is Conv2d, BatchNorm, SiLU; Deconv is ConvTranspose2d, BatchNorm, SiLU.
RecNet-bottleneck starts from the output of AE. RecNet-latent starts from the feature tensor of the detector, and does
not have the first three layers. A RecNet belongs to one model. The fingerprint in its config names this model.

The paper mirrors a YOLOv5 that is split behind model.4. Any other front-end is mirrored layer by layer (`mirror`). If
several levels cross, RecNet starts from the coarsest. Each finer level joins where the front-end emits it, which is
where the way back to the picture reaches its size: it is concatenated, and a Conv1x1 follows. If AE fuses levels,
RecNet starts with layers as those of AD, which make the levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.networks.blocks import ConvBlock, channel_stack
from featcodec.networks.checkpoints import (
    MAX_CHANNELS,
    check_fingerprint,
    check_sizes,
    check_split,
    config_from,
    load_network,
    save_checkpoint,
)
from featcodec.networks.features import Features
from featcodec.networks.fusion import (
    MAX_LEVELS,
    Level,
    SplittingDecoder,
    check_level_count,
    check_levels,
    largest_fusion_scale,
)
from featcodec.privacy.mirror import C3, MAX_REPEATS, Stage, check_stages, doublings_of, paper_stages

KIND = "recnet"
_OLD_KEYS = {"model_fingerprint": "codec_fingerprint"}
_LEAST_CHANNELS = 4  # because they are halved twice
_LATER = ("edge_fingerprint", "split", "stages", "level_channels", "level_scales", "fusion_scale")


@dataclass(frozen=True)
class RecNetConfig:
    """What a RecNet checkpoint holds besides the weights.

    Attributes:
        feature_channels: channels of the detector's feature tensor (192 for yolov5m); of several levels, the sum.
        hidden_channels, channels: the same as in the bottleneck, or both 0 for RecNet-latent.
        repeats: number of inverse bottlenecks in the two inverse-C3 blocks, deepest first (paper, yolov5m: 4 and 2);
            both 0 if there are `stages`.
        model_fingerprint: 16 hex digits that name the model that was attacked in training (`SplitModel.fingerprint`).
        training: how the network was trained (stage, data, hyper-parameters, metrics); free form, for people.
        edge_fingerprint: 16 hex digits that name detector and AE (`SplitModel.edge_fingerprint`). It is empty in older
            checkpoints, which attack only the model of `model_fingerprint`.
        split: the last layer of the front-end.
        stages: what mirrors the front-end (`featcodec.privacy.mirror.Stage`); none means the paper's, with `repeats`.
        level_channels, level_scales: channels and scale of each level, the finest first; none for one feature tensor.
        fusion_scale: the same as in the bottleneck.
    """

    feature_channels: int
    hidden_channels: int
    channels: int
    repeats: tuple[int, int]
    model_fingerprint: str
    training: dict[str, Any]
    edge_fingerprint: str = ""
    split: int = 4
    stages: tuple[Stage, ...] = ()
    level_channels: tuple[int, ...] = ()
    level_scales: tuple[int, ...] = ()
    fusion_scale: int = 0

    @property
    def levels(self) -> tuple[Level, ...]:
        """Channels and scale of what the front-end emits, the finest first."""
        return tuple(map(Level, self.level_channels, self.level_scales)) or (Level(self.feature_channels, 0),)

    @property
    def input_channels(self) -> int:
        """Channels of the tensor that RecNet starts from; of several, the sum."""
        return self.channels or self.feature_channels

    @property
    def inputs(self) -> tuple[Level, ...]:
        """Channels and scale of each tensor that RecNet starts from, the finest first."""
        return (Level(self.channels, 0),) if self.channels else self.levels

    @property
    def plan(self) -> tuple[Stage, ...]:
        """What mirrors the front-end: `stages`, or those of the paper."""
        return self.stages or paper_stages(self.feature_channels, self.repeats)

    @property
    def pixels_per_sample(self) -> int:
        """Pixels that a sample of the finest tensor covers, per side."""
        finest = doublings_of(self.plan) - self.levels[-1].scale
        return 1 << (finest + (self.fusion_scale if self.channels else 0))


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
    """Conv1x1 doubles the channels. One half goes through the repeats. Each half then has a Conv1x1; both are added.

    Where the front-end's block changed the number of channels, Conv1x1 makes twice the number that it had before.
    """

    def __init__(self, inputs: int, channels: int, repeats: int) -> None:
        super().__init__()
        self.expand = ConvBlock(inputs, 2 * channels, 1, padding=0)
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
        self.restore = _restore(config)
        modules: list[nn.Module] = []
        joins: dict[str, nn.Module] = {}
        inputs, scale = _start_width(config), config.levels[-1].scale
        if len(_channels_at(config, scale)) > 1:
            joins["start"] = ConvBlock(sum(_channels_at(config, scale)), inputs, 1, padding=0)
        for number, (kind, outputs, size) in enumerate(config.plan):
            if kind == C3:
                modules.append(_InverseC3(inputs, outputs, size))
            else:
                modules.append(_Deconv(inputs, outputs, size))
                scale -= 1
                if joining := _channels_at(config, scale):
                    joins[str(number)] = ConvBlock(outputs + sum(joining), outputs, 1, padding=0)
            inputs = outputs
        self.invert = nn.Sequential(*modules)
        self.joins = nn.ModuleDict(joins)
        self.eval()

    def forward(self, coded: Features, qp: Tensor | None = None) -> Tensor:
        """Compute the reconstruction.

        Args:
            coded: (B, input_channels, H, W): the tensor, either decoded or as it was before coding; or a tuple with
                such a tensor per level.
            qp: not used: this network does not know the QP.

        Returns:
            (B, 3, pixels_per_sample * H, pixels_per_sample * W) RGB, where H and W are those of the finest tensor. The
            values should be in [0, 1], but they are not clipped.

        Raises:
            WeightsError: there are more or fewer tensors than RecNet takes.
        """
        check_level_count(coded, len(self.config.inputs))
        levels = check_level_count(self.restore(coded), len(self.config.levels))
        by_scale: dict[int, list[Tensor]] = {}
        for level, of in zip(levels, self.config.levels, strict=True):
            by_scale.setdefault(of.scale, []).append(level)
        scale = self.config.levels[-1].scale
        output = self._join("start", by_scale[scale])
        for number, stage in enumerate(self.invert):
            output = stage(output)
            if isinstance(stage, _Deconv):
                scale -= 1
                output = self._join(str(number), [output, *by_scale.get(scale, ())])
        return output

    def _join(self, place: str, tensors: list[Tensor]) -> Tensor:
        if place not in self.joins:
            (alone,) = tensors
            return alone
        output: Tensor = self.joins[place](torch.cat(tensors, 1))
        return output


def _restore(config: RecNetConfig) -> nn.Module:
    """What undoes AE, as AD does; nothing for RecNet-latent."""
    if not config.channels:
        return nn.Sequential()
    if config.level_channels:
        return SplittingDecoder(config.levels, config.channels, config.hidden_channels, config.fusion_scale)
    return nn.Sequential(
        *channel_stack(config.channels, config.hidden_channels, config.feature_channels),
        nn.SiLU(),
    )


def _channels_at(config: RecNetConfig, scale: int) -> list[int]:
    """Channels of the levels of a scale."""
    return [level.channels for level in config.levels if level.scale == scale]


def _start_width(config: RecNetConfig) -> int:
    """Channels at the start: those of the coarsest level, and of several the widest."""
    return max(_channels_at(config, config.levels[-1].scale))


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
    config = config_from(RecNetConfig, content, _OLD_KEYS, later=_LATER)
    inner = (config.hidden_channels, config.channels)
    # RecNet-latent has neither hidden channels nor channels.
    check_sizes("channels", inner, min(1, *inner), MAX_CHANNELS)
    if any(inner) != all(inner):
        raise ValueError(f"channels {inner}: one is 0 and the other is not")
    _check_levels(config)
    if config.stages:
        check_stages(config.stages, config.levels[-1].scale)
        check_sizes("repeats beside stages", config.repeats, 0, 0)
    else:
        check_sizes("feature channels", [config.feature_channels], _LEAST_CHANNELS, MAX_CHANNELS)
        check_sizes("repeats", config.repeats, 0, MAX_REPEATS)
    check_split(config.split)
    check_fingerprint("model fingerprint", config.model_fingerprint)
    if config.edge_fingerprint:
        check_fingerprint("edge fingerprint", config.edge_fingerprint)
    return config


def _check_levels(config: RecNetConfig) -> None:
    check_sizes("feature channels", [config.feature_channels], 1, MAX_CHANNELS * MAX_LEVELS)
    if not (config.level_channels or config.level_scales or config.fusion_scale):
        check_sizes("feature channels", [config.feature_channels], 1, MAX_CHANNELS)
        return
    check_levels(config.level_channels, config.level_scales)
    check_sizes("fusion scale", [config.fusion_scale], 0, largest_fusion_scale(config.levels) if config.channels else 0)
    if sum(config.level_channels) != config.feature_channels or not config.stages:
        raise ValueError("the levels have other channels in all, or there are no stages")
