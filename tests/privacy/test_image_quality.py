"""PSNR and edge-PSNR: by hand, against definitions written out differently, and how they move."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import texture

from featcodec.errors import InputError
from featcodec.privacy.image_quality import (
    ImageQuality,
    edge_psnr,
    image_quality,
    mean_decibel,
    one_colour,
    psnr,
    shows_nothing,
)

MEASURES = [psnr, edge_psnr]
Measure = Callable[[np.ndarray, np.ndarray], float]


def flat(*rgb: float, height: int = 5, width: int = 4) -> np.ndarray:
    return np.broadcast_to(np.array(rgb, np.float32), (height, width, 3)).copy()


def picture(seed: int = 0, height: int = 12, width: int = 9) -> np.ndarray:
    """Random, away from 0 and 1, so that nothing is clipped when noise is added."""
    return np.random.default_rng(seed).uniform(0.2, 0.8, (height, width, 3)).astype(np.float32)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """An original and a reconstruction near to it or far, both in [0, 1]."""
    height, width, seed = draw(st.integers(3, 12)), draw(st.integers(3, 12)), draw(st.integers(0, 999))
    original = picture(seed, height, width)
    noise = np.random.default_rng(seed + 1).normal(0, draw(st.floats(0.001, 0.5)), original.shape)
    return original, np.clip(original + noise, 0, 1).astype(np.float32)


def test_psnr_by_hand() -> None:
    assert psnr(flat(0.5, 0.5, 0.5), flat(0.6, 0.6, 0.6)) == pytest.approx(20, abs=1e-5)
    assert psnr(flat(0, 0, 0), flat(1, 1, 1)) == 0
    # One of three colours is off by 0.3: MSE 0.03.
    assert psnr(flat(0.1, 0.2, 0.3), flat(0.1, 0.5, 0.3)) == pytest.approx(10 * math.log10(1 / 0.03), abs=1e-5)
    # One of 20 pixels.
    one = flat(0, 0, 0)
    one[2, 1] = 1
    assert psnr(flat(0, 0, 0), one) == pytest.approx(10 * math.log10(20))


def test_edge_psnr_by_hand() -> None:
    # A step from black to white between the columns: both columns beside it have the gradient 4, of peak 4.
    step = flat(0, 0, 0, height=3, width=4)
    step[:, 2:] = 1
    assert edge_psnr(flat(0, 0, 0, height=3, width=4), step) == pytest.approx(0)
    assert edge_psnr(flat(0, 0, 0, height=4, width=3), step.transpose(1, 0, 2)) == pytest.approx(0)
    # Green alone is 0.7152 of luma: the error is 4 * (1 - 0.7152).
    green = step * np.array([0, 1, 0], np.float32)
    assert edge_psnr(step, green) == pytest.approx(20 * math.log10(1 / 0.2848))
    # A ramp of 0.1 a column has 0.8 everywhere.
    ramp = np.broadcast_to((np.arange(6) / 10)[None, :, None], (5, 6, 3)).astype(np.float32)
    assert edge_psnr(ramp, flat(0.5, 0.5, 0.5, height=5, width=6)) == pytest.approx(20 * math.log10(4 / 0.8), abs=1e-4)
    # A white corner, one pixel of the 3x3: both filters give 1.
    corner = flat(0, 0, 0, height=3, width=3)
    corner[0, 0] = 1
    assert edge_psnr(flat(0, 0, 0, height=3, width=3), corner) == pytest.approx(10 * math.log10(16 / 2))


@given(pairs())
def test_edge_psnr_is_its_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])

    def magnitude(image: np.ndarray) -> np.ndarray:
        luma = 0.2126 * image[..., 0] + 0.7152 * image[..., 1] + 0.0722 * image[..., 2]
        rows, columns = luma.shape[0] - 2, luma.shape[1] - 2
        result = np.zeros((rows, columns))
        for y in range(rows):
            for x in range(columns):
                window = luma[y : y + 3, x : x + 3]
                result[y, x] = math.sqrt((window * kernel).sum() ** 2 + (window * kernel.T).sum() ** 2)
        return result

    first, second = (magnitude(image.astype(np.float64)) for image in pair)
    assert edge_psnr(*pair) == pytest.approx(10 * math.log10(16 / np.mean((first - second) ** 2)))


@pytest.mark.parametrize("measure", MEASURES)
@given(pairs())
def test_flips_turns_and_exchange_change_nothing(measure: Measure, pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = pair
    value = measure(first, second)
    for turned in (lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x.transpose(1, 0, 2)):
        assert measure(turned(first), turned(second)) == pytest.approx(value)
    assert measure(second, first) == pytest.approx(value)
    negatives = (1 - image.astype(np.float64) for image in pair)
    assert measure(*negatives) == pytest.approx(value)


@pytest.mark.parametrize("measure", MEASURES)
@given(st.integers(0, 999), st.floats(0.001, 0.08), st.floats(1.2, 2.0))
def test_more_of_the_same_noise_is_worse(measure: Measure, seed: int, amount: float, factor: float) -> None:
    """On a flat picture, whose edges are those of the noise alone."""
    original = flat(0.5, 0.5, 0.5, height=8, width=8)
    noise = np.random.default_rng(seed).uniform(-1, 1, original.shape).astype(np.float32)
    assert measure(original, original + amount * factor * noise) < measure(original, original + amount * noise)


@pytest.mark.parametrize("measure", MEASURES)
def test_noise_hurts_a_picture_the_more_the_stronger(measure: Measure) -> None:
    original = texture(64, 48).astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 1, original.shape).astype(np.float32)
    values = [measure(original, original + amount * noise) for amount in (0.01, 0.03, 0.1, 0.3)]
    assert values == sorted(values, reverse=True)


def test_a_constant_error_leaves_the_edges_as_they_are() -> None:
    original = picture()
    assert psnr(original, original + np.float32(0.1)) == pytest.approx(20, abs=1e-3)
    assert edge_psnr(original, original + np.float32(0.1)) > 100


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_pictures_are_infinitely_near(measure: Measure) -> None:
    assert measure(picture(), picture()) == math.inf


@pytest.mark.parametrize("measure", MEASURES)
def test_the_reconstruction_is_clipped_first(measure: Measure) -> None:
    white, black = flat(1, 1, 1), flat(0, 0, 0)
    assert measure(white, white + picture(height=5, width=4)) == math.inf
    assert measure(black, black - picture(height=5, width=4)) == math.inf
    wild = picture() * 4 - 2
    assert measure(picture(1), wild) == measure(picture(1), np.clip(wild, 0, 1))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (9, 2)])
def test_a_picture_without_an_inside_has_no_edges(height: int, width: int) -> None:
    quality = image_quality(flat(0, 0, 0, height=height, width=width), flat(0.1, 0.1, 0.1, height=height, width=width))
    assert quality.psnr == pytest.approx(20, abs=1e-5)
    assert math.isnan(quality.edge_psnr)


def test_quality_is_both_and_precision_does_not_matter() -> None:
    original, other = picture(1), picture(2)
    assert image_quality(original, other) == ImageQuality(psnr(original, other), edge_psnr(original, other))
    doubled = image_quality(original.astype(np.float64), other.astype(np.float64))
    assert doubled.edge_psnr == pytest.approx(image_quality(original, other).edge_psnr)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("original", "reconstruction"),
    [
        (picture(height=4), picture(height=5)),
        (picture(), picture()[..., 0]),
        (picture()[..., :1], picture()[..., :1]),
        (picture()[:0], picture()[:0]),
        ((picture() * 255).astype(np.uint8), (picture() * 255).astype(np.uint8)),
    ],
)
def test_what_cannot_be_compared_is_refused(measure: Measure, original: np.ndarray, reconstruction: np.ndarray) -> None:
    with pytest.raises(InputError):
        measure(original, reconstruction)


def test_nan_is_not_hidden() -> None:
    spoilt = picture()
    spoilt[3, 3, 1] = np.nan
    assert math.isnan(psnr(picture(), spoilt))
    assert math.isnan(edge_psnr(picture(), spoilt))


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([20, 30], 25),
        ([20, math.inf, 30, math.nan], 25),
        ([math.inf, math.inf], math.inf),
        ([math.inf, math.nan], math.inf),
        ([math.nan], math.nan),
        ([], math.nan),
    ],
)
def test_the_mean_is_of_decibels_and_over_finite_ones(values: list[float], mean: float) -> None:
    assert mean_decibel(iter(values)) == pytest.approx(mean, nan_ok=True)


def test_no_other_colour_is_closer() -> None:
    original = np.random.default_rng(3).random((12, 9, 3)).astype(np.float32) * np.float32([0.2, 0.5, 1])
    best = one_colour(original)
    assert best.shape == original.shape
    assert np.ptp(best, axis=(0, 1)).max() == 0
    assert psnr(original, best) == pytest.approx(-10 * np.log10(original.var((0, 1)).mean()))
    for change in (-0.02, 0.02):
        for channel in range(3):
            other = best.copy()
            other[..., channel] += change
            assert psnr(original, other) < psnr(original, best)


@pytest.mark.parametrize(("attack", "failed"), [(11.0, True), (13.2, True), (13.4, False), (20.0, False)])
def test_an_attack_failed_if_it_is_hardly_better_than_one_colour(attack: float, failed: bool) -> None:
    assert shows_nothing(attack, 13.0) is failed


def test_it_does_not_know_torch() -> None:
    code = "import sys, featcodec.privacy.image_quality\nsys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
