"""Packing: a tensor becomes one frame and comes back within half a step, whatever the layout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.errors import InputError
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
