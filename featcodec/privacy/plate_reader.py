"""A small network that reads number plates. It shows how many characters can still be read after an attack.

Each plate is given by its box. An attacker with a detector for plates would have such boxes. The network sees a crop of
fixed size and finds each character by attention over the columns. At each position it chooses among the characters that
the format allows. It is trained on strongly degraded plates, because a weak reader makes the defence look too good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from featcodec.networks.blocks import ConvBlock
from featcodec.networks.catalogue import SHIPPED_FOLDER
from featcodec.networks.checkpoints import check_sizes, config_from, load_network, save_checkpoint
from featcodec.privacy.readers import Pixels
from featcodec.privacy.text_head import MARGIN, PLATE_FORMAT, TextReader, check_alphabets

KIND = "plate-reader"
CROP_HEIGHT, CROP_WIDTH = 32, 128
"""Size of the network's input in pixels: eight times the height and four times the width of its feature map."""

_MAX_CHANNELS = 512
_BATCH = 64

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PlateReaderConfig:
    """What the checkpoint of a reader holds besides the weights.

    Attributes:
        alphabets: the possible characters at each position.
        channels: the channels of the five convolutions.
        training: how the network was trained (stage, data, hyper-parameters, metrics); free form, for people.
    """

    alphabets: tuple[str, ...] = PLATE_FORMAT
    channels: tuple[int, int, int, int, int] = (24, 48, 64, 80, 80)
    training: dict[str, Any] = field(default_factory=dict)


class PlateReader(TextReader):
    """The network with its configuration. A new network is in eval mode, ready to be trained or loaded."""

    def __init__(self, config: PlateReaderConfig) -> None:
        super().__init__(config.alphabets)
        self.config = config
        first, second, third, fourth, last = config.channels
        self.features = nn.Sequential(
            ConvBlock(3, first, stride=2),
            ConvBlock(first, second, stride=2),
            ConvBlock(second, third),
            ConvBlock(third, fourth, stride=(2, 1)),
            ConvBlock(fourth, last),
            ConvBlock(last, last, kernel=(CROP_HEIGHT // 8, 1), padding=0),
        )
        self.make_head(last, CROP_WIDTH // 4)
        self.eval()

    def forward(self, crops: Tensor) -> Tensor:
        """Compute how likely each character is.

        Args:
            crops: (B, 3, 32, 128) float RGB in [0, 1].

        Returns:
            (B, positions, characters) logits; -inf for a character that the format does not allow.
        """
        # The reader must also read reconstructions of low contrast, so every crop is stretched to the same contrast.
        centred = crops - crops.mean((1, 2, 3), keepdim=True)
        columns = self.features(centred / (centred.std((1, 2, 3), keepdim=True) + 1e-2)).squeeze(2)
        return self.logits_of(columns)

    def read(self, crops: Pixels) -> list[str]:
        """Return the most likely text of each crop.

        Args:
            crops: (N, 32, 128, 3) uint8 RGB, as `cut_plates` makes them; N may be 0.

        Returns:
            N texts with one character per position.
        """
        device = self.places.device
        texts: list[str] = []
        for first in range(0, len(crops), _BATCH):
            with torch.inference_mode():
                texts += self.texts_of(self(as_input(crops[first : first + _BATCH]).to(device)))
        return texts


def as_input(crops: Pixels) -> Tensor:
    """Convert crops to the input of the network: (N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 255


def cut_plates(
    picture: Pixels, boxes: Sequence[Box], size: tuple[int, int] | None = None, *, context: float = 1.0
) -> Pixels:
    """Cut crops around boxes, with the margin that the reader expects.

    Args:
        picture: (height, width, 3) uint8 RGB.
        boxes: left, top, width, height in pixels of the original. Parts of a box outside the original are cut away.
        size: (width, height) of the original, if the picture is a scaled copy of it.
        context: size of the crop as a multiple of the reader's input, at the same scale; for augmentation.

    Returns:
        (N, 32 context, 128 context, 3) uint8 RGB. Beyond the edge of the picture its last pixels are repeated.
    """
    high, wide = round(CROP_HEIGHT * context), round(CROP_WIDTH * context)
    crops = np.empty((len(boxes), high, wide, 3), np.uint8)
    shape = picture.shape[1], picture.shape[0]
    original = size or shape
    share = context * (1 + 2 * MARGIN)
    for crop, (left, top, width, height) in zip(crops, boxes, strict=True):
        x0, x1 = _widened(left, width, original[0], shape[0], share)
        y0, y1 = _widened(top, height, original[1], shape[1], share)
        rows = np.arange(int(np.floor(y0)), int(np.ceil(y1))).clip(0, shape[1] - 1)
        columns = np.arange(int(np.floor(x0)), int(np.ceil(x1))).clip(0, shape[0] - 1)
        region = Image.fromarray(picture[rows[:, None], columns])
        inner = x0 - np.floor(x0), y0 - np.floor(y0), x1 - np.floor(x0), y1 - np.floor(y0)
        crop[:] = np.asarray(region.resize((wide, high), Image.Resampling.BICUBIC, box=inner))
    return crops


def save_plate_reader(path: Path, reader: PlateReader) -> None:
    """Write a `.safetensors` checkpoint in float16. `load_plate_reader` reads such a file.

    Raises:
        OutputError: the file cannot be written.
    """
    save_checkpoint(path, KIND, asdict(reader.config), reader.state_dict(), half=True)


def load_plate_reader(path: Path) -> PlateReader:
    """Read a checkpoint.

    Returns:
        the network, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, damaged or not a plate reader, or its config contradicts the weights.
    """
    return load_network(path, KIND, _read_config, PlateReader)


def _read_config(content: Mapping[str, Any]) -> PlateReaderConfig:
    config = config_from(PlateReaderConfig, content)
    check_sizes("channels", config.channels, 1, _MAX_CHANNELS)
    check_alphabets(config.alphabets)
    return config


def shipped_plate_reader() -> PlateReader:
    """Load the reader that comes with the package. It reads plates that `featcodec scenes` draws.

    Raises:
        WeightsError: the installation is damaged.
    """
    return load_plate_reader(SHIPPED_FOLDER / "plate-reader.safetensors")


def _widened(start: float, length: float, original: int, shown: int, share: float) -> tuple[float, float]:
    """Cut a side of a box at the edges of the image, scale it to picture pixels, and widen it about its middle."""
    first, last = (min(max(edge, 0.0), float(original)) * shown / original for edge in (start, start + length))
    middle, half = (first + last) / 2, max(last - first, 1.0) * share / 2
    return middle - half, middle + half
