"""Rate: bits per original pixel over a set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.bitstream.rate import bits_per_pixel
from featcodec.errors import InputError

SIZES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 9999), st.integers(1, 9999)), min_size=1, max_size=8)


def test_known_rates() -> None:
    assert bits_per_pixel([(1000, 100, 80)]) == 1.0
    # The rate of a set is total bits over total pixels, not the mean of the rates (which would be 2.5).
    assert bits_per_pixel([(100, 10, 20), (400, 40, 80)]) == pytest.approx(8 * 500 / 3400)


@given(SIZES)
def test_every_byte_and_every_pixel_counts_once(sizes: list[tuple[int, int, int]]) -> None:
    pixels = sum(width * height for _, width, height in sizes)
    rate = bits_per_pixel(iter(sizes))
    assert rate * pixels == pytest.approx(8 * sum(size for size, _, _ in sizes))
    assert bits_per_pixel([*sizes, (pixels, 1, 0)]) == pytest.approx(rate + 8)


@given(SIZES)
def test_the_rate_lies_between_those_of_the_images(sizes: list[tuple[int, int, int]]) -> None:
    rates = [bits_per_pixel([size]) for size in sizes]
    assert min(rates) * (1 - 1e-12) <= bits_per_pixel(sizes) <= max(rates) * (1 + 1e-12)


@pytest.mark.parametrize("sizes", [[], [(5, 0, 7)]])
def test_no_pixels_have_no_rate(sizes: list[tuple[int, int, int]]) -> None:
    with pytest.raises(InputError, match="undefined without pixels"):
        bits_per_pixel(sizes)
