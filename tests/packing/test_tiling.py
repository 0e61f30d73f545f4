"""Tiling: where each channel lies, the inverse, and the grids that channel counts get."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcodec.errors import InputError
from featcodec.packing.tiling import TileGrid


@st.composite
def tensors(draw: st.DrawFn) -> tuple[TileGrid, np.ndarray]:
    """A grid and a tensor that fits into it, its cells not all taken."""
    rows, cols = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    shape = draw(st.integers(1, rows * cols)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    samples = np.random.default_rng(draw(st.integers(0, 2**32))).integers(1, 256, shape, dtype=np.uint8)
    return TileGrid(rows, cols), samples


@given(tensors())
def test_untile_undoes_tile(case: tuple[TileGrid, np.ndarray]) -> None:
    grid, samples = case
    frame = grid.tile(samples)
    assert frame.shape == (grid.rows * samples.shape[1], grid.cols * samples.shape[2])
    assert frame.dtype == np.uint8
    assert np.array_equal(grid.untile(frame, samples.shape[0]), samples)


@given(tensors())
def test_channel_k_lies_in_row_k_div_cols_and_column_k_mod_cols(case: tuple[TileGrid, np.ndarray]) -> None:
    grid, samples = case
    frame = grid.tile(samples)
    channels, height, width = samples.shape
    for k in range(grid.rows * grid.cols):
        top, left = k // grid.cols * height, k % grid.cols * width
        cell = frame[top : top + height, left : left + width]
        assert np.array_equal(cell, samples[k] if k < channels else np.zeros((height, width)))


@settings(max_examples=200)
@given(st.integers(1, 4096))
def test_near_square_grids_hold_every_channel_and_are_near_square(channels: int) -> None:
    grid = TileGrid.near_square(channels)
    assert grid.rows * grid.cols >= channels
    assert (grid.rows * (grid.cols - 1)) < channels, "a whole column is empty"
    assert grid.rows <= grid.cols <= 2 * grid.rows + 1
    assert grid.cols <= 255


@given(st.integers(1, 300))
def test_every_channel_count_survives_its_near_square_grid(channels: int) -> None:
    samples = np.arange(channels * 2 * 3).astype(np.uint8).reshape(channels, 2, 3)
    grid = TileGrid.near_square(channels)
    assert np.array_equal(grid.untile(grid.tile(samples), channels), samples)


@pytest.mark.parametrize(
    ("channels", "rows", "cols"),
    [
        (192, 12, 16),
        (64, 8, 8),
        (20, 4, 5),
        (13, 3, 5),
        (128, 8, 16),
        (256, 16, 16),
        (320, 16, 20),
        (1, 1, 1),
        (2, 1, 2),
    ],
)
def test_grids_that_the_format_uses(channels: int, rows: int, cols: int) -> None:
    assert TileGrid.near_square(channels) == TileGrid(rows, cols)


@pytest.mark.parametrize("channels", [0, -1])
def test_no_grid_for_no_channels(channels: int) -> None:
    with pytest.raises(InputError, match="channels cannot be tiled"):
        TileGrid.near_square(channels)


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(InputError, match="5 channels do not fit into 2x2"):
        TileGrid(2, 2).tile(np.zeros((5, 1, 1), np.uint8))


@pytest.mark.parametrize(
    ("shape", "channels"), [((5, 4), 4), ((4, 5), 4), ((4, 4), 5), ((4, 4), 0), ((4, 4), -1), ((4, 4, 2), 4)]
)
def test_frames_that_do_not_fit_the_grid_are_refused(shape: tuple[int, ...], channels: int) -> None:
    with pytest.raises(InputError, match="does not hold"):
        TileGrid(2, 2).untile(np.zeros(shape, np.uint8), channels)
