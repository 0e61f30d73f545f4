"""Reads CSV files that somebody made or edited. Nothing is left out without a word."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from featcodec.errors import FeatcodecError

_SHOWN = 40
_NO_HEADER = ("", "sep=,")
"""What may be above the header line; spreadsheets write the second."""
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class CsvRow:
    """A row of a CSV file.

    Attributes:
        number: 1 for the first row below the header.
        line: the line of the file in which the row begins, 1 for the first.
        start: the byte of the file at which it begins.
        values: its texts, as many as there are columns; empty if the row is broken.
        problem: what is wrong with it ("has 3 values, but there are 5 columns"), or an empty text.
        is_cut: whether it looks as if it was cut off: it has too few values, or a quotation mark without its partner.
    """

    number: int
    line: int
    start: int
    values: tuple[str, ...]
    problem: str = ""
    is_cut: bool = False

    @property
    def place(self) -> str:
        """Where the row is, for messages."""
        return f"row {self.number} (line {self.line})"


@dataclass(frozen=True)
class CsvTable:
    """The content of a CSV file.

    Attributes:
        columns: the names in the header line; each name occurs once. Without a header line, there are none.
        rows: the rows in order, also the broken ones. Empty lines do not count, nor do repeated header lines.
    """

    columns: tuple[str, ...]
    rows: tuple[CsvRow, ...]


def parse_csv(path: Path, data: bytes, error: type[FeatcodecError], remedy: str) -> CsvTable:
    """Read a CSV table: columns separated by commas, a header line, UTF-8.

    Line ends of all systems and a byte order mark are accepted. Bytes that are not UTF-8 become surrogates. A quotation
    mark without its partner spoils only its own line, because the rows below are whole.

    Args:
        path: the file, for messages.
        data: its bytes.
        error: the class of the error to raise.
        remedy: what to do if it is not a CSV table, for messages.

    Raises:
        error: the file is not a CSV table in UTF-8, another character separates the columns, or two columns have one
            name.
    """
    if b"\0" in data or data[:2] in _MARKS:
        raise error(f"{path}: not a CSV file in UTF-8 (it holds NUL, as UTF-16 does); save it as UTF-8, or {remedy}")
    raw = data.splitlines(keepends=True)
    starts = [0, *accumulate(map(len, raw))]
    lines = [line.decode("utf-8", "surrogateescape") for line in raw]
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    first = next((index for index, line in enumerate(lines) if line.strip() not in _NO_HEADER), None)
    if first is None:
        return CsvTable((), ())
    try:
        columns, used = _record(lines, first)
    except csv.Error as problem:
        raise error(f"{path}: not a CSV file ({problem}); {remedy}") from None
    columns = tuple(name.strip() for name in columns)
    _check_columns(path, columns, error, remedy)
    return CsvTable(columns, tuple(_rows(lines, starts, first + used, columns)))


def number_of(text: str) -> float | None:
    """The finite number that a value of a table stands for, or None. Its decimal sign is a point."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _check_columns(path: Path, columns: tuple[str, ...], error: type[FeatcodecError], remedy: str) -> None:
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and separator in columns[0]:
            raise error(f"{path}: its columns are separated by {name}; save it with commas, or {remedy}")
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise error(f"{path}: has {twice[0][:_SHOWN]!r} as the name of two columns; rename or remove one")


def _rows(lines: list[str], starts: list[int], index: int, columns: tuple[str, ...]) -> Iterator[CsvRow]:
    number = 0
    while index < len(lines):
        if not lines[index].strip():
            index += 1
            continue
        number += 1
        place = number, index + 1, starts[index]
        try:
            values, used = _record(lines, index)
        except csv.Error as error:
            yield CsvRow(*place, (), f"cannot be read ({error})", is_cut=True)
            index += 1
            continue
        if tuple(value.strip() for value in values) == columns:
            index += used  # several files were put together
        elif len(values) == len(columns):
            yield CsvRow(*place, values)
            index += used
        else:
            # Of a row over several lines only the first is given up: a mark may have hidden whole rows.
            found = f"has {len(values)} value{'' if len(values) == 1 else 's'}, but there are {len(columns)} columns"
            yield CsvRow(*place, (), found, is_cut=len(values) < len(columns) or used > 1)
            index += 1


def _record(lines: list[str], index: int) -> tuple[tuple[str, ...], int]:
    """The values of the row that begins in a line, and its number of lines.

    Raises:
        csv.Error: a quotation mark has no partner, or text follows a quoted value.
    """
    reader = csv.reader((lines[number] for number in range(index, len(lines))), strict=True)
    values = next(reader)
    return tuple(values), reader.line_num
