"""Restoration: a small network in the cloud that undoes coding noise before AD and back-end. No bit depends on it.

VVC codes the channels of a frame side by side and cannot predict one channel from another. This network sees all
channels at once: Conv3x3 (channels and one plane with the QP) -> hidden, SiLU, ResBlocks, Conv3x3 hidden -> channels.
The network adds a correction to the tensor. Up to QP 40, the correction grows with VVC's step size. That step size
doubles every 6 QPs (H.266, clause 8.7.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.bitstream import SideInfo
from featcodec.errors import WeightsError
from featcodec.networks.blocks import FULL_STRENGTH_QP, QPS_PER_DOUBLING, ResBlock
from featcodec.networks.catalogue import AUTO, NONE, SHIPPED_RESTORATIONS, shipped_for
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
from featcodec.system.devices import one_by_one

KIND = "restoration"
_OLD_KEYS = {"stream_fingerprint": "codec_fingerprint"}
_MAX_BLOCKS = 64


@dataclass(frozen=True)
class RestorationConfig:
    """The content of a restoration checkpoint besides its weights.

    Attributes:
        channels: channels of the tensor: the bottleneck's channels, or the feature tensor's channels in latent coding.
        hidden_channels: channels inside the network.
        blocks: the number of ResBlocks.
        split: last layer of the front-end, 0..127.
        stream_fingerprint: 16 hex digits; the fingerprint in the streams that the restoration was trained for.
        training: how the restoration was trained (stage, data, hyper-parameters, metrics); free form, for people.
    """

    channels: int
    hidden_channels: int
    blocks: int
    split: int
    stream_fingerprint: str
    training: dict[str, Any]


class Restoration(nn.Module):
    """The network with its configuration. A new network is in eval mode, and it changes nothing until it is trained.

    It always computes in float32, also if the other networks do not, because its corrections are small.
    """

    def __init__(self, config: RestorationConfig) -> None:
        super().__init__()
        self.config = config
        last = nn.Conv2d(config.hidden_channels, config.channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None  # noqa: S101  (a convolution has a bias by default)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Conv2d(config.channels + 1, config.hidden_channels, 3, padding=1),
            nn.SiLU(),
            *(ResBlock(config.hidden_channels) for _ in range(config.blocks)),
            last,
        )
        self.eval()

    def forward(self, coded: Tensor, qp: Tensor) -> Tensor:
        """The decoded tensor with less coding noise.

        Args:
            coded: the decoded tensors, (B, channels, H, W), dequantized; any floating dtype.
            qp: (B,) floating, the QP per tensor, 0 to 63.

        Returns:
            (B, channels, H, W) in the dtype of `coded`; not clipped.
        """
        doublings = (qp.float() - FULL_STRENGTH_QP).reshape(-1, 1, 1, 1) / QPS_PER_DOUBLING
        values = coded.float()
        plane = doublings.expand(-1, 1, *coded.shape[2:])
        correction = self.net(torch.cat((values, plane), 1))
        restored: Tensor = values + torch.exp2(doublings).clamp(max=1) * correction
        return restored.to(coded.dtype)

    def fingerprint(self) -> bytes:
        """8 bytes that name the weights."""
        return fingerprint(self.state_dict())


def default_hidden_channels(channels: int) -> int:
    """The default for `hidden_channels`: as many as the tensor has channels, but at least 48 and at most 96."""
    return min(max(channels, 48), 96)


def restore(restoration: Restoration | None, tensors: Tensor, side_infos: Sequence[SideInfo]) -> Tensor:
    """Restore decoded tensors before AD and back-end.

    Some tensors stay as they are: tensors of raw samples, which have no coding noise, and tensors of a split that the
    restoration was not trained for.

    Args:
        restoration: the network; with None, all tensors stay as they are.
        tensors: the decoded tensors, (B, C, H, W), dequantized.
        side_infos: the side infos of the B streams, all of one split.

    Returns:
        (B, C, H, W) in the dtype of `tensors`, on their device.
    """
    if restoration is None or side_infos[0].split != restoration.config.split:
        return tensors
    qp = torch.tensor([float(side_info.qp) for side_info in side_infos], device=tensors.device)
    is_raw = torch.tensor([side_info.is_raw for side_info in side_infos], device=tensors.device)
    with torch.inference_mode():
        restored = one_by_one(restoration, tensors, torch.where(is_raw, torch.zeros_like(qp), qp))
        return torch.where(is_raw.reshape(-1, 1, 1, 1), tensors, restored)


def save_restoration(path: Path, restoration: Restoration, *, half: bool = False) -> None:
    """Write a `.safetensors` checkpoint; `load_restoration` reads it.

    Args:
        path: the file.
        restoration: the network.
        half: store numbers as float16, for shipping. The rounded weights have another fingerprint.

    Raises:
        WeightsError: a number is too large for float16.
        OutputError: the file cannot be written.
    """
    save_checkpoint(path, KIND, asdict(restoration.config), restoration.state_dict(), half=half)


def load_restoration(path: Path) -> Restoration:
    """Read a checkpoint.

    Returns:
        the restoration, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, is damaged or is not a restoration, or its config contradicts its weights.
    """
    return load_network(path, KIND, _read_config, Restoration)


def _read_config(content: Mapping[str, Any]) -> RestorationConfig:
    config = config_from(RestorationConfig, content, _OLD_KEYS)
    check_sizes("channels", (config.channels, config.hidden_channels), 1, MAX_CHANNELS)
    check_sizes("blocks", [config.blocks], 0, _MAX_BLOCKS)
    check_split(config.split)
    check_fingerprint("stream fingerprint", config.stream_fingerprint)
    return config


def choose_restoration(name_or_path: str | Path | None, stream: bytes, channels: int, split: int) -> Restoration | None:
    """The restoration for the streams of a codec. It must fit the streams; it never changes what is encoded.

    Args:
        name_or_path: a `.safetensors` checkpoint, "none" (or None), or "auto": the restoration that ships for these
            streams, if any.
        stream: the fingerprint in the streams, 8 bytes.
        channels: channels of the tensors in the streams.
        split: last layer of the front-end, 0..127.

    Raises:
        WeightsError: the file is not a restoration, or the restoration does not fit these streams.
    """
    if name_or_path is None or name_or_path == NONE:
        return None
    if name_or_path != AUTO:
        restoration = load_restoration(Path(name_or_path))
        _check_match(restoration.config, stream, channels, split, str(name_or_path))
        return restoration
    for shipped in shipped_for(SHIPPED_RESTORATIONS, stream):
        restoration = load_restoration(shipped.path)
        if restoration.config.split == split:
            _check_match(restoration.config, stream, channels, split, str(shipped.path))
            return restoration
    return None


def _check_match(config: RestorationConfig, stream: bytes, channels: int, split: int, path: str) -> None:
    """Raise WeightsError unless the restoration is for that fingerprint, split and number of channels."""
    if config.stream_fingerprint != stream.hex():
        raise WeightsError(
            f"{path}: restores streams of the networks {config.stream_fingerprint}, but {stream.hex()} are loaded; "
            "give the `detector` and `bottleneck` it was trained with, or `restoration` none"
        )
    if config.split != split:
        raise WeightsError(
            f"{path}: trained behind layer {config.split}, but the streams are made behind layer {split}; give `split` "
            f"{config.split}, or `restoration` none"
        )
    if config.channels != channels:
        raise WeightsError(f"{path}: takes {config.channels} channels, but the streams have {channels}; train it again")
