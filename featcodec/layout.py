"""The layout of a mosaic: which channel lies where, and on what scale; fixed a model, no bit of a stream.

Neighbouring tiles that resemble each other cost fewer bits. So channels are put into another order, turned in sign and
moved until their usual value is one gray (one for each sign); a channel to which the detector's predictions are
sensitive gets finer steps. All of that is an affine map a channel,

    coded[k] = scale[k] * tensor[order[k]] + offset[k],

which quantizer and tiles then take as they take any tensor. `featcodec.training.layout` finds one. What a stream
is coded with stands in its fingerprint, so a decoder knows the layout.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from featcodec.catalogue import SHIPPED_LAYOUTS, shipped_for
from featcodec.checkpoints import codec_fingerprint, fingerprint, load_checkpoint, save_checkpoint
from featcodec.errors import FeatcodecError, WeightsError
from featcodec.quantize import UniformQuantizer

KIND = "layout"
AUTO = "auto"
NONE = "none"
_LEAST, _MOST = 2.0**-10, 2.0**10

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayoutConfig:
    """What a layout's checkpoint says besides its numbers.

    Attributes:
        tensor_fingerprint: 16 hex digits; the networks whose tensor it lays out (detector, and bottleneck if any).
        split: the detector layer behind which it was found, 0..4.
        clip_low, clip_high: clip range of the tensor once it is laid out.
        training: how it was found; free form, for people.
    """

    tensor_fingerprint: str
    split: int
    clip_low: float
    clip_high: float
    training: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Layout:
    """An affine map and a place for each channel of a coded tensor.

    Attributes:
        config: whose tensor, and its clip range.
        order: (C,) int64, a permutation: tile k shows channel order[k].
        scale: (C,) float32 of tile k, from 2**-10 to 2**10; negative turns the sign.
        offset: (C,) float32 of tile k, in feature units, at most 2**10.
    """

    config: LayoutConfig
    order: npt.NDArray[np.int64]
    scale: FloatArray
    offset: FloatArray

    def __post_init__(self) -> None:
        channels = len(self.order)
        if {self.order.shape, self.scale.shape, self.offset.shape} != {(channels,)} or not channels:
            raise ValueError(f"{channels} channels with {self.scale.shape} scales and {self.offset.shape} offsets")
        if not np.array_equal(np.sort(self.order), np.arange(channels)):
            raise ValueError("the order is no permutation")
        if not ((np.abs(self.scale) >= _LEAST) & (np.abs(self.scale) <= _MOST)).all():
            raise ValueError(f"a scale is not within {_LEAST} to {_MOST}")
        if not (np.abs(self.offset) <= _MOST).all():
            raise ValueError(f"an offset is beyond {_MOST}")

    def quantizer(self) -> UniformQuantizer:
        """The 8-bit quantizer of its clip range."""
        return UniformQuantizer(self.config.clip_low, self.config.clip_high)

    def arrange(self, tensors: FloatArray) -> FloatArray:
        """(..., C, H, W) float32 of the networks to what is quantized and tiled, same shape."""
        arranged: FloatArray = self.scale[:, None, None] * tensors[..., self.order, :, :] + self.offset[:, None, None]
        return arranged

    def restore(self, coded: FloatArray) -> FloatArray:
        """Undo `arrange`."""
        tensors = np.empty_like(coded)
        tensors[..., self.order, :, :] = (coded - self.offset[:, None, None]) / self.scale[:, None, None]
        return tensors

    def fingerprint(self) -> bytes:
        """8 bytes that name its numbers."""
        return fingerprint(_as_tensors(self))


def name_of(layout: Layout | None) -> str:
    """16 hex digits that name its numbers, or nothing without one."""
    return "" if layout is None else layout.fingerprint().hex()


def save_layout(path: Path, layout: Layout) -> None:
    """Write a `.safetensors` checkpoint; `load_layout` reads it.

    Raises:
        OutputError: it cannot be written.
    """
    save_checkpoint(path, KIND, asdict(layout.config), _as_tensors(layout))


def load_layout(path: Path) -> Layout:
    """Read a checkpoint.

    Raises:
        WeightsError: missing, damaged, not a layout, or numbers that are none.
    """
    content, state = load_checkpoint(path, KIND)
    try:
        config = LayoutConfig(**{field.name: content[field.name] for field in fields(LayoutConfig)})
        UniformQuantizer(config.clip_low, config.clip_high)
        named = isinstance(config.tensor_fingerprint, str) and re.fullmatch("[0-9a-f]{16}", config.tensor_fingerprint)
        if not named or config.split not in range(5):
            raise ValueError(f"of the tensor {config.tensor_fingerprint!r:.40} behind layer {config.split!r}")
        order, scale, offset = (state[name] for name in ("order", "scale", "offset"))
        if order.is_floating_point():
            raise TypeError("an order that is no whole numbers")
        return Layout(config, order.long().numpy(), scale.float().numpy(), offset.float().numpy())
    except (KeyError, OverflowError, TypeError, ValueError, FeatcodecError) as error:
        raise WeightsError(f"{path}: not a layout ({error}); find it again with `featcodec train layout`") from None


def choose_layout(
    name_or_path: str | Path | None, tensor: bytes, channels: int, split: int, codec: bytes | None = None
) -> Layout | None:
    """The layout for a coded tensor.

    Args:
        name_or_path: a `.safetensors` checkpoint, "none" (or None) for the tensor as it is, or "auto": what `codec`
            names, else the one that ships for this tensor, else none.
        tensor: 8 bytes that name the networks which make the tensor.
        channels: of the tensor.
        split: the layer it was split behind.
        codec: 8 bytes, the fingerprint that stands in a bitstream, if there is one.

    Raises:
        WeightsError: not a layout, or not one for this tensor.
    """
    if name_or_path is None or name_or_path == NONE or (name_or_path == AUTO and codec == tensor):
        return None
    if name_or_path == AUTO:
        layouts = (load_layout(shipped.path) for shipped in shipped_for(SHIPPED_LAYOUTS, tensor))
        return next((layout for layout in layouts if layout.config.split == split), None)
    layout = load_layout(Path(name_or_path))
    if layout.config.tensor_fingerprint != tensor.hex():
        raise WeightsError(
            f"{name_or_path}: lays out the tensor of {layout.config.tensor_fingerprint}, but {tensor.hex()} is loaded; "
            "give the --detector and --bottleneck it was found with, or --layout none"
        )
    if layout.config.split != split or len(layout.order) != channels:
        raise WeightsError(
            f"{name_or_path}: lays out {len(layout.order)} channels behind layer {layout.config.split}, not {channels} "
            f"behind {split}; use --layout none"
        )
    return layout


def tensor_fingerprint(codec: bytes | None, name_or_path: str | Path | None) -> bytes | None:
    """Which networks made a stream, whatever its layout: the fingerprint in it without that of the layout.

    Args:
        codec: the fingerprint in the stream, 8 bytes, or None.
        name_or_path: the layout that was asked for, as `choose_layout` takes it.

    Returns:
        8 bytes of the networks where the layout is that one or one that ships, else `codec` itself.

    Raises:
        WeightsError: that file is no layout.
    """
    paths = [shipped.path for shipped in SHIPPED_LAYOUTS]
    if name_or_path not in (None, NONE, AUTO):
        paths.append(Path(str(name_or_path)))
    for layout in map(load_layout, paths if codec else ()):
        tensor = bytes.fromhex(layout.config.tensor_fingerprint)
        if codec == codec_fingerprint(tensor, layout.fingerprint()):
            return tensor
    return codec


def _as_tensors(layout: Layout) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(getattr(layout, name)) for name in ("order", "scale", "offset")}
