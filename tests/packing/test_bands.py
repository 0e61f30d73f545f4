"""Bands: several tensors in one frame, where each channel lies, the inverse, and the shape that the frame gets."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.errors import InputError
from featcodec.packing.bands import Bands, TensorScale
from featcodec.packing.tiling import TileGrid

YOLO11N_LAYER_10 = (128, (TensorScale(128, 2), TensorScale(256, 4)))


@st.composite
def scales(draw: st.DrawFn, most: int = 40) -> tuple[int, tuple[TensorScale, ...]]:
    """Channels of the finest tensor, and up to seven further ones."""
    divisors = sorted(draw(st.lists(st.sampled_from([1, 2, 4, 8]), max_size=7)))
    channels = st.integers(1, most)
    return draw(channels), tuple(TensorScale(draw(channels), divisor) for divisor in divisors)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Bands, list[np.ndarray]]:
    """Bands of any number of columns, and samples that fit them. No sample is 0."""
    channels, further = draw(scales())
    cols = draw(st.integers(1, 9))
    bands = Bands(channels, TensorScale(channels, 1).grid(cols), further)
    coarsest = max((scale.divisor for scale in further), default=1)
    height, width = draw(st.integers(1, 3)) * coarsest, draw(st.integers(1, 3)) * coarsest
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shapes = [(scale.channels, height // scale.divisor, width // scale.divisor) for scale in bands.scales]
    return bands, [rng.integers(1, 256, shape, dtype=np.uint8) for shape in shapes]


@given(cases())
def test_untile_undoes_tile(case: tuple[Bands, list[np.ndarray]]) -> None:
    bands, samples = case
    frame = bands.tile(samples)
    assert frame.dtype == np.uint8
    assert frame.shape == bands.frame_shape(*samples[0].shape[1:])
    back = bands.untile(frame)
    assert len(back) == len(samples)
    assert all(np.array_equal(one, other) for one, other in zip(back, samples, strict=True))


@given(cases())
def test_bands_lie_one_below_the_other_and_end_in_zeros(case: tuple[Bands, list[np.ndarray]]) -> None:
    bands, samples = case
    frame, top = bands.tile(samples), 0
    for each in samples:
        channels, height, width = each.shape
        cols = frame.shape[1] // width
        assert cols * width == frame.shape[1]
        rows = -(-channels // cols)
        for k in range(rows * cols):
            y, x = top + k // cols * height, k % cols * width
            cell = frame[y : y + height, x : x + width]
            assert np.array_equal(cell, each[k] if k < channels else np.zeros((height, width)))
        top += rows * height
    assert top == frame.shape[0]


@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 4))
def test_one_tensor_has_the_frame_of_its_grid(channels: int, height: int, width: int) -> None:
    samples = np.random.default_rng(channels).integers(0, 256, (channels, height, width), dtype=np.uint8)
    bands = Bands.near_square(channels)
    assert bands.grid == TileGrid.near_square(channels)
    assert np.array_equal(bands.tile([samples]), TileGrid.near_square(channels).tile(samples))
    assert np.array_equal(bands.untile(bands.tile([samples]))[0], samples)


def sides(bands: Bands) -> tuple[Fraction, int]:
    """Height and width of a frame, in tiles of the finest tensor."""
    pairs = zip(bands.grids, bands.scales, strict=True)
    return sum((Fraction(grid.rows, scale.divisor) for grid, scale in pairs), Fraction(0)), bands.grid.cols


@given(scales(most=4096).filter(lambda case: case[1]))
def test_frames_of_several_tensors_are_near_square_and_the_smallest_of_those(
    case: tuple[int, tuple[TensorScale, ...]],
) -> None:
    bands = Bands.near_square(*case)
    height, width = sides(bands)
    assert max(height, width) <= 2 * min(height, width)
    assert bands.grid == bands.scales[0].grid(width), "a row of tiles is empty"
    for cols in range(1, 2 * width + 2):
        other = sides(Bands(case[0], bands.scales[0].grid(cols), case[1]))
        if max(other) <= 2 * min(other):
            # By the rule's own order: area, longer side, wider.
            assert (height * width, max(height, width), -width) <= (other[0] * other[1], max(other), -cols)


@given(scales(most=4096).filter(lambda case: case[1] and sum(each.channels for each in case[1]) + case[0] <= 8192))
def test_the_usual_columns_fit_into_a_byte(case: tuple[int, tuple[TensorScale, ...]]) -> None:
    grid = Bands.near_square(*case).grid
    assert max(grid.rows, grid.cols) <= 255


@pytest.mark.parametrize(
    ("channels", "further", "cols", "shape"),
    [
        # yolo11n behind layer 10, at 512x512: no cell is empty.
        (*YOLO11N_LAYER_10, 16, (704, 1024)),
        # yolov8n behind layer 12: 64 at a stride of 8, 128 at 16, 256 at 32.
        (64, (TensorScale(128, 2), TensorScale(256, 4)), 8, (896, 512)),
        (1, (TensorScale(1, 2),), 1, (96, 64)),
        (1, (TensorScale(1, 1), TensorScale(1, 1)), 2, (192, 128)),
        (3, (TensorScale(5, 8),), 2, (136, 128)),
    ],
)
def test_columns_that_the_format_uses(
    channels: int, further: tuple[TensorScale, ...], cols: int, shape: tuple[int, int]
) -> None:
    bands = Bands.near_square(channels, further)
    assert bands.grid.cols == cols
    assert bands.frame_shape(64, 64) == shape


@pytest.mark.parametrize(("channels", "divisor"), [(0, 1), (-1, 2), (1, 0), (1, 3), (1, -2), (4, 6)])
def test_a_scale_that_cannot_be_is_refused(channels: int, divisor: int) -> None:
    with pytest.raises(InputError, match=r"cannot be (tiled|\S+ times smaller)"):
        TensorScale(channels, divisor)


def test_tensors_out_of_order_are_refused() -> None:
    with pytest.raises(InputError, match="give the finest first"):
        Bands.near_square(4, (TensorScale(4, 4), TensorScale(4, 2)))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(6, 8, 8)], "1 tensor cannot be packed where 2 tensors are expected"),
        ([(6, 8, 8), (4, 4, 4), (4, 4, 4)], "3 tensors cannot be packed"),
        ([(5, 8, 8), (4, 4, 4)], "a tensor of 5 channels does not fit a packing of 6"),
        ([(6, 8, 8), (5, 4, 4)], "a tensor of 5 channels does not fit a packing of 4"),
        ([(6, 8, 8), (4, 4, 8)], "a tensor of 8x4 samples is not 2 times smaller"),
        ([(6, 9, 8), (4, 4, 4)], "which has 8x9"),
        ([(6, 8, 8), (4, 4)], "channels does not fit"),
        ([(6, 8, 8), ()], "a tensor of 0 channels"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(shapes: list[tuple[int, ...]], message: str) -> None:
    bands = Bands.near_square(6, (TensorScale(4, 2),))
    with pytest.raises(InputError, match=message):
        bands.tile([np.zeros(shape, np.uint8) for shape in shapes])


@pytest.mark.parametrize("change", [(1, 0), (0, 1), (0, -1), (-1, 0), (-1000, 0), (0, -1000)])
def test_frames_that_do_not_fit_the_bands_are_refused(change: tuple[int, int]) -> None:
    bands = Bands.near_square(*YOLO11N_LAYER_10)
    height, width = bands.frame_shape(8, 8)
    frame = np.zeros((max(0, height + change[0]), max(0, width + change[1])), np.uint8)
    with pytest.raises(InputError, match="frame does not hold 3 tensors"):
        bands.untile(frame)
