"""Quantization: the round trips of the contract, clipping that never wraps, and refused ranges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featcodec.errors import InputError
from featcodec.packing.quantize import UniformQuantizer

FLOAT32_MAX = float(np.finfo(np.float32).max)


@st.composite
def quantizers(draw: st.DrawFn) -> UniformQuantizer:
    """Quantizers over ranges of every magnitude, none too narrow for float32."""
    low = draw(st.floats(-1e6, 1e6, width=32))
    width = draw(st.floats(0.01, 1e6)) * max(1.0, abs(low))
    return UniformQuantizer(low, low + width, draw(st.integers(1, 8)))


@given(quantizers())
def test_every_sample_survives_the_round_trip(quantizer: UniformQuantizer) -> None:
    samples = np.arange(quantizer.levels + 1, dtype=np.uint8)
    assert np.array_equal(quantizer.quantize(quantizer.dequantize(samples)), samples)


@settings(max_examples=60)
@given(quantizers(), hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=st.floats(width=32)))
def test_values_come_back_within_half_a_step_of_the_clipped_value(
    quantizer: UniformQuantizer, values: np.ndarray
) -> None:
    values = np.where(np.isnan(values), np.float32(0), values)
    restored = quantizer.dequantize(quantizer.quantize(values))
    assert restored.shape == values.shape
    assert restored.dtype == np.float32
    clipped = np.minimum(np.maximum(values.astype(np.float64), quantizer.low), quantizer.high)
    float32_error = float(np.spacing(np.float32(max(abs(quantizer.low), abs(quantizer.high)))))
    assert np.abs(restored - clipped).max() <= quantizer.step / 2 + float32_error


@given(quantizers())
def test_clipping_never_wraps(quantizer: UniformQuantizer) -> None:
    below = np.array([-np.inf, -FLOAT32_MAX, quantizer.low], np.float32)
    above = np.array([np.inf, FLOAT32_MAX, quantizer.high], np.float32)
    assert quantizer.quantize(below).tolist() == [0, 0, 0]
    assert quantizer.quantize(above).tolist() == [quantizer.levels] * 3


@given(quantizers(), st.lists(st.floats(-1e7, 1e7), min_size=2, max_size=20))
def test_quantization_keeps_the_order(quantizer: UniformQuantizer, values: list[float]) -> None:
    assert np.all(np.diff(quantizer.quantize(np.sort(np.array(values))).astype(int)) >= 0)


@given(quantizers(), st.integers(0, 255))
def test_dequantized_values_stay_inside_the_range(quantizer: UniformQuantizer, sample: int) -> None:
    (value,) = quantizer.dequantize(np.array([sample], np.uint8))
    assert quantizer.low <= value <= quantizer.high
    if sample >= quantizer.levels:
        assert value == np.float32(quantizer.high)


def test_known_values() -> None:
    quantizer = UniformQuantizer(-3, 3)
    assert quantizer.quantize(np.array([-9.0, -3.0, -2.99, 0.01, 3.0, 4.0])).tolist() == [0, 0, 0, 128, 255, 255]
    assert quantizer.dequantize(np.array([0, 255], np.uint8)).tolist() == [-3.0, 3.0]
    assert UniformQuantizer(0, 1, 1).quantize(np.array([0.4, 0.6])).tolist() == [0, 1]
    assert UniformQuantizer(0, 3, 2).step == 1.0


def test_half_precision_features_are_quantized_like_their_values() -> None:
    values = np.linspace(-4, 4, 101).astype(np.float16)
    quantizer = UniformQuantizer(-3, 3)
    assert np.array_equal(quantizer.quantize(values), quantizer.quantize(values.astype(np.float64)))


def test_the_range_is_what_the_bitstream_can_store() -> None:
    quantizer = UniformQuantizer(-0.2786, 0.1)
    assert (quantizer.low, quantizer.high) == (float(np.float32(-0.2786)), float(np.float32(0.1)))


@pytest.mark.parametrize(
    ("low", "high"),
    [(1, 1), (2, 1), (math.nan, 1), (0, math.nan), (-math.inf, 0), (0, math.inf), (0, 1e39), (1.0, 1.0 + 1e-9)],
)
def test_empty_and_infinite_ranges_are_refused(low: float, high: float) -> None:
    with pytest.raises(InputError, match="clip range"):
        UniformQuantizer(low, high)


def test_a_range_too_narrow_for_float32_is_refused() -> None:
    with pytest.raises(InputError, match="too narrow"):
        UniformQuantizer(1000.0, 1000.001)


@pytest.mark.parametrize("bits", [-1, 0, 9, 16])
def test_other_bit_depths_are_refused(bits: int) -> None:
    with pytest.raises(InputError, match="bit depth"):
        UniformQuantizer(0, 1, bits)


def test_nan_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        UniformQuantizer(0, 1).quantize(np.array([0.5, np.nan]))
