"""The layout of a frame: which channel lies where, and on what scale; fixed a model, no bit of a stream.

Neighbouring tiles that resemble each other cost fewer bits. So channels are put into another order, turned in sign and
moved until their usual value is one gray (one for each sign); a channel to which the detector's predictions are
sensitive gets finer steps. All of that is an affine map a channel,

    coded[k] = scale[k] * tensor[order[k]] + offset[k],

which quantizer and tiles then take as they take any tensor. `featcodec.training.layout` finds one. What a stream
is coded with stands in its fingerprint, so a decoder knows the layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featcodec.fingerprints import fingerprint_of_arrays
from featcodec.packing.quantize import UniformQuantizer

_LEAST, _MOST = 2.0**-10, 2.0**10

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayoutConfig:
    """What a layout's checkpoint says besides its numbers.

    Attributes:
        model_fingerprint: 16 hex digits; the networks whose tensor it lays out (detector, and bottleneck if any).
        split: the detector layer behind which it was found, 0..4.
        clip_low, clip_high: clip range of the tensor once it is laid out.
        training: how it was found; free form, for people.
    """

    model_fingerprint: str
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

    def undo(self, coded: FloatArray) -> FloatArray:
        """Undo `arrange`."""
        tensors = np.empty_like(coded)
        tensors[..., self.order, :, :] = (coded - self.offset[:, None, None]) / self.scale[:, None, None]
        return tensors

    def fingerprint(self) -> bytes:
        """8 bytes that name its numbers."""
        return fingerprint_of_arrays(self.arrays())

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers by name, as a checkpoint stores them."""
        return {"order": self.order, "scale": self.scale, "offset": self.offset}
