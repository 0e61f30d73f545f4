"""The data of a report: rows from sweeps of one detector on one data set, sorted into curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featcodec.bitstream import HEVC
from featcodec.errors import InputError
from featcodec.evaluation.curves import RATE, RateCurve, curve_of, meets, split_rows
from featcodec.evaluation.points import IDENTITY, PARAMETERS, SCORES, Row, read_points
from featcodec.images.entries import shown
from featcodec.system.csv_tables import number_of

UNCODED = "uncoded"
NUMBER = "number"
"""An added column, not in the files: the number of the row in the report."""
ORIGIN = "origin"
"""An added column, not in the files: the file and the number of the row in it."""
_NEEDED = (*IDENTITY, *PARAMETERS, "bottleneck", "bytes", "slice_bytes", RATE, "ap", "ap50")
_NUMBERS = (
    *(RATE, "bytes", "slice_bytes", "ap", "ap50", "ap50_low", "ap50_high", *SCORES, "clip_low", "clip_high"),
    *("front_end_seconds", "encode_seconds", "decode_seconds", "back_end_seconds"),
)
"""Columns that must hold numbers if they are present and not empty."""
_ACCURACIES = ("ap50", "ap", "ap75", "ap50_low", "ap50_high")
_LARGEST = 1e15
"""Larger than any value that a sweep measures, and small enough to compute with."""
_CODEC = ("method", "fingerprint", "restoration", "split")
"""The columns in which codecs differ, beside the standard. All other columns are settings."""
_USUAL_SPLIT = "4"
_ORDER = {"bottleneck": 0, "latent": 1, "input-vvc": 2, "input-jpeg": 3}


@dataclass(frozen=True)
class Series:
    """One codec.

    Attributes:
        label: the name of the bottleneck, or else of the method, and whether the codec has a restoration, codes HEVC,
            or cuts the detector behind another layer than usual. Each label is used once.
        method: bottleneck, latent, input-vvc or input-jpeg.
        restored: whether the decoder used a restoration.
        curve: the curve with the usual settings. These are the settings with the most points; of several such settings,
            the first.
        variants: the curves with other settings, for example other clip ranges or presets, in the order of the rows.
    """

    label: str
    method: str
    restored: bool
    curve: RateCurve
    variants: tuple[RateCurve, ...]

    @property
    def is_anchor(self) -> bool:
        """Whether this codec is an anchor: it has no bottleneck and no restoration."""
        return self.method != "bottleneck" and not self.restored

    def as_coded_in(self, other: Series) -> RateCurve | None:
        """Return the curve with the usual settings of another series, except the restoration, or None."""
        names = [name for name in IDENTITY if name != "restoration"]
        wanted = [other.curve.points[0].row.get(name, "") for name in names]
        curves = (self.curve, *self.variants)
        return next((one for one in curves if [one.points[0].row.get(name, "") for name in names] == wanted), None)


@dataclass(frozen=True)
class Study:
    """Everything that a report shows about sweeps.

    Attributes:
        rows: all rows, in order, with the additional columns `NUMBER` and `ORIGIN`.
        metric: the column of the accuracies along the curves, ap50 or ap.
        uncompressed: the last row of each codec without compression, the detector alone first. The rows of 8-bit
            samples without VVC follow.
        series: bottlenecks first, then the anchors.
        audited: the rows of audits, whatever their data set. They are on no curve.
        notes: what was left out of the files, one line each.
    """

    rows: tuple[Row, ...]
    metric: str
    uncompressed: tuple[Row, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()
    audited: tuple[Row, ...] = ()

    @property
    def detector(self) -> Row | None:
        """The row of the detector alone, or None if it was not measured."""
        return next((row for row in self.uncompressed if is_detector_alone(row) and row[self.metric]), None)


def is_detector_alone(row: Row) -> bool:
    """Whether a row belongs to the uncoded detector, without a bottleneck."""
    return row["method"] == UNCODED and not row["bottleneck"]


def label_of(row: Row) -> str:
    """Return the name of the codec of a row, for people."""
    is_direct = row["method"] in ("latent", UNCODED) and not row["bottleneck"]
    parts = (
        _codec_of(row),
        f"split {row['split']}" if is_direct and row["split"] not in ("", _USUAL_SPLIT) else "",
        HEVC.name if _is_hevc(row) else "",
        "restored" if row["restoration"] else "",
    )
    return ", ".join(filter(None, parts))


def _is_hevc(row: Row) -> bool:
    return row["codec"] == "hevc"


def _codec_of(row: Row) -> str:
    if row["method"] == UNCODED:
        return row["bottleneck"] or "latent"
    if row["method"] == "bottleneck":
        return row["bottleneck"] or row["fingerprint"][:8]
    return row["method"]


def read_study(paths: Sequence[Path], metric: str, conditions: Mapping[str, str] | None = None) -> Study:
    """Read the CSV files of sweeps.

    Args:
        paths: the files.
        metric: ap50 or ap.
        conditions: values by column; only rows with these values count. For fingerprint, dataset, recnet, layout and
            restoration the beginning of the value is enough.

    Raises:
        InputError: a file is unreadable, or a needed column is missing; a value is not a number; there is no row; or
            the rows belong to several data sets or detectors.
    """
    conditions = conditions or {}
    rows: list[Row] = []
    notes: list[str] = []
    for path in paths:
        content = read_points(path, (*_NEEDED, *conditions))
        notes += content.notes
        for number, row in zip(content.numbers, content.rows, strict=True):
            if all(meets(row, *condition) for condition in conditions.items()):
                texts = {column: _printable(value) for column, value in row.items()}
                rows.append({**texts, NUMBER: str(len(rows) + 1), ORIGIN: f"{path}, row {number}"})
                _check_numbers(rows[-1])
                if row["attack"]:
                    continue
                if row["method"] not in (*_ORDER, UNCODED):
                    notes.append(
                        f"{rows[-1][ORIGIN]} has the method {shown(row['method'])}, which a report does not know, so "
                        "it is on no curve"
                    )
                elif row["method"] != UNCODED and not (row[RATE] and row[metric]):
                    missing = RATE if not row[RATE] else metric
                    notes.append(f"{rows[-1][ORIGIN]} has no {missing}, so it is not on a curve")
    where = ", ".join(map(str, paths))
    if not rows:
        raise InputError(f"{where}: no row{' meets `where`' if conditions else ''}; measure with `featcodec sweep`")
    swept = [row for row in rows if not row["attack"]]
    _check_one(swept, where, "dataset", "data sets", ", or choose it with `where` dataset=...")
    direct = [row for row in swept if is_detector_alone(row) or row["method"] in ("latent", *_pictures())]
    _check_one(direct, where, "fingerprint", "detectors")
    groups = split_rows(swept)
    uncompressed = [group[-1] for group in groups if group[0]["method"] == UNCODED]
    uncompressed.sort(key=lambda row: not is_detector_alone(row))
    raw = [group[-1] for group in groups if _is_raw(group[0])]
    coded = [group for group in groups if group[0]["method"] in _ORDER and not _is_raw(group[0])]
    audited = tuple(row for row in rows if row["attack"])
    return Study(tuple(rows), metric, (*uncompressed, *raw), _series(coded, metric), tuple(notes), audited)


def _pictures() -> tuple[str, ...]:
    return "input-vvc", "input-jpeg"


def _is_raw(row: Row) -> bool:
    return row["codec"] == "none"


def _printable(text: str) -> str:
    """Replace the bytes that were not UTF-8, because they cannot be shown."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _check_numbers(row: Row) -> None:
    for name in _NUMBERS:
        text = row.get(name, "")
        value = number_of(text or "0")
        if value is None:
            reason = "not a number"
        elif abs(value) > _LARGEST:
            reason = "too large"
        elif name == RATE and text and value <= 0:
            reason = "not a rate above 0"
        elif name in _ACCURACIES and not 0 <= value <= 100:
            reason = "not an accuracy from 0 to 100 %"
        else:
            continue
        raise InputError(f"{row[ORIGIN]}: {name} {text[:40]!r} is {reason}; measure it with `featcodec sweep`")


def _check_one(rows: Sequence[Row], where: str, column: str, what: str, or_else: str = "") -> None:
    values = sorted({row[column] for row in rows})
    if len(values) > 1:
        raise InputError(
            f"{where}: rows of {len(values)} {what} ({column} {', '.join(values[:4])}); give the files of one{or_else}"
        )


def _series(groups: Sequence[Sequence[Row]], metric: str) -> tuple[Series, ...]:
    codecs: dict[tuple[tuple[str, ...], bool], list[Sequence[Row]]] = {}
    for group in groups:
        codecs.setdefault((tuple(group[0][name] for name in _CODEC), _is_hevc(group[0])), []).append(group)
    labels = [label_of(variants[0][0]) for variants in codecs.values()]
    series = []
    for ((method, fingerprint, restoration, _), _), variants in codecs.items():
        label = label_of(variants[0][0])
        if labels.count(label) > 1:
            label = f"{label} {(restoration or fingerprint)[:8]}"
        curves = [curve_of(rows, metric, label) for rows in variants]
        usual = max(range(len(curves)), key=lambda index: (len(curves[index].points), -index))
        others = tuple(curve for index, curve in enumerate(curves) if index != usual)
        series.append(Series(label, method, bool(restoration), curves[usual], others))
    return tuple(sorted(series, key=lambda one: (_ORDER[one.method], not one.restored)))
