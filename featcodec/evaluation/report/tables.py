"""The tables of the report. Every number in a cell names the rows that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from featcodec.errors import InputError
from featcodec.evaluation.bd import Comparison, compare, left_out
from featcodec.evaluation.curves import CurvePoint, RateCurve
from featcodec.evaluation.points import IDENTITY, PARAMETERS, Row
from featcodec.evaluation.report.study import NUMBER, UNCODED, Series, Study, is_detector_alone, label_of
from featcodec.video.profiles import describe

ALLOWED_LOSSES = (1, 2, 3, 5)
"""The operating points: how many percentage points the accuracy may be below the uncoded detector."""
_ABSENT = "\N{EN DASH}"
_SHOWN_OTHERWISE = ("clip_low", "clip_high", "preset", "encoder_params", "layout")
_MINUS = "\N{MINUS SIGN}"
_METRICS = {"ap50": "AP50", "ap": "AP"}


@dataclass(frozen=True)
class Cell:
    """A text, and the numbers of the rows that the text comes from."""

    text: str
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: the headings of the columns.
        rows: the rows, each with one cell per column; the first cell is the heading of the row.
        notes: notes on the values, one sentence each.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def uncompressed(study: Study) -> Table:
    """Make the table of accuracy without compression (paper, Table I), and with the 8-bit quantizer only."""
    detector = study.detector
    rows = []
    for row in study.uncompressed:
        if is_detector_alone(row):
            name = "detector, uncoded"
        else:
            name = label_of(row) + ("" if row["method"] == UNCODED else f", {row['bits']}-bit samples")
        cells = [Cell(name)]
        for metric in ("ap50", "ap"):
            cells.append(_value(row, metric, ".2f"))
            cells.append(_against(row, detector, metric))
        rows.append((*cells, _interval(row)))
    columns = ("", "AP50", "change", "AP", "change", "AP50, 95 % interval")
    return _without_empty_columns(Table(columns, tuple(rows)))


def reconstruction(study: Study) -> Table:
    """Make the table of attacks on uncompressed tensors (paper, Table II). All are compared with the first row."""
    attacked = [row for row in study.uncompressed if row["method"] == UNCODED and row.get("psnr")]
    anchor = next((row for row in attacked if is_detector_alone(row)), None)
    rows = []
    for row in attacked:
        cells = [Cell(f"RecNet-{label_of(row)}")]
        for measure in ("psnr", "edge_psnr"):
            cells += [_value(row, measure, ".2f"), _against(row, anchor, measure)]
        rows.append(tuple(cells))
    return _without_empty_columns(Table(("", "PSNR, dB", "change", "edge-PSNR, dB", "change"), tuple(rows)))


def bd(study: Study) -> Table:
    """Compare every bottleneck and every codec with restoration with every anchor, and the anchors with each other.

    A codec with restoration is also compared with the same codec without it. All other settings are equal.
    """
    rows, notes = [], []
    for position, test in enumerate(study.series):
        others = study.series[position + 1 :]
        compared = {f"against {anchor.label}": anchor.curve for anchor in others if anchor.is_anchor}
        for name, curve in {**_unrestored(study, test), **compared}.items():
            cells, said = _comparison(curve, test.curve)
            rows.append((Cell(f"{test.label} {name}"), *cells))
            notes += said
    return Table(("", *_comparison_columns(study)), tuple(rows), tuple(dict.fromkeys(notes)))


def _unrestored(study: Study, test: Series) -> dict[str, RateCurve]:
    """Return the curve of a codec without its restoration, by name. The result is empty if it was not measured."""
    for series in study.series if test.restored else ():
        curve = None if series.restored else series.as_coded_in(test)
        if curve is not None:
            usual = "" if curve is series.curve else " of the same settings"
            return {f"against {series.label}{usual}": curve}
    return {}


def variants(study: Study) -> Table:
    """Compare other settings of one codec, each over all its QPs.

    Clip ranges are compared with the narrowest range (paper, section IV-B). Everything else is compared with the usual
    settings of the codec.
    """
    rows, notes = [], []
    for series in study.series:
        if not series.variants:
            continue
        curves = [series.curve, *series.variants]
        changed = [name for name in IDENTITY if len({_first(curve).get(name, "") for curve in curves}) > 1]
        if set(changed) <= {"clip_low", "clip_high"}:
            curves.sort(key=lambda curve: _clip_width(_first(curve)))
        named = [replace(curve, name=f"{series.label}, {_settings(_first(curve), changed)}") for curve in curves]
        reference, *others = named
        absent = (Cell(_ABSENT),) * (len(_comparison_columns(study)) - 1)
        rows.append((Cell(reference.name), Cell("reference", _numbers(reference)), *absent))
        for curve in others:
            cells, said = _comparison(reference, curve)
            rows.append((Cell(curve.name), *cells))
            notes += said
    return Table(("", *_comparison_columns(study)), tuple(rows), tuple(dict.fromkeys(notes)))


def operating_points(study: Study) -> Table:
    """Find the cheapest measured point of each codec for each of the `ALLOWED_LOSSES`."""
    detector = study.detector
    metric = _METRICS[study.metric]
    columns = ("", *(f"within {loss} of {metric}" for loss in ALLOWED_LOSSES))
    if detector is None:
        return Table(columns, ())
    rows = []
    for series in study.series:
        cells = [Cell(series.label)]
        for loss in ALLOWED_LOSSES:
            least = float(detector[study.metric]) - loss
            enough = [point for point in series.curve.points if point.accuracy >= least]
            cells.append(_operating_point(enough[0]) if enough else Cell(_ABSENT))
        rows.append(tuple(cells))
    return Table(columns, tuple(rows))


def points(study: Study) -> Table:
    """Make the table of all rows."""
    columns: tuple[tuple[str, Callable[[Row], str]], ...] = (
        ("row", lambda row: row[NUMBER]),
        ("codec", label_of),
        ("QP or quality", lambda row: _parameter(row) or ("float32" if row["method"] == UNCODED else "raw samples")),
        ("clip", lambda row: _settings(row, ["clip_low", "clip_high"]) if row["clip_low"] else _ABSENT),
        ("preset", lambda row: row["preset"] or _ABSENT),
        ("bytes", lambda row: f"{int(row['bytes']):,}" if _has_bytes(row) else _ABSENT),
        ("slice data", lambda row: _share_of_slices(row) if _has_bytes(row) else _ABSENT),
        ("bpp", lambda row: _format(row, "bpp", ".4f")),
        ("AP50", lambda row: _format(row, "ap50", ".2f")),
        ("95 % interval", lambda row: _interval(row).text),
        ("AP", lambda row: _format(row, "ap", ".2f")),
        ("PSNR", lambda row: _format(row, "psnr", ".2f")),
        ("edge-PSNR", lambda row: _format(row, "edge_psnr", ".2f")),
        *((("attack", lambda row: row["attack"] or _ABSENT),) if study.audited else ()),
        ("encode, s", lambda row: _sum(row, ("front_end_seconds", "encode_seconds"))),
        ("decode, s", lambda row: _sum(row, ("decode_seconds", "back_end_seconds"))),
        ("file and row", lambda row: row["origin"]),
    )
    rows = tuple(tuple(Cell(_safely(read, row)) for _, read in columns) for row in study.rows)
    return Table(tuple(name for name, _ in columns), rows)


def _has_bytes(row: Row) -> bool:
    """Whether a row has a rate. The row of an audit without a sweep has none."""
    return not row["attack"] or bool(row["bytes"])


def _share_of_slices(row: Row) -> str:
    return f"{100 * int(row['slice_bytes']) / int(row['bytes']):.1f} %"


def row_range(numbers: Sequence[str]) -> str:
    """Write row numbers for people, for example "3-7, 9"."""
    parts: list[list[int]] = []
    for number in sorted(map(int, numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _comparison_columns(study: Study) -> tuple[str, ...]:
    metric = _METRICS[study.metric]
    return "BD-rate", f"BD-{metric}", "BD-PSNR", f"common {metric} range", "overlap"


def _comparison(anchor: RateCurve, test: RateCurve) -> tuple[tuple[Cell, ...], list[str]]:
    """Return the cells of `_comparison_columns`, and the notes."""
    numbers = (*_numbers(anchor), *_numbers(test))
    try:
        found: Comparison = compare(anchor, test)
    except InputError as error:
        return (Cell(_ABSENT, numbers), *([Cell(_ABSENT)] * 4)), [str(error)]
    over = found.accuracy
    cells = (
        Cell(f"{signed(found.bd_rate, 1)} %", numbers),
        Cell(_ABSENT) if found.bd_accuracy is None else Cell(signed(found.bd_accuracy, 2), numbers),
        Cell(_ABSENT) if found.bd_psnr is None else Cell(f"{signed(found.bd_psnr, 2)} dB", numbers),
        Cell(f"{over.low:.1f} to {over.high:.1f}", numbers),
        Cell(f"{100 * over.fraction:.0f} %", numbers),
    )
    return cells, [note for note in map(left_out, (anchor, test)) if note]


def signed(value: float, digits: int) -> str:
    """Write a difference with its sign. A negative number has a real minus sign."""
    return f"{value:+.{digits}f}".replace("-", _MINUS)


def _operating_point(point: CurvePoint) -> Cell:
    row = point.row
    name = "QP" if row["qp"] else "quality"
    return Cell(f"{point.rate:.4f} bpp ({name} {_parameter(row)})", (row[NUMBER],))


def _numbers(curve: RateCurve) -> tuple[str, ...]:
    return tuple(point.row[NUMBER] for point in curve.points)


def _first(curve: RateCurve) -> Row:
    return curve.points[0].row


def _clip_width(row: Row) -> float:
    return float(row["clip_high"] or 0) - float(row["clip_low"] or 0)


def _parameter(row: Row) -> str:
    return next((row[name] for name in PARAMETERS if row[name]), "")


def _settings(row: Row, columns: Sequence[str]) -> str:
    """Write the values of columns for people. The two ends of the clip range are one value."""
    clip = f"clip [{row['clip_low']}, {row['clip_high']}]".replace("-", _MINUS)
    parts = [clip] if "clip_low" in columns or "clip_high" in columns else []
    if "preset" in columns or "encoder_params" in columns:
        is_bottleneck = row["method"] == "bottleneck"
        described = describe(row["preset"], row["encoder_params"], bottleneck=is_bottleneck, video_codec=row["codec"])
        parts += [described or f"preset {row['preset'] or _ABSENT}"]
    if "layout" in columns:
        parts += [f"layout {row['layout'][:8]}" if row.get("layout") else "no layout"]
    parts += [f"{name} {row.get(name) or _ABSENT}" for name in columns if name not in _SHOWN_OTHERWISE]
    return ", ".join(parts)


def _value(row: Row, column: str, form: str) -> Cell:
    return Cell(_format(row, column, form), (row[NUMBER],)) if row.get(column) else Cell(_ABSENT)


def _against(row: Row, anchor: Row | None, column: str) -> Cell:
    if anchor is None or row is anchor or not row.get(column) or not anchor.get(column):
        return Cell("")
    return Cell(signed(float(row[column]) - float(anchor[column]), 2), (row[NUMBER], anchor[NUMBER]))


def _interval(row: Row) -> Cell:
    if not row.get("ap50_low") or not row.get("ap50_high"):
        return Cell("")
    return Cell(f"{_format(row, 'ap50_low', '.1f')} to {_format(row, 'ap50_high', '.1f')}", (row[NUMBER],))


def _format(row: Row, column: str, form: str) -> str:
    text = row.get(column, "")
    return format(float(text), form) if text else _ABSENT


def _sum(row: Row, columns: Sequence[str]) -> str:
    if not all(row.get(column) for column in columns):
        return _ABSENT
    return f"{sum(float(row[column]) for column in columns):.1f}"


def _safely(read: Callable[[Row], str], row: Row) -> str:
    try:
        return read(row) or _ABSENT
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{row['origin']}: a value is not a number; measure it with `featcodec sweep`") from None


def _without_empty_columns(table: Table) -> Table:
    kept = [
        0,
        *(i for i in range(1, len(table.columns)) if any(row[i].text not in ("", _ABSENT) for row in table.rows)),
    ]
    return Table(
        tuple(table.columns[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in table.rows),
        table.notes,
    )
