"""Tiling: puts the channels of a tensor side by side into one gray frame, row by row (paper, section IV-B)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError


@dataclass(frozen=True)
class TileGrid:
    """A grid of `rows` x `cols` tiles; channel k is in row k // cols, column k % cols.

    Cells after the last channel are filled with the sample 0. They cost almost no bits.
    """

    rows: int
    cols: int

    @classmethod
    def near_square(cls, channels: int) -> TileGrid:
        """The grid that featcodec uses for a channel count: nearly square, at least as many columns as rows.

        If a grid without empty cells and with at most twice as many columns as rows exists, it is used (192 -> 12x16,
        64 -> 8x8, 20 -> 4x5). Other counts get a nearly square grid with empty cells at its end (13 -> 3x5).

        Raises:
            InputError: `channels` is below 1.
        """
        if channels < 1:
            raise InputError(f"a tensor with {channels} channels cannot be tiled; give at least 1 channel")
        root = math.isqrt(channels)
        for rows in range(root, 0, -1):
            if channels % rows == 0 and channels // rows <= 2 * rows:
                return cls(rows, channels // rows)
        return cls(root, -(-channels // root))

    def tile(self, samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Tile (C, H, W) samples into one (rows*H, cols*W) frame of the same dtype.

        Raises:
            InputError: the grid has fewer cells than the tensor has channels.
        """
        channels, height, width = samples.shape
        cells = self.rows * self.cols
        if channels > cells:
            raise InputError(f"{channels} channels do not fit into {self.rows}x{self.cols} tiles")
        if channels < cells:
            samples = np.concatenate([samples, np.zeros((cells - channels, height, width), samples.dtype)])
        grid = samples.reshape(self.rows, self.cols, height, width).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(grid).reshape(self.rows * height, self.cols * width)

    def untile(self, frame: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
        """Undo `tile`: a (rows*H, cols*W) frame to (channels, H, W).

        Raises:
            InputError: the frame does not divide into the grid, or the grid has fewer cells than `channels`.
        """
        height, width = frame.shape[0] // self.rows, frame.shape[1] // self.cols
        if frame.shape != (self.rows * height, self.cols * width) or not 1 <= channels <= self.rows * self.cols:
            raise InputError(
                f"a {frame.shape[1]}x{frame.shape[0]} frame does not hold {channels} channels "
                f"in {self.rows}x{self.cols} tiles"
            )
        grid = frame.reshape(self.rows, height, self.cols, width).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(grid.reshape(-1, height, width)[:channels])
