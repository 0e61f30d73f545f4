"""The layout of a frame: the place and the scale of each channel. It is fixed per model and costs no bits in a stream.

Neighbouring tiles cost fewer bits when they are similar. So the layout changes the order of the channels. It also flips
the sign of some channels and shifts each channel, so that the usual value of all channels is one gray (one gray per
sign). A channel gets finer steps if the detector's predictions are sensitive to it. All of this is one affine map per
channel:

    coded[k] = scale[k] * tensor[order[k]] + offset[k]

Quantizer and tiles take the result like any other tensor. `featcodec.training.layout` finds a layout. The fingerprint
of a stream also names its layout, so a decoder knows which layout to undo.
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
    """The content of a layout's checkpoint besides its arrays.

    Attributes:
        model_fingerprint: 16 hex digits that name the model whose tensor is laid out (detector, and bottleneck if any).
        split: last layer of the front-end for which the layout was found, 0..127.
        clip_low, clip_high: clip range of the tensor after `Layout.arrange`.
        training: how the layout was found; free form, for people.
    """

    model_fingerprint: str
    split: int
    clip_low: float
    clip_high: float
    training: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Layout:
    """An affine map and a place for each channel of a tensor.

    Attributes:
        config: the model whose tensor is laid out, and the clip range.
        order: (C,) int64, a permutation: tile k shows channel order[k].
        scale: (C,) float32, per tile; absolute value from 2**-10 to 2**10; a negative scale flips the sign.
        offset: (C,) float32, per tile, in feature units; absolute value at most 2**10.
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
            raise ValueError("the order is not a permutation")
        if not ((np.abs(self.scale) >= _LEAST) & (np.abs(self.scale) <= _MOST)).all():
            raise ValueError(f"the absolute value of a scale is not between {_LEAST} and {_MOST}")
        if not (np.abs(self.offset) <= _MOST).all():
            raise ValueError(f"the absolute value of an offset is over {_MOST}")

    def quantizer(self) -> UniformQuantizer:
        """The 8-bit quantizer of the layout's clip range."""
        return UniformQuantizer(self.config.clip_low, self.config.clip_high)

    def arrange(self, tensors: FloatArray) -> FloatArray:
        """Arrange tensors for the quantizer and the tiles: (..., C, H, W) float32 -> the same shape."""
        arranged: FloatArray = self.scale[:, None, None] * tensors[..., self.order, :, :] + self.offset[:, None, None]
        return arranged

    def undo(self, coded: FloatArray) -> FloatArray:
        """Undo `arrange`."""
        tensors = np.empty_like(coded)
        tensors[..., self.order, :, :] = (coded - self.offset[:, None, None]) / self.scale[:, None, None]
        return tensors

    def fingerprint(self) -> bytes:
        """8 bytes that name the layout's arrays."""
        return fingerprint_of_arrays(self.arrays())

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The layout's arrays by name, as a checkpoint stores them."""
        return {"order": self.order, "scale": self.scale, "offset": self.offset}
