"""The direct reader: reads number plates in the tensor itself, without a picture in between.

A reconstruction shows what its attacker was trained to show. Text that the tensor still holds may be missing there. So
this network is trained on the tensors of one edge (front-end and AE), for the characters alone. Each plate is given by
its box, as for the reader of pictures. The network looks at a window of the tensor around the box, spreads the channels
of each sample over the pixels that it covers (Shi et al., arXiv:1609.05158), cuts the box out, and reads its columns.

The network is made for samples of 8x8 pixels. Where they cover more or fewer, `on_grid` arranges the tensor so first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.networks.blocks import ConvBlock
from featcodec.networks.catalogue import SHIPPED_FOLDER
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
from featcodec.privacy.text_head import MARGIN, PLATE_FORMAT, TextReader, check_alphabets

KIND = "direct-reader"
GRID = 8
"""Pixels per sample of the tensor that the network looks at, per side."""
WINDOW_HEIGHT, WINDOW_WIDTH = 10, 24
"""Size of the window that the network looks at, in samples: 80x192 pixels."""
_LARGEST = 0.75
"""A box may take this share of a side of the window. The tensor around a larger box is shrunk."""
_SPREAD = 4
"""Each sample becomes 4x4 points, one for 2x2 pixels."""
_CROP_HEIGHT, _CROP_WIDTH = 16, 64
_MAX_CHANNELS = 512
_MAX_PIXELS = 64
_LATER = ("split", "pixels_per_sample")
_BATCH = 64

SampleBox = tuple[float, float, float, float]
"""left, top, right, bottom in samples of the tensor."""


@dataclass(frozen=True)
class DirectReaderConfig:
    """What the checkpoint of a direct reader holds besides the weights.

    Attributes:
        channels: channels of the tensor that crosses the wire.
        edge_fingerprint: 16 hex digits that name the edge (`SplitModel.edge_fingerprint`).
        alphabets: the possible characters at each position.
        hidden_channels: channels of the window's convolutions, of the spread points, and of the box's convolutions.
        training: how the network was trained (stage, data, hyper-parameters, metrics); free form, for people.
        split: the last layer of the front-end.
        pixels_per_sample: pixels that a sample of the tensor covers, per side: a power of two.
    """

    channels: int
    edge_fingerprint: str
    alphabets: tuple[str, ...] = PLATE_FORMAT
    hidden_channels: tuple[int, int, int] = (64, 24, 64)
    training: dict[str, Any] = field(default_factory=dict)
    split: int = 4
    pixels_per_sample: int = GRID

    @property
    def grid_channels(self) -> int:
        """Channels of the tensor on the network's grid; see `on_grid`."""
        return self.channels * max(1, GRID // self.pixels_per_sample) ** 2


class _Residual(nn.Module):
    """x + Conv3x3(Conv3x3(x)), each with BatchNorm and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(channels, channels), ConvBlock(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.body(x)
        return output


class DirectReader(TextReader):
    """The network with its configuration. A new network is in eval mode, ready to be trained or loaded."""

    def __init__(self, config: DirectReaderConfig) -> None:
        super().__init__(config.alphabets)
        self.config = config
        wide, points, last = config.hidden_channels
        self.window = nn.Sequential(
            nn.BatchNorm2d(config.grid_channels),
            ConvBlock(config.grid_channels, wide),
            _Residual(wide),
            nn.Conv2d(wide, points * _SPREAD**2, 1),
            nn.PixelShuffle(_SPREAD),
        )
        self.box = nn.Sequential(
            ConvBlock(points, last),
            ConvBlock(last, last, stride=2),
            _Residual(last),
            ConvBlock(last, last, stride=(2, 1)),
            ConvBlock(last, last, kernel=(_CROP_HEIGHT // 4, 1), padding=0),
        )
        self.make_head(last, _CROP_WIDTH // 2)
        self.eval()

    def forward(self, windows: Tensor, boxes: Tensor) -> Tensor:
        """Compute how likely each character is.

        Args:
            windows: (B, grid_channels, 10, 24) float, parts of tensors; see `cut_windows`.
            boxes: (B, 4) float: left, top, right and bottom of the plate in samples of its window.

        Returns:
            (B, positions, characters) logits; -inf for a character that the format does not allow.
        """
        # Half precision would move the points of the grid by a tenth of a sample.
        points = self.window(windows).float()
        crops = nn.functional.grid_sample(points, _grid(boxes.float()), padding_mode="border", align_corners=False)
        return self.logits_of(self.box(crops).squeeze(2))

    def read(self, windows: Tensor, boxes: Tensor) -> list[str]:
        """Return the most likely text of each window; arguments as in `forward`, on any device; B may be 0."""
        device = self.places.device
        texts: list[str] = []
        for first in range(0, len(windows), _BATCH):
            part = slice(first, first + _BATCH)
            with torch.inference_mode():
                texts += self.texts_of(self(windows[part].float().to(device), boxes[part].float().to(device)))
        return texts


def on_grid(tensors: Tensor, pixels_per_sample: int) -> Tensor:
    """Arrange tensors so that a sample covers 8x8 pixels. Nothing is lost.

    Small samples become channels of one sample, large ones are repeated.

    Args:
        tensors: (..., C, h, w) float.
        pixels_per_sample: pixels that a sample covers, per side: a power of two.

    Returns:
        (..., C n n, h / n, w / n), n being 8 / pixels_per_sample; or (..., C, n h, n w), n being pixels_per_sample / 8.
    """
    if pixels_per_sample < GRID:
        return nn.functional.pixel_unshuffle(tensors, GRID // pixels_per_sample)
    times = pixels_per_sample // GRID
    return tensors if times == 1 else tensors.repeat_interleave(times, -1).repeat_interleave(times, -2)


def cut_windows(tensor: Tensor, boxes: Sequence[SampleBox]) -> tuple[Tensor, Tensor]:
    """Cut windows of a tensor around boxes.

    A window starts at a whole sample, and its samples are those of the tensor. Only around a box that is too large for
    the window, the tensor is shrunk bilinearly. Beyond the edge of the tensor its last samples are repeated.

    Args:
        tensor: (channels, h, w) float, as `on_grid` arranges it.
        boxes: the plates in samples of the tensor. Parts of a box outside the tensor are cut away.

    Returns:
        (N, channels, 10, 24) windows and (N, 4) float32 boxes, as `DirectReader.forward` takes them.
    """
    channels, height, width = tensor.shape
    windows = tensor.new_empty(len(boxes), channels, WINDOW_HEIGHT, WINDOW_WIDTH)
    inside = torch.empty(len(boxes), 4)
    for number, (left, top, right, bottom) in enumerate(boxes):
        x0, x1 = (min(max(edge, 0.0), float(width)) for edge in (left, right))
        y0, y1 = (min(max(edge, 0.0), float(height)) for edge in (top, bottom))
        # Samples of the tensor per sample of the window.
        shrink = max(1.0, (x1 - x0) / (_LARGEST * WINDOW_WIDTH), (y1 - y0) / (_LARGEST * WINDOW_HEIGHT))
        start_x, start_y = (
            (first + last) / 2 - shrink * size / 2
            for first, last, size in ((x0, x1, WINDOW_WIDTH), (y0, y1, WINDOW_HEIGHT))
        )
        if shrink == 1:
            start_x, start_y = float(round(start_x)), float(round(start_y))
        columns = _positions(start_x, shrink, WINDOW_WIDTH, width)
        rows = _positions(start_y, shrink, WINDOW_HEIGHT, height)
        windows[number] = _sampled(_sampled(tensor, rows, 1), columns, 2)
        edges = ((x0 - start_x), (y0 - start_y), (x1 - start_x), (y1 - start_y))
        inside[number] = torch.tensor([edge / shrink for edge in edges])
    return windows, inside


def _positions(start: float, step: float, count: int, length: int) -> Tensor:
    """Where the middles of a window's samples are, counted from the middle of the tensor's first sample."""
    middles = start + step * (torch.arange(count, dtype=torch.float64) + 0.5) - 0.5
    return middles.clamp(0, length - 1)


def _sampled(tensor: Tensor, positions: Tensor, dim: int) -> Tensor:
    """Interpolate along one dimension. Whole positions give the tensor's own samples, bit for bit."""
    first = positions.floor().long()
    second = positions.ceil().long()
    if torch.equal(first, second):
        return tensor.index_select(dim, first.to(tensor.device))
    share = (positions - first).to(tensor).reshape([-1 if axis == dim else 1 for axis in range(tensor.dim())])
    lower, upper = (tensor.index_select(dim, index.to(tensor.device)) for index in (first, second))
    return lower + (upper - lower) * share


def _grid(boxes: Tensor) -> Tensor:
    """The points of each box with its margin, as `grid_sample` takes them: (B, 4) -> (B, 16, 64, 2)."""
    first, last = boxes[:, :2], boxes[:, 2:]
    # Even a box without area has a point in its middle.
    half = (last - first).clamp_min(1 / 8) * (0.5 + MARGIN)
    middle = (first + last) / 2
    across, down = (
        (2 * torch.arange(count, device=boxes.device) + 1) / count - 1 for count in (_CROP_WIDTH, _CROP_HEIGHT)
    )
    x = middle[:, :1] + half[:, :1] * across
    y = middle[:, 1:] + half[:, 1:] * down
    x, y = x / WINDOW_WIDTH * 2 - 1, y / WINDOW_HEIGHT * 2 - 1
    size = len(boxes), _CROP_HEIGHT, _CROP_WIDTH
    return torch.stack((x[:, None, :].expand(size), y[:, :, None].expand(size)), -1)


def save_direct_reader(path: Path, reader: DirectReader) -> None:
    """Write a `.safetensors` checkpoint in float16. `load_direct_reader` reads such a file.

    Raises:
        WeightsError: a number is outside the range of float16.
        OutputError: the file cannot be written.
    """
    save_checkpoint(path, KIND, asdict(reader.config), reader.state_dict(), half=True)


def load_direct_reader(path: Path) -> DirectReader:
    """Read a checkpoint.

    Returns:
        the network, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, damaged or not a direct reader, or its config contradicts the weights.
    """
    return load_network(path, KIND, _read_config, DirectReader)


def _read_config(content: Mapping[str, Any]) -> DirectReaderConfig:
    config = config_from(DirectReaderConfig, content, later=_LATER)
    check_sizes("tensor channels", [config.channels], 1, MAX_CHANNELS)
    check_sizes("hidden channels", config.hidden_channels, 1, _MAX_CHANNELS)
    check_alphabets(config.alphabets)
    check_fingerprint("edge fingerprint", config.edge_fingerprint)
    check_split(config.split)
    check_power_of_two("pixels per sample", config.pixels_per_sample, _MAX_PIXELS)
    return config


def find_shipped_direct_reader(edge_fingerprint: bytes, split: int = 4) -> DirectReader | None:
    """Load the direct reader that comes with the package for an edge.

    Args:
        edge_fingerprint: 8 bytes: the `SplitModel.edge_fingerprint`.
        split: the last layer of the front-end, which the fingerprint does not name.

    Returns:
        the reader, or None if the package has none for this edge.
    """
    for path in sorted(SHIPPED_FOLDER.glob("*-direct-reader.safetensors")):
        reader = load_direct_reader(path)
        if (reader.config.edge_fingerprint, reader.config.split) == (edge_fingerprint.hex(), split):
            return reader
    return None
