"""The CSV file of a sweep: one row per point. Several sweeps may append to the file at the same time.

A row says what was coded and how (`IDENTITY`, `PARAMETERS`), and what was measured (`MEASURES`). Values are compared as
the texts in the file. Two sweeps that measure the same point at the same time append two rows; the later row counts. A
line that was cut off by a full disk does not count as a row.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias

from featcodec.errors import InputError, OutputError
from featcodec.system.files import read_bounded

PARAMETERS = ("qp", "quality")
"""The columns that change along a rate-accuracy curve: the QP of VVC, or the quality of JPEG."""

IDENTITY = (
    *("method", "fingerprint", "codec", "codec_version", "preset", "encoder_params", "split", "clip_low", "clip_high"),
    *("bits", "layout", "restoration", "image_size", "square", "precision", "conf", "iou", "max_det"),
    *("dataset", "images", "version"),
)
"""The other columns that identify a point. They are equal along a curve.

method: bottleneck, latent, input-vvc, input-jpeg or uncoded. fingerprint: names the weights of detector and bottleneck.
codec, codec_version: the video codec, or pillow for JPEG. split: the last layer of the front-end. clip_low, clip_high,
bits: the quantizer. layout: 16 hex digits that name the layout of the frame, or an empty string without one.
restoration: 16 hex digits that name the restoration in the decoder, or an empty string without one. image_size, square:
the letterbox. precision: the number format of the networks. conf, iou, max_det: which boxes count. dataset: 16 hex
digits that name the bytes of the annotation file and the ids of the images. images: number of images. version: version
of featcodec.
"""

MEASURES = (
    *("bottleneck", "bytes", "header_bytes", "slice_bytes", "bpp", "ap", "ap50", "ap75"),
    *("bootstrap", "seed", "ap50_low", "ap50_high", "recnet", "psnr", "edge_psnr"),
    *("front_end_seconds", "encode_seconds", "decode_seconds", "back_end_seconds"),
)
"""What was measured.

bottleneck: the name of the bottleneck, for people. bytes: size of all files. slice_bytes: bytes of slice data (for
JPEG, of the scan). header_bytes: all other bytes. bpp: bits per pixel of the original images. ap, ap50, ap75: COCO box
AP in percent. ap50_low, ap50_high: the 95 % interval of the bootstrap, from `bootstrap` resamples with `seed`.
recnet: 16 hex digits that name the RecNet. psnr, edge_psnr: mean dB of its reconstructions. *_seconds: time of one
thread, summed over the images.
"""

LATER = ("layout", "restoration")
"""Columns that files of older versions do not have. Their rows are read with empty values in these columns."""

COLUMNS = (IDENTITY[0], *PARAMETERS, *IDENTITY[1:], *MEASURES)

Row: TypeAlias = dict[str, str]
"""The values of a row, as texts by column."""

_MAX_BYTES = 64 << 20


def number(value: float) -> str:
    """Write a number as in the file: with nine significant digits, or as an empty string for NaN."""
    return "" if math.isnan(value) else f"{value:.9g}"


def read_rows(path: Path, needed: Sequence[str] = ()) -> list[Row]:
    """Read the rows of a CSV file with a header line, in order.

    Args:
        path: the file.
        needed: columns that the file must have. Columns of `LATER` may be missing and are then empty.

    Raises:
        InputError: the file is unreadable or not a CSV file, or a needed column is missing; the message names it.
    """
    return _parse(path, _text(path), needed)


def _text(path: Path) -> str:
    remedy = "give a CSV file of `featcodec sweep`"
    data = read_bounded(path, _MAX_BYTES, InputError, what="sweep", remedy=remedy)
    return io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape").read()


def _parse(path: Path, text: str, needed: Sequence[str]) -> list[Row]:
    try:
        lines = [line for line in csv.reader(io.StringIO(text)) if line]
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error}); give a file of `featcodec sweep`") from None
    header = lines[0] if lines else []
    absent = [column for column in needed if column not in header]
    missing = [column for column in absent if column not in LATER]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]!r}; give a CSV file of `featcodec sweep`")
    later = dict.fromkeys(absent, "")
    return [{**later, **dict(zip(header, line, strict=True))} for line in lines[1:] if len(line) == len(header)]


class PointFile:
    """The points of a CSV file. The file is created when the first row is appended.

    Args:
        path: the file.

    Raises:
        InputError: the file exists and its columns are not `COLUMNS`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows()

    def rows(self) -> list[Row]:
        """Read all rows, in order. The list is empty if there is no file yet."""
        if not self.path.exists():
            return []
        rows = read_rows(self.path)
        self._check_header()
        return rows

    def find(self, point: Mapping[str, str]) -> Row | None:
        """Return the last row with these values, or None."""
        matching = [row for row in self.rows() if all(row[name] == value for name, value in point.items())]
        return matching[-1] if matching else None

    def append(self, row: Row) -> None:
        """Add a row, and the header line if the file is new. Another process may do the same at the same time.

        Raises:
            InputError: the file now has other columns.
            OutputError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file, _locked(file):
                size = file.seek(0, os.SEEK_END)
                if size:
                    self._check_header()
                    file.seek(size - 1)
                    # A line that was cut off stays a line of its own. It does not count as a row.
                    text = ("" if file.read(1) == b"\n" else "\n") + _line(row)
                else:
                    text = _line({column: column for column in COLUMNS}) + _line(row)
                data = text.encode("utf-8", "surrogateescape")
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); free the disk or choose another `output`"
            ) from None

    def _check_header(self) -> None:
        header = next(csv.reader(io.StringIO(_text(self.path), newline="")), [])
        for column in COLUMNS:
            if header and column not in header:
                older = "an older featcodec wrote it: " if column in LATER else ""
                raise InputError(f"{self.path}: has no column {column!r}; {older}choose another `output`")
        if header and header != list(COLUMNS):
            raise InputError(f"{self.path}: has other columns than this featcodec writes; choose another `output`")


def _line(row: Mapping[str, str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([row[column] for column in COLUMNS])
    return text.getvalue()


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Keep other processes from appending. The lock ends when the process ends, even when it is killed."""
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # Windows
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
