"""Bjontegaard deltas of rate-accuracy curves, by the bjontegaard package (VCEG-M33; JVET-T2010 for pchip).

BD-rate is the difference of the rate at equal accuracy, in percent. It takes the logarithm of the rate as a function of
the accuracy. BD-accuracy is the difference of the accuracy at equal rate, in percentage points. BD-PSNR is the
difference of the PSNR of reconstructions at equal accuracy, in dB (paper, Fig. 4b). Each is the mean over the range
that both curves cover.

For all three, a point is left out if it costs more than another point and is not more accurate. Otherwise the rate
would not be a function of the accuracy. The remaining points are the upper envelope of the curve.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import bjontegaard
import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError
from featcodec.evaluation.curves import CurvePoint, RateCurve

Array: TypeAlias = npt.NDArray[np.float64]

INTERPOLATIONS = ("pchip", "cubic", "akima")
_LEAST_POINTS = {"pchip": 2, "cubic": 4, "akima": 2}
_LEAST_OVERLAP = 0.5
"""If the common share of the range is smaller, there is a warning."""
_TOLERANCE = 0.05
"""How far an interpolation may stray from its points, as a part of their range, before there is a warning."""
_SAMPLES = 1001
_LARGEST_EXPONENT = 9


@dataclass(frozen=True)
class Overlap:
    """The range that two curves have in common.

    Attributes:
        low, high: the common range.
        fraction: the common range divided by the range that the two curves cover together, 0..1. For rates the scale is
            logarithmic.
    """

    low: float
    high: float
    fraction: float


@dataclass(frozen=True)
class Comparison:
    """A test curve against its anchor. If the BD-rate or the BD-PSNR is negative, the test is better.

    Attributes:
        bd_rate: percent.
        bd_accuracy: percentage points, or None if the curves have no rate in common.
        bd_psnr: dB, or None if PSNR was not measured.
        accuracy, rate: the ranges in which the curves overlap.
        warnings: warnings about the comparison, one line each.
    """

    bd_rate: float
    bd_accuracy: float | None
    bd_psnr: float | None
    accuracy: Overlap
    rate: Overlap
    warnings: tuple[str, ...]


def compare(anchor: RateCurve, test: RateCurve, interpolation: str = "pchip") -> Comparison:
    """Compare two curves.

    Args:
        anchor, test: curves of one metric.
        interpolation: one of `INTERPOLATIONS`; the common test conditions use pchip.

    Raises:
        InputError: a curve has too few points, or the curves have no accuracy in common.
    """
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"unknown interpolation {interpolation!r}; choose one of {', '.join(INTERPOLATIONS)}")
    notes = list(dict.fromkeys((*anchor.notes, *test.notes)))
    first, second = (_usable(curve, interpolation, notes) for curve in (anchor, test))
    accuracies = [[point.accuracy for point in points] for points in (first, second)]
    rates = [[point.rate for point in points] for points in (first, second)]
    accuracy = _overlap(*accuracies)
    log_rate = _overlap(*(np.log10(values).tolist() for values in rates))
    rate = Overlap(10**log_rate.low, 10**log_rate.high, log_rate.fraction)
    if not accuracy.fraction:
        raise InputError(
            f"{anchor.name} has {anchor.metric} {_range(accuracies[0])} and {test.name} {_range(accuracies[1])}: the "
            "curves have no accuracy in common; measure points in between"
        )
    for what, overlap in ((anchor.metric, accuracy), ("bpp", rate)):
        if overlap.fraction < _LEAST_OVERLAP:
            notes.append(_little(what, overlap))
    logarithms = [np.log10(values).tolist() for values in rates]
    difference = partial(_difference, interpolation, (anchor.name, test.name), notes)
    bd_accuracy = bd_psnr = None
    if rate.fraction:
        bd_accuracy = difference("BD-accuracy", logarithms, accuracies, log_rate)
    psnrs = [[point.psnr for point in points if point.psnr is not None] for points in (first, second)]
    if (len(psnrs[0]), len(psnrs[1])) == (len(first), len(second)):
        bd_psnr = difference("BD-PSNR", accuracies, psnrs, accuracy)
    elif any(psnrs):
        notes.append("PSNR was not measured at every point, so there is no BD-PSNR; sweep with `recnet`")
    exponent = difference("BD-rate", accuracies, logarithms, accuracy)
    if abs(exponent) > _LARGEST_EXPONENT:
        larger, smaller = (test, anchor) if exponent > 0 else (anchor, test)
        raise InputError(
            f"{larger.name}: its rates are more than 10^{_LARGEST_EXPONENT} times those of {smaller.name}, as "
            f"{interpolation} interpolates them; use `interpolation` pchip"
        )
    bd_rate = 100 * (10**exponent - 1)
    return Comparison(bd_rate, bd_accuracy, bd_psnr, accuracy, rate, tuple(notes))


def _difference(
    interpolation: str,
    names: Sequence[str],
    notes: list[str],
    what: str,
    bases: Sequence[Sequence[float]],
    values: Sequence[Sequence[float]],
    overlap: Overlap,
) -> float:
    """The mean of the second curve minus the first, over the bases that both have. Says where curves go astray."""
    with warnings.catch_warnings():
        # numpy warns of polynomials that fit badly. The check below says it in our words.
        warnings.simplefilter("ignore")
        try:
            mean, *functions = bjontegaard.bd_linear(
                bases[0],
                values[0],
                bases[1],
                values[1],
                method=interpolation,
                require_matching_points=False,
                interpolators=True,
                min_overlap=0,
            )
        except ValueError:  # scipy takes no slope that is not finite
            mean, functions = math.nan, []
    if not np.isfinite(mean):
        raise InputError(f"{names[0]} and {names[1]}: their points lie too close together for a {what}; leave some out")
    for name, function, base, value in zip(names, functions, bases, values, strict=True):
        if _goes_astray(function, base, value, overlap):
            notes.append(
                f"{interpolation} does not follow the points of {name} between {overlap.low:.4g} and "
                f"{overlap.high:.4g}, so the {what} is not reliable; use `interpolation` pchip"
            )
    return float(mean)


def _goes_astray(
    function: Callable[[Array], Array], base: Sequence[float], value: Sequence[float], overlap: Overlap
) -> bool:
    """Whether an interpolation misses its points, leaves their range, or turns back where they rise or fall."""
    tolerance = _TOLERANCE * (max(value) - min(value))
    if np.abs(function(np.array(base)) - value).max() > tolerance:
        return True
    found = function(np.linspace(overlap.low, overlap.high, _SAMPLES))
    if found.max() > max(value) + tolerance or found.min() < min(value) - tolerance:
        return True
    rises = [np.all(np.diff(value) >= 0), np.all(np.diff(value) <= 0)]
    turns = [(np.maximum.accumulate(found) - found).max(), (found - np.minimum.accumulate(found)).max()]
    return any(one and turn > tolerance for one, turn in zip(rises, turns, strict=True))


def upper_envelope(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Return the points that are more accurate than every other point of the same or a lower rate, by rising rate."""
    kept: list[CurvePoint] = []
    for point in sorted(points, key=lambda point: (point.rate, -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def left_out(curve: RateCurve) -> str | None:
    """Return one line about the points that `compare` leaves out, or None if it leaves out no point."""
    kept = upper_envelope(curve.points)
    dropped = [point for point in curve.points if point not in kept]
    which = ", ".join(f"{point.rate:.4f} bpp {point.accuracy:.2f}" for point in dropped)
    return f"{curve.name} is not monotone; left out, since cheaper points are as accurate: {which}" if dropped else None


def _usable(curve: RateCurve, interpolation: str, notes: list[str]) -> list[CurvePoint]:
    points = upper_envelope(curve.points)
    if (warning := left_out(curve)) is not None:
        notes.append(warning)
    least = _LEAST_POINTS[interpolation]
    if len(points) < least:
        raise InputError(
            f"{curve.name}: {len(points)} usable {'point is' if len(points) == 1 else 'points are'} not enough; "
            f"{interpolation} needs {least}: measure more QPs"
        )
    return points


def _overlap(first: Sequence[float], second: Sequence[float]) -> Overlap:
    low, high = max(min(first), min(second)), min(max(first), max(second))
    total = max(*first, *second) - min(*first, *second)
    return Overlap(low, high, max(high - low, 0.0) / total)


def _little(what: str, overlap: Overlap) -> str:
    if not overlap.fraction:
        return f"the curves have no {what} in common, so there is no BD value over it"
    digits = 4 if what == "bpp" else 2
    return (
        f"the curves share only {100 * overlap.fraction:.0f} % of their {what} range, {overlap.low:.{digits}f} to "
        f"{overlap.high:.{digits}f}; the BD value over it is not reliable"
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
