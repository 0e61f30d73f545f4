"""Packing: layout, quantizer and tiles in one object. It turns a tensor into one gray frame, and a frame into a tensor.

tensor (C, H, W) --layout--> --quantize--> samples --tile--> frame (rows*H, cols*W) uint8

Several tensors become one frame, too: a band for each (`bands`), and no layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError
from featcodec.packing.bands import Bands, TensorScale
from featcodec.packing.layout import Layout
from featcodec.packing.quantize import UniformQuantizer
from featcodec.packing.tiling import TileGrid

Frame: TypeAlias = npt.NDArray[np.uint8]
"""A gray picture, (height, width) uint8."""


@dataclass(frozen=True)
class Packing:
    """How one or several tensors lie in a frame.

    Attributes:
        channels: channels of the tensor; of several, those of the finest.
        quantizer: clip range and bit depth of all tensors; with a layout, of the tensor as the layout arranges it.
        grid: rows and columns of its tiles, with room for every channel.
        layout: order and scale of the channels, or None for the tensor as it is. Only one tensor can have a layout.
        further: the coarser tensors, if several cross the wire; none is finer than the one before it.

    Raises:
        InputError: the grid has fewer cells than the tensor has channels; the layout has another number of channels;
            there is a layout for several tensors; or they are not in order.
    """

    channels: int
    quantizer: UniformQuantizer
    grid: TileGrid
    layout: Layout | None = None
    further: tuple[TensorScale, ...] = ()

    def __post_init__(self) -> None:
        if self.layout is not None and self.further:
            raise InputError(f"a layout is for one tensor, not for {1 + len(self.further)}; give `layout` none")
        if self.layout is not None and len(self.layout.order) != self.channels:
            raise InputError(f"a layout of {len(self.layout.order)} channels does not fit a tensor of {self.channels}")
        # Check now, not when the first frame is made.
        Bands(self.channels, self.grid, self.further)

    @classmethod
    def near_square(
        cls,
        channels: int,
        quantizer: UniformQuantizer,
        layout: Layout | None = None,
        further: tuple[TensorScale, ...] = (),
    ) -> Packing:
        """The packing that featcodec uses for these channel counts. Its frame is nearly square (`Bands.near_square`).

        Args:
            channels: channels of the tensor, at least 1; of several, those of the finest.
            quantizer: used only without a layout; a layout has its own clip range.
            layout: order and scale of the channels, or None.
            further: the coarser tensors, if there are several.

        Raises:
            InputError: there is no channel, the layout has another number of channels or is for several tensors, or the
                tensors are not in order.
        """
        grid = Bands.near_square(channels, further).grid
        return cls(channels, quantizer if layout is None else layout.quantizer(), grid, layout, further)

    @cached_property
    def bands(self) -> Bands:
        """Where the channels of all tensors lie in the frame."""
        return Bands(self.channels, self.grid, self.further)

    def with_range(self, low: float, high: float, bits: int) -> Packing:
        """The same packing with another clip range and bit depth.

        Raises:
            InputError: the clip range or the bit depth is not valid; see `UniformQuantizer`.
        """
        return replace(self, quantizer=UniformQuantizer(low, high, bits))

    def to_frame(self, tensors: npt.NDArray[np.floating[Any]] | Sequence[npt.NDArray[np.floating[Any]]]) -> Frame:
        """Pack one tensor, or several.

        Args:
            tensors: (channels, H, W) float32, as the networks make it; or a sequence of all tensors, finest first.

        Returns:
            (height, width) uint8: rows * H by cols * W for one tensor, and a band more for each further one.

        Raises:
            InputError: a value is NaN, or there are other tensors than the packing is for.
        """
        several = (tensors,) if isinstance(tensors, np.ndarray) else tuple(tensors)
        self.bands.check_shapes([tensor.shape for tensor in several])
        if self.layout is not None:
            several = (self.layout.arrange(several[0].astype(np.float32, copy=False)),)
        return self.bands.tile([self.quantizer.quantize(tensor) for tensor in several])

    def to_tensor(self, frame: Frame) -> npt.NDArray[np.float32]:
        """Unpack the frame of one tensor.

        Args:
            frame: (rows * H, cols * W) uint8, possibly damaged by coding.

        Returns:
            (channels, H, W) float32, as the networks take it. Where the packed tensor was not clipped, and the frame is
            not damaged, each value is within half a quantizer step of the packed value.

        Raises:
            InputError: the frame does not divide into the grid, or holds several tensors.
        """
        if self.further:
            raise InputError(f"the frame holds {1 + len(self.further)} tensors, not one; use to_tensors")
        (tensor,) = self.to_tensors(frame)
        return tensor

    def to_tensors(self, frame: Frame) -> tuple[npt.NDArray[np.float32], ...]:
        """Unpack the frame of one or several tensors.

        Args:
            frame: (height, width) uint8 as `to_frame` makes it, possibly damaged by coding.

        Returns:
            each tensor as in `to_tensor`, the finest first.

        Raises:
            InputError: the frame does not divide into the bands.
        """
        tensors = tuple(map(self.quantizer.dequantize, self.bands.untile(frame)))
        return tensors if self.layout is None else (self.layout.undo(tensors[0]),)
