"""Rate-accuracy curves, read from CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featcodec.errors import InputError
from featcodec.evaluation.points import IDENTITY, PARAMETERS, Row, read_points
from featcodec.system.csv_tables import number_of

RATE = "bpp"
PSNR = "psnr"
ATTACK = "attack"
_PREFIXES = ("fingerprint", "dataset", "recnet", "layout", "restoration")
"""Columns for which the beginning of a value is enough."""
_LISTED = 8


@dataclass(frozen=True)
class CurvePoint:
    """One point of a curve.

    Attributes:
        rate: bits per pixel, above 0.
        accuracy: percent.
        psnr: PSNR of an attack, in dB, or None if it was not measured.
        row: all values of the point in the file.
    """

    rate: float
    accuracy: float
    psnr: float | None
    row: Row


@dataclass(frozen=True)
class RateCurve:
    """The points of one method with equal settings.

    Attributes:
        name: the file and the words that name this curve in it, for messages.
        metric: the column of the accuracies.
        points: at least one, by rising rate.
        notes: what was left out of the file, one line each.
    """

    name: str
    metric: str
    points: tuple[CurvePoint, ...]
    notes: tuple[str, ...] = ()


def read_curve(path: Path, metric: str, conditions: Mapping[str, str] | None = None) -> RateCurve:
    """Read the one curve of a file that meets the conditions.

    Rows belong to one curve if everything except QP and quality is equal. A file does not need all columns of a sweep.
    A file with only the rate and the metric holds one curve. Rows without a rate or without the metric are left out,
    and the notes of the curve say so.

    Rows of an audit (with a value in the column attack) are points only if a condition names their attack.

    Args:
        path: a CSV file with a header line.
        metric: the column of the accuracies, ap50 or ap.
        conditions: required values by column. For fingerprint, dataset, recnet, layout and restoration the beginning of
            the value is enough.

    Raises:
        InputError: the file is unreadable, a column is missing, a value is not a number, or no curve or several curves
            meet the conditions.
    """
    conditions = conditions or {}
    content = read_points(path, (RATE, metric, *conditions))
    notes = content.notes
    rows = [row for row in content.rows if _counts(row, conditions)]
    chosen = []
    for row, number in zip(content.rows, content.numbers, strict=True):
        if _counts(row, conditions) and all(meets(row, *condition) for condition in conditions.items()):
            chosen.append(row)
            if row[RATE] and row[metric]:
                _point(f"{path}: row {number}", row, metric)
            else:
                notes.append(f"{path}: row {number} has no {RATE if not row[RATE] else metric}, so it is left out")
    curves = split_rows(chosen)
    if len(curves) > 1:
        raise InputError(f"{path}: holds {len(curves)} curves; choose one, by COLUMN=VALUE: {_list(curves)}")
    if not curves:
        asked = " ".join(f"{name}={value}" for name, value in conditions.items())
        there = f"; it holds {_list(split_rows(rows))}" if rows else ""
        raise InputError(f"{path}: holds no point{' with ' if asked else ''}{asked}{there}")
    row = curves[0][0]
    name = " ".join([str(path), row.get("method", ""), "restored" if row.get("restoration") else ""]).strip()
    return replace(curve_of(curves[0], metric, name), notes=tuple(notes))


def _counts(row: Row, conditions: Mapping[str, str]) -> bool:
    """Whether a row may be a point: the rows of audits only if they are asked for."""
    return ATTACK in conditions or not row.get(ATTACK)


def curve_of(rows: Sequence[Row], metric: str, name: str) -> RateCurve:
    """Make a curve from these rows. Rows without a rate or without the metric are left out.

    Args:
        rows: the rows of one curve, with the column bpp and the column of the metric.
        metric: the column of the accuracies, ap50 or ap.
        name: the name of the curve, for messages.

    Raises:
        InputError: a value is not a number, or no row is a point.
    """
    points = [_point(name, row, metric) for row in rows if row[RATE] and row[metric]]
    if not points:
        raise InputError(f"{name}: its points have no {RATE} or no {metric}; measure them with `featcodec sweep`")
    return RateCurve(name, metric, tuple(sorted(points, key=lambda point: (point.rate, point.accuracy))))


def meets(row: Row, name: str, value: str) -> bool:
    """Whether a row has this value in this column. For names of weights or a data set the beginning is enough."""
    return row[name].startswith(value) if value and name in _PREFIXES else row[name] == value


def split_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each curve: everything except QP and quality is equal. Of double points the last counts."""
    curves: dict[tuple[str, ...], dict[tuple[str, ...], Row]] = {}
    for number, row in enumerate(rows):
        key = tuple(row.get(column, "") for column in IDENTITY)
        parameters = tuple(row[column] for column in PARAMETERS if column in row)
        # Without a parameter column no two rows are known to be the same point.
        curves.setdefault(key, {})[parameters if any(parameters) else (str(number),)] = row
    return [list(points.values()) for points in curves.values()]


def _list(curves: Sequence[Sequence[Row]]) -> str:
    """Return one line that shows how the curves differ."""
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
        raise InputError(f"{curve}: has a rate of {row[RATE]} bpp; rates are above 0")
    if not 0 <= accuracy <= 100:
        raise InputError(f"{curve}: has the {metric} {row[metric]}; accuracies are from 0 to 100 %")
    return CurvePoint(rate, accuracy, _number(curve, row, PSNR) if row.get(PSNR) else None, row)


def _number(curve: str, row: Row, name: str) -> float:
    value = number_of(row[name])
    if value is None:
        raise InputError(f"{curve}: {name} {row[name]!r} is not a number; write it like 0.25")
    return value
