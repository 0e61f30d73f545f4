"""Packing: tensors become one frame and come back within half a step, whatever the layout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.errors import InputError
from featcodec.packing.bands import TensorScale
from featcodec.packing.frames import Packing
from featcodec.packing.layout import Layout, LayoutConfig
from featcodec.packing.quantize import UniformQuantizer
from featcodec.packing.tiling import TileGrid


def layout(channels: int, seed: int) -> Layout:
    rng = np.random.default_rng(seed)
    scale = rng.choice([-1, 1], channels) * rng.uniform(0.5, 2, channels)
    config = LayoutConfig("0123456789abcdef", 4, -8.0, 8.0, {})
    return Layout(
        config,
        rng.permutation(channels),
        scale.astype(np.float32),
        rng.uniform(-1, 1, channels).astype(np.float32),
    )


@given(
    channels=st.integers(1, 20),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    bits=st.integers(1, 8),
    arranged=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_tensor_comes_back_within_half_a_step(
    channels: int, height: int, width: int, bits: int, arranged: bool, seed: int
) -> None:
    packing = Packing.near_square(
        channels, UniformQuantizer(-3, 3), layout(channels, seed) if arranged else None
    ).with_range(-8, 8, bits)
    tensor = np.random.default_rng(seed).uniform(-3, 3, (channels, height, width)).astype(np.float32)
    frame = packing.to_frame(tensor)
    assert (frame.dtype, frame.shape) == (np.uint8, (packing.grid.rows * height, packing.grid.cols * width))
    step = packing.quantizer.step / (1 if packing.layout is None else np.abs(packing.layout.scale).min())
    assert np.abs(packing.to_tensor(frame) - tensor).max() <= step * 0.501


@given(
    channels=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    exponents=st.lists(st.integers(0, 3), min_size=7, max_size=7),
    sides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bits=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_several_tensors_come_back_within_half_a_step(
    channels: list[int], exponents: list[int], sides: tuple[int, int], bits: int, seed: int
) -> None:
    divisors = [1, *(1 << exponent for exponent in sorted(exponents))][: len(channels)]
    further = tuple(TensorScale(*each) for each in zip(channels[1:], divisors[1:], strict=True))
    packing = Packing.near_square(channels[0], UniformQuantizer(-3, 3, bits), further=further)
    rng = np.random.default_rng(seed)
    tensors = [
        rng.uniform(-3, 3, (each, *(side * divisors[-1] // divisor for side in sides))).astype(np.float32)
        for each, divisor in zip(channels, divisors, strict=True)
    ]
    frame = packing.to_frame(tensors)
    assert (frame.dtype, frame.shape) == (np.uint8, packing.bands.frame_shape(*tensors[0].shape[1:]))
    decoded = packing.to_tensors(frame)
    assert [each.shape for each in decoded] == [each.shape for each in tensors]
    for one, other in zip(decoded, tensors, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - other).max() <= packing.quantizer.step * 0.501


@given(channels=st.integers(1, 40), arranged=st.booleans(), seed=st.integers(0, 99))
def test_one_tensor_in_a_sequence_is_one_tensor(channels: int, arranged: bool, seed: int) -> None:
    packing = Packing.near_square(channels, UniformQuantizer(-3, 3), layout(channels, seed) if arranged else None)
    tensor = np.random.default_rng(seed).uniform(-3, 3, (channels, 3, 4)).astype(np.float32)
    frame = packing.to_frame(tensor)
    plain = tensor if packing.layout is None else packing.layout.arrange(tensor)
    assert np.array_equal(frame, TileGrid.near_square(channels).tile(packing.quantizer.quantize(plain)))
    assert np.array_equal(packing.to_frame([tensor]), frame)
    (decoded,) = packing.to_tensors(frame)
    assert np.array_equal(decoded, packing.to_tensor(frame))


def test_the_clip_range_is_the_quantizers_or_the_layouts() -> None:
    assert Packing.near_square(6, UniformQuantizer(-3, 3)).quantizer == UniformQuantizer(-3, 3)
    assert Packing.near_square(6, UniformQuantizer(-3, 3), layout(6, 0)).quantizer == UniformQuantizer(-8, 8)


def test_what_does_not_fit_is_refused() -> None:
    quantizer = UniformQuantizer(-3, 3)
    with pytest.raises(InputError, match="do not fit into 2x2 tiles"):
        Packing(5, quantizer, TileGrid(2, 2))
    with pytest.raises(InputError, match="a layout of 6 channels"):
        Packing(5, quantizer, TileGrid(2, 3), layout(6, 0))
    with pytest.raises(InputError, match="a tensor of 4 channels"):
        Packing.near_square(5, quantizer).to_frame(np.zeros((4, 2, 2), np.float32))


def test_what_does_not_fit_several_tensors_is_refused() -> None:
    further = (TensorScale(3, 2), TensorScale(4, 4))
    packing = Packing.near_square(6, UniformQuantizer(-3, 3), further=further)
    tensors = [np.zeros(shape, np.float32) for shape in ((6, 8, 8), (3, 4, 4), (4, 2, 2))]
    frame = packing.to_frame(tensors)
    with pytest.raises(InputError, match="holds 3 tensors, not one; use to_tensors"):
        packing.to_tensor(frame)
    with pytest.raises(InputError, match="1 tensor cannot be packed where 3 tensors are expected"):
        packing.to_frame(tensors[0])
    with pytest.raises(InputError, match="frame does not hold 3 tensors"):
        packing.to_tensors(frame[:-1])
    with pytest.raises(InputError, match="NaN"):
        packing.to_frame([*tensors[:2], tensors[2] * np.nan])
    with pytest.raises(InputError, match="a layout is for one tensor, not for 3"):
        Packing.near_square(6, UniformQuantizer(-3, 3), layout(6, 0), further)
    assert packing.with_range(-1, 1, 4).further == further
