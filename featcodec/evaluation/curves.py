"""Rate-accuracy curves out of CSV files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featcodec.errors import InputError
from featcodec.evaluation.points import IDENTITY, PARAMETERS, Row, read_rows

RATE = "bpp"
PSNR = "psnr"
_PREFIXES = ("fingerprint", "dataset", "recnet", "layout", "restoration")
"""Columns of which the beginning of a value is enough."""
_LISTED = 8


@dataclass(frozen=True)
class CurvePoint:
    """One point of a curve.

    Attributes:
        rate: bits per pixel, above 0.
        accuracy: percent.
        psnr: of an attack, in dB, or None where it was not measured.
        row: all that the file says of it.
    """

    rate: float
    accuracy: float
    psnr: float | None
    row: Row


@dataclass(frozen=True)
class RateCurve:
    """The points of one codec with equal settings.

    Attributes:
        name: the file and what tells this curve from others in it, for messages.
        metric: the column of the accuracies.
        points: at least one, by rising rate.
    """

    name: str
    metric: str
    points: tuple[CurvePoint, ...]


def read_curve(path: Path, metric: str, conditions: Mapping[str, str] | None = None) -> RateCurve:
    """The one curve of a file that meets the conditions.

    Rows belong to one curve where everything but QP or quality is equal. A file need not have all columns of a sweep:
    one with the rate and the metric alone holds one curve.

    Args:
        path: a CSV file with a header line.
        metric: the column of the accuracies, ap50 or ap.
        conditions: values by column; of fingerprint, dataset, recnet, layout and restoration the
            beginning is enough.

    Raises:
        InputError: unreadable, a column is missing, a value is no number, or none or several curves are meant.
    """
    conditions = conditions or {}
    rows = read_rows(path, (RATE, metric, *conditions))
    chosen = [row for row in rows if all(meets(row, *condition) for condition in conditions.items())]
    curves = split_rows(chosen)
    if len(curves) > 1:
        raise InputError(f"{path}: holds {len(curves)} curves; choose one, by COLUMN=VALUE: {_list(curves)}")
    if not curves:
        asked = " ".join(f"{name}={value}" for name, value in conditions.items())
        there = f"; it holds {_list(split_rows(rows))}" if rows else ""
        raise InputError(f"{path}: holds no point{' with ' if asked else ''}{asked}{there}")
    row = curves[0][0]
    name = " ".join([str(path), row.get("method", ""), "restored" if row.get("restoration") else ""]).strip()
    return curve_of(curves[0], metric, name)


def curve_of(rows: Sequence[Row], metric: str, name: str) -> RateCurve:
    """The curve of these rows; those that lack the rate or the metric are no points of it.

    Args:
        rows: of one curve, with the columns bpp and the metric's.
        metric: the column of the accuracies, ap50 or ap.
        name: the curve's, for messages.

    Raises:
        InputError: a value is no number, or no row is a point.
    """
    points = [_point(name, row, metric) for row in rows if row[RATE] and row[metric]]
    if not points:
        raise InputError(f"{name}: its points have no {RATE} or no {metric}; measure them with `featcodec sweep`")
    return RateCurve(name, metric, tuple(sorted(points, key=lambda point: (point.rate, point.accuracy))))


def meets(row: Row, name: str, value: str) -> bool:
    """Whether a row has that value in that column; of what names weights or a data set the beginning is enough."""
    return row[name].startswith(value) if value and name in _PREFIXES else row[name] == value


def split_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each curve: everything but QP or quality is equal. Of double points the latest counts."""
    curves: dict[tuple[str, ...], dict[tuple[str, ...], Row]] = {}
    for number, row in enumerate(rows):
        key = tuple(row.get(column, "") for column in IDENTITY)
        parameters = tuple(row[column] for column in PARAMETERS if column in row)
        # Without a parameter column nothing says that two rows are the same point.
        curves.setdefault(key, {})[parameters if any(parameters) else (str(number),)] = row
    return [list(points.values()) for points in curves.values()]


def _list(curves: Sequence[Sequence[Row]]) -> str:
    """What tells the curves apart, in one line."""
    first = [curve[0] for curve in curves]
    columns: list[str] = []
    texts = {""}
    for name in IDENTITY:
        longer = {" ".join(f"{column}={row.get(column, '')}" for column in (*columns, name)) for row in first}
        if len(longer) > len(texts) or name == IDENTITY[0]:
            columns.append(name)
            texts = longer
    listed = sorted(texts)
    return "; ".join(listed[:_LISTED]) + ("; ..." if len(listed) > _LISTED else "")


def _point(curve: str, row: Row, metric: str) -> CurvePoint:
    rate, accuracy = (_number(curve, row, name) for name in (RATE, metric))
    if rate <= 0:
        raise InputError(f"{curve}: a rate of {row[RATE]} bpp; rates are above 0")
    return CurvePoint(rate, accuracy, _number(curve, row, PSNR) if row.get(PSNR) else None, row)


def _number(curve: str, row: Row, name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{curve}: {name} {row[name]!r} is no number")
    return value
