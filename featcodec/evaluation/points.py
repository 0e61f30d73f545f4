"""The CSV file of a sweep: one row per point. Several sweeps may append to the file at the same time.

A row says what was coded and how (`IDENTITY`, `PARAMETERS`), and what was measured (`MEASURES`). Values are compared as
the texts in the file. Two sweeps that measure the same point at the same time append two rows; the later row counts. A
row that was cut off (a killed sweep, a full disk) does not count: readers leave it out and say so, and the next sweep
removes it from the end of the file.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from featcodec.errors import InputError
from featcodec.privacy import measures
from featcodec.system.csv_tables import CsvRow, CsvTable, parse_csv
from featcodec.system.files import explained, read_bounded
from featcodec.system.leftovers import beside
from featcodec.system.locks import locked

PARAMETERS = ("qp", "quality")
"""The columns that change along a rate-accuracy curve: the QP of VVC, or the quality of JPEG."""

IDENTITY = (
    *("method", "fingerprint", "codec", "codec_version", "preset", "encoder_params", "split", "clip_low", "clip_high"),
    *("bits", "layout", "restoration", "image_size", "square", "precision", "conf", "iou", "max_det"),
    *("dataset", "images", "version", "attack"),
)
"""The other columns that identify a point. They are equal along a curve.

method: bottleneck, latent, input-vvc, input-jpeg or uncoded. fingerprint: names the weights of detector and bottleneck.
codec, codec_version: the video codec, or pillow for JPEG. split: the last layer of the front-end. clip_low, clip_high,
bits: the quantizer. layout: 16 hex digits that name the layout of the frame, or an empty string without one.
restoration: 16 hex digits that name the restoration in the decoder, or an empty string without one. image_size, square:
the letterbox. precision: the number format of the networks. conf, iou, max_det: which boxes count. dataset: 16 hex
digits that name the bytes of the annotation file and the ids of the images. images: number of images. version: version
of featcodec. attack: the kind of attack in a row of an audit; empty in a row of a sweep, whose scores are those of the
RecNet that `recnet` names.
"""

SCORES = tuple(measure.name for measure in measures.MEASURES)
"""What an attack reaches: means over the images, by the names of the measures.

psnr, edge_psnr: dB. ssim, ms_ssim: at most 1. lpips: a distance. The others are shares in [0, 1].
"""

MEASURES = (
    *("bottleneck", "bytes", "header_bytes", "slice_bytes", "bpp", "ap", "ap50", "ap75"),
    *("bootstrap", "seed", "ap50_low", "ap50_high", "recnet", *SCORES),
    *("front_end_seconds", "encode_seconds", "decode_seconds", "back_end_seconds"),
)
"""What was measured.

bottleneck: the name of the bottleneck, for people. bytes: size of all files. slice_bytes: bytes of slice data (for
JPEG, of the scan). header_bytes: all other bytes. bpp: bits per pixel of the original images. ap, ap50, ap75: COCO box
AP in percent. ap50_low, ap50_high: the 95 % interval of the bootstrap, from `bootstrap` resamples with `seed`.
recnet: 16 hex digits that name the RecNet. SCORES: of its reconstructions, or of those of `attack`. *_seconds: time of
one thread, summed over the images.
"""

LATER = ("layout", "restoration", "attack", *SCORES[2:])
"""Columns that files of older versions do not have. Their rows are read with empty values in these columns."""

COLUMNS = (IDENTITY[0], *PARAMETERS, *IDENTITY[1:], *MEASURES)

Row: TypeAlias = dict[str, str]
"""The values of a row, as texts by column."""

_MAX_BYTES = 64 << 20
_REMEDY = "give a CSV file of `featcodec sweep`"
_SHOWN = 40
_CUT_SECONDS = re.compile(r"\d+(\.\d{0,2})?")


def number(value: float) -> str:
    """Write a number as in the file: with nine significant digits, or as an empty string for NaN."""
    return "" if math.isnan(value) else f"{value:.9g}"


@dataclass(frozen=True)
class Points:
    """The rows of a CSV file.

    Attributes:
        rows: the whole rows, in order.
        numbers: the number of each row in the file, 1 for the first below the header. Rows left out count, too.
        notes: what was left out, one line each.
    """

    rows: list[Row]
    numbers: list[int]
    notes: list[str]


def read_points(path: Path, needed: Sequence[str] = ()) -> Points:
    """Read the rows of a CSV file with a header line.

    Args:
        path: the file.
        needed: columns that the file must have. Columns of `LATER` may be missing and are then empty.

    Raises:
        InputError: the file is unreadable or not a CSV file; a needed column is missing; or a row has another number of
            values than there are columns. Only in the file of a sweep, a row that was cut off is left out instead.
    """
    return _points(path, parse_csv(path, _content(path), InputError, _REMEDY), needed)


def _content(path: Path) -> bytes:
    return read_bounded(path, _MAX_BYTES, InputError, what="sweep", remedy=_REMEDY)


def _points(path: Path, table: CsvTable, needed: Sequence[str]) -> Points:
    absent = [column for column in needed if column not in table.columns]
    missing = [column for column in absent if column not in LATER]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]!r}; {_REMEDY}")
    later = dict.fromkeys(absent, "")
    is_sweep = set(COLUMNS).difference(LATER) <= set(table.columns)
    points = Points([], [], [])
    for row in table.rows:
        if not row.problem:
            points.rows.append({**later, **dict(zip(table.columns, row.values, strict=True))})
            points.numbers.append(row.number)
        elif is_sweep and row.is_cut:
            points.notes.append(f"{path}: {row.place} was cut off, so it is left out; sweep again to measure its point")
        else:
            raise InputError(f"{path}: {row.place} {row.problem}; correct or remove the row")
    return points


class PointFile:
    """The points of a CSV file. The file is created when the first row is appended.

    Args:
        path: the file.

    Raises:
        InputError: the file exists and its columns are not `COLUMNS`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes: list[str] = []
        self.rows()

    def take_notes(self) -> list[str]:
        """Return what was removed or left out since the last call, one line each."""
        notes, self._notes = self._notes, []
        return notes

    def rows(self) -> list[Row]:
        """Read all rows, in order. The list is empty if there is no file yet."""
        if not self.path.exists():
            return []
        return _points(self.path, self._table(_content(self.path)), ()).rows

    def find(self, point: Mapping[str, str]) -> Row | None:
        """Return the last row with these values, or None."""
        matching = [row for row in self.rows() if all(row[name] == value for name, value in point.items())]
        return matching[-1] if matching else None

    def prepare(self) -> None:
        """Find out, before the work, whether rows can be appended. Remove a row that was cut off at the end.

        A file that is not there yet is not made, but its folder is.

        Raises:
            InputError: the file has other columns.
            OutputError: the file cannot be written or locked.
        """
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            with self._open() as file:
                self._cut_back(file)
                self._notes += read_points(self.path).notes
            return
        trial = beside(self.path)
        with explained(self.path):
            try:
                trial.touch(exist_ok=False)
                with locked(trial):
                    pass
            finally:
                trial.unlink(missing_ok=True)

    def append(self, row: Row) -> None:
        """Add a row, and the header line if the file is new. Another process may do the same at the same time.

        Raises:
            InputError: the file now has other columns.
            OutputError: the file cannot be written. It is as before.
        """
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        with self._open() as file:
            self._cut_back(file)
            size = file.seek(0, os.SEEK_END)
            text = _line(row) if size else _HEADER + _line(row)
            data = text.encode("utf-8", "surrogateescape")
            with explained(self.path):
                try:
                    if file.write(data) < len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(size)
                    raise

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Open the file, which exists, to read and append, while no other process does."""
        with locked(self.path), explained(self.path), self.path.open("r+b", buffering=0) as file:
            yield file

    def _cut_back(self, file: IO[bytes]) -> None:
        """Make the file end with a whole row."""
        data = _content(self.path)
        rows = self._table(data).rows
        if not data or data.endswith((b"\n", b"\r")):
            return
        last = max((row.start for row in rows), default=0)
        if not _is_header_cut(data) and not (rows and _is_cut(rows[-1])):
            # Only the line end is missing, as some editors leave it.
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
            return
        file.truncate(last)
        cut = data[last:].decode("utf-8", "replace")
        shown = cut[:_SHOWN] + ("..." if len(cut) > _SHOWN else "")
        self._notes.append(f"{self.path}: its last row was cut off and is removed: {shown!r}")

    def _table(self, data: bytes) -> CsvTable:
        """The content of the file, if it has our columns. A header line that was cut off counts as none."""
        if _is_header_cut(data):
            return CsvTable((), ())
        table = parse_csv(self.path, data, InputError, _REMEDY)
        header = table.columns
        for column in COLUMNS:
            if header and column not in header:
                older = "an older featcodec wrote it: " if column in LATER else ""
                raise InputError(f"{self.path}: has no column {column!r}; {older}choose another `output`")
        if header and header != COLUMNS:
            raise InputError(f"{self.path}: has other columns than this featcodec writes; choose another `output`")
        return table


def _line(row: Mapping[str, str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([row[column] for column in COLUMNS])
    return text.getvalue()


_HEADER = _line({column: column for column in COLUMNS})


def _is_cut(last: CsvRow) -> bool:
    """Whether a last row without a line end was cut off. A sweep writes all seconds, with three decimals, or none."""
    if last.problem:
        return last.is_cut
    before, seconds = last.values[-2:]
    return _CUT_SECONDS.fullmatch(seconds) is not None or bool(before and not seconds)


def _is_header_cut(data: bytes) -> bool:
    """Whether a file holds only the beginning of the header line."""
    header = _HEADER.encode()
    return 0 < len(data) < len(header) - 1 and header.startswith(data)
