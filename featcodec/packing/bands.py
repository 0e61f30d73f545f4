"""Bands: several tensors in one frame, one band of rows of tiles for each, the finest tensor at the top.

Behind a late layer, several tensors of different resolutions cross the wire. The sides of a coarser tensor are those of
the finest one divided by a power of two, so a whole number of its tiles is exactly as wide as the frame:

    +-----------+
    |           |   finest tensor: `cols` tiles per row
    +--+--+--+--+
    |  |  |  |  |   half as wide and high: 2 * `cols` tiles per row
    ++++++++++++|   a quarter: 4 * `cols` tiles per row, and so on

One tensor has one band, and its frame is that of `TileGrid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError
from featcodec.packing.tiling import TileGrid


@dataclass(frozen=True)
class TensorScale:
    """A tensor that crosses the wire beside the finest one.

    Attributes:
        channels: its channels, at least 1.
        divisor: how many times smaller its sides are than those of the finest tensor; a power of two, also 1.

    Raises:
        InputError: a value is out of range.
    """

    channels: int
    divisor: int

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise InputError(f"a tensor with {self.channels} channels cannot be tiled; give at least 1 channel")
        if self.divisor < 1 or self.divisor & (self.divisor - 1):
            raise InputError(f"a tensor cannot be {self.divisor} times smaller; use a power of two")

    def grid(self, cols: int) -> TileGrid:
        """The tiles of its band, if a row has room for `cols` tiles of the finest tensor."""
        columns = cols * self.divisor
        return TileGrid(-(-self.channels // columns), columns)


@dataclass(frozen=True)
class Bands:
    """Where the channels of one or several tensors lie in a frame.

    Attributes:
        channels: channels of the finest tensor.
        grid: rows and columns of its tiles, with room for every channel.
        further: the other tensors, in the order of their bands: none is finer than the one before it.

    Raises:
        InputError: the grid has fewer cells than the finest tensor has channels, or the tensors are not in order.
    """

    channels: int
    grid: TileGrid
    further: tuple[TensorScale, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= self.grid.rows * self.grid.cols:
            raise InputError(f"{self.channels} channels do not fit into {self.grid.rows}x{self.grid.cols} tiles")
        divisors = [scale.divisor for scale in self.further]
        if divisors != sorted(divisors):
            raise InputError(f"tensors that are {divisors} times smaller are not in order; give the finest first")

    @classmethod
    def near_square(cls, channels: int, further: tuple[TensorScale, ...] = ()) -> Bands:
        """The bands that featcodec uses for these tensors.

        For one tensor, the grid is that of `TileGrid.near_square`. For several tensors, count sides as if tiles were
        square. Of all frames whose longer side is at most twice the shorter one, take the one with the fewest empty
        cells, that is, the smallest one. Of equally small frames, take the one whose longer side is shorter. If they
        are still equal, take the wider one.

        Args:
            channels: channels of the finest tensor, at least 1.
            further: the other tensors.

        Raises:
            InputError: there is no channel, or the tensors are not in order.
        """
        if not further:
            return cls(channels, TileGrid.near_square(channels))
        finest = TensorScale(channels, 1)
        coarsest = max(scale.divisor for scale in further)
        choices = []
        # More columns never make more rows, so the search ends at the first frame that is too wide.
        for cols in count(1):
            # Counted in tiles of the coarsest tensor, so that every side is a whole number.
            width = cols * coarsest
            height = sum(scale.grid(cols).rows * (coarsest // scale.divisor) for scale in (finest, *further))
            if width > 2 * height:
                break
            if height <= 2 * width:
                choices.append((width * height, max(width, height), -cols))
        return cls(channels, finest.grid(-min(choices)[2]), further)

    @property
    def scales(self) -> tuple[TensorScale, ...]:
        """All tensors, the finest first."""
        return TensorScale(self.channels, 1), *self.further

    @property
    def grids(self) -> tuple[TileGrid, ...]:
        """The tiles of each band, in order."""
        return self.grid, *(scale.grid(self.grid.cols) for scale in self.further)

    def frame_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the frame in samples.

        Args:
            height, width: those of the finest tensor.
        """
        bands = zip(self.grids, self.scales, strict=True)
        return sum(grid.rows * (height // scale.divisor) for grid, scale in bands), self.grid.cols * width

    def check_shapes(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Refuse tensors that these bands are not for.

        Args:
            shapes: (C, H, W) of each tensor, the finest first.

        Raises:
            InputError: there is another number of tensors, or one has other channels or sides.
        """
        if len(shapes) != len(self.scales):
            raise InputError(
                f"{_tensors(len(shapes))} cannot be packed where {_tensors(len(self.scales))} are expected"
            )
        for shape, scale in zip(shapes, self.scales, strict=True):
            if len(shape) != 3 or shape[0] != scale.channels:
                raise InputError(
                    f"a tensor of {shape[0] if shape else 0} channels does not fit a packing of {scale.channels}"
                )
            if tuple(side * scale.divisor for side in shape[1:]) != tuple(shapes[0][1:]):
                raise InputError(
                    f"a tensor of {shape[2]}x{shape[1]} samples is not {scale.divisor} times smaller than the finest "
                    f"one, which has {shapes[0][2]}x{shapes[0][1]}"
                )

    def tile(self, samples: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        """Put the samples of all tensors into one frame.

        Cells after the last channel of a band hold 0, as in `TileGrid`: flat cells cost almost no bits.

        Args:
            samples: (C, H, W) uint8 of each tensor, the finest first.

        Returns:
            (height, width) uint8, of the shape that `frame_shape` says.

        Raises:
            InputError: the tensors do not fit these bands.
        """
        self.check_shapes([each.shape for each in samples])
        tiled = [grid.tile(each) for grid, each in zip(self.grids, samples, strict=True)]
        return tiled[0] if len(tiled) == 1 else np.concatenate(tiled)

    def untile(self, frame: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], ...]:
        """Undo `tile`: a frame to (C, H, W) uint8 of each tensor, the finest first.

        Raises:
            InputError: the frame does not divide into the bands.
        """
        if not self.further:
            return (self.grid.untile(frame, self.channels),)
        coarsest = self.further[-1].divisor
        rows = sum(grid.rows * (coarsest // scale.divisor) for grid, scale in zip(self.grids, self.scales, strict=True))
        # All sides follow from those of the coarsest tensor, because bands are whole numbers of its tiles.
        height, width = frame.shape[0] // rows, frame.shape[1] // (self.grid.cols * coarsest)
        if not height or not width or frame.shape != self.frame_shape(height * coarsest, width * coarsest):
            raise InputError(
                f"a {frame.shape[1]}x{frame.shape[0]} frame does not hold {_tensors(len(self.scales))} with "
                f"{self.grid.cols} tile columns of the finest"
            )
        tensors, top = [], 0
        for grid, scale in zip(self.grids, self.scales, strict=True):
            bottom = top + grid.rows * (height * coarsest // scale.divisor)
            tensors.append(grid.untile(frame[top:bottom], scale.channels))
            top = bottom
        return tuple(tensors)


def _tensors(number: int) -> str:
    return "1 tensor" if number == 1 else f"{number} tensors"
