"""Packing: layout, quantizer and tiles in one object. It turns a tensor into one gray frame, and a frame into a tensor.

tensor (C, H, W) --layout--> --quantize--> samples --tile--> frame (rows*H, cols*W) uint8
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError
from featcodec.packing.layout import Layout
from featcodec.packing.quantize import UniformQuantizer
from featcodec.packing.tiling import TileGrid

Frame: TypeAlias = npt.NDArray[np.uint8]
"""A gray picture, (height, width) uint8."""


@dataclass(frozen=True)
class Packing:
    """How a tensor lies in a frame.

    Attributes:
        channels: channels of the tensor.
        quantizer: clip range and bit depth of the tensor as the layout arranges it.
        grid: rows and columns of tiles, with room for every channel.
        layout: order and scale of the channels, or None for the tensor as it is.

    Raises:
        InputError: the grid has fewer cells than the tensor has channels, or the layout has another number of channels.
    """

    channels: int
    quantizer: UniformQuantizer
    grid: TileGrid
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if self.layout is not None and len(self.layout.order) != self.channels:
            raise InputError(f"a layout of {len(self.layout.order)} channels does not fit a tensor of {self.channels}")
        if not 1 <= self.channels <= self.grid.rows * self.grid.cols:
            raise InputError(f"{self.channels} channels do not fit into {self.grid.rows}x{self.grid.cols} tiles")

    @classmethod
    def near_square(cls, channels: int, quantizer: UniformQuantizer, layout: Layout | None = None) -> Packing:
        """The packing that featcodec uses for a channel count. Its grid is nearly square (`TileGrid.near_square`).

        Args:
            channels: channels of the tensor, at least 1.
            quantizer: used only without a layout; a layout has its own clip range.
            layout: order and scale of the channels, or None.

        Raises:
            InputError: there is no channel, or the layout has another number of channels.
        """
        grid = TileGrid.near_square(channels)
        return cls(channels, quantizer if layout is None else layout.quantizer(), grid, layout)

    def with_range(self, low: float, high: float, bits: int) -> Packing:
        """The same packing with another clip range and bit depth.

        Raises:
            InputError: the clip range or the bit depth is not valid; see `UniformQuantizer`.
        """
        return replace(self, quantizer=UniformQuantizer(low, high, bits))

    def to_frame(self, tensor: npt.NDArray[np.floating[Any]]) -> Frame:
        """Pack one tensor.

        Args:
            tensor: (channels, H, W) float32, as the networks make it.

        Returns:
            (rows * H, cols * W) uint8.

        Raises:
            InputError: a value is NaN, or the tensor has another number of channels.
        """
        if tensor.shape[0] != self.channels:
            raise InputError(f"a tensor of {tensor.shape[0]} channels does not fit a packing of {self.channels}")
        arranged = tensor if self.layout is None else self.layout.arrange(tensor.astype(np.float32, copy=False))
        return self.grid.tile(self.quantizer.quantize(arranged))

    def to_tensor(self, frame: Frame) -> npt.NDArray[np.float32]:
        """Unpack one frame.

        Args:
            frame: (rows * H, cols * W) uint8, possibly damaged by coding.

        Returns:
            (channels, H, W) float32, as the networks take it. Where the packed tensor was not clipped, and the frame is
            not damaged, each value is within half a quantizer step of the packed value.

        Raises:
            InputError: the frame does not divide into the grid.
        """
        tensor = self.quantizer.dequantize(self.grid.untile(frame, self.channels))
        return tensor if self.layout is None else self.layout.undo(tensor)
