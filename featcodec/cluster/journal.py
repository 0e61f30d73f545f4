"""Lines that are added one by one and outlive the process: at the end of a file, or as objects with some lines each."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Protocol

from featcodec.errors import FeatcodecError, InputError
from featcodec.system.addresses import Address, objects_below
from featcodec.system.files import explained, read_bounded, write_atomically

_LONGEST_LINE = 1 << 16
_LARGEST_PART = 256 << 20
_LINES_PER_PART = 1000
_SECONDS_PER_PART = 30.0
_MOST_PARTS = 16
_PART = re.compile(r"\d{20}-[0-9a-f]{8}\.jsonl")


class Journal(Protocol):
    """Lines of text that outlive the process."""

    def lines(self) -> Iterator[str]:
        """The lines of runs before this one. What cannot be read is left out."""

    def begin(self, kept: list[str]) -> None:
        """Begin to write. `kept` are all lines of runs before this one that are still of use, with the first line.

        Raises:
            OutputError: nothing can be written there.
        """

    def write(self, line: str) -> None:
        """Add a line.

        Raises:
            OutputError: it cannot be written.
        """

    def close(self) -> None:
        """End writing.

        Raises:
            OutputError: the last lines cannot be written.
        """


def journal_at(path: Path) -> Journal:
    """The journal of a path: a file, or objects whose names begin with an address."""
    return _ObjectJournal(path) if isinstance(path, Address) else _FileJournal(path)


class _FileJournal:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def lines(self) -> Iterator[str]:
        try:
            file = self._path.open(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
        with file:
            while line := file.readline(_LONGEST_LINE):
                yield line

    def begin(self, kept: list[str]) -> None:
        goes_on = len(kept) > 1
        with explained(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            mode = "a" if goes_on else "w"
            self._file = self._path.open(mode, buffering=1, encoding="utf-8", errors="surrogateescape")
        # The last line of a run that was killed may lack its end.
        self.write("" if goes_on else kept[0])

    def write(self, line: str) -> None:
        assert self._file is not None  # noqa: S101
        with explained(self._path):
            self._file.write(line + "\n")

    def close(self) -> None:
        assert self._file is not None  # noqa: S101
        with explained(self._path):
            self._file.close()


class _ObjectJournal:
    """Nothing can be added to an object, so now and then a new object takes the lines since the last one.

    A run that is killed loses the lines that are not written yet.
    """

    def __init__(self, folder: Address) -> None:
        self._folder = folder
        self._first = ""
        self._waiting: list[str] = []
        self._written = time.monotonic()

    def lines(self) -> Iterator[str]:
        with ThreadPoolExecutor(_MOST_PARTS) as pool:
            for text in pool.map(_text_of, self._parts()):
                yield from text.splitlines()

    def begin(self, kept: list[str]) -> None:
        older = self._parts()
        self._first, self._waiting = kept[0], []
        if len(kept) == 1 or len(older) > _MOST_PARTS:
            self._waiting = kept[1:]
            self._flush()
            for part in older:
                part.remove()

    def write(self, line: str) -> None:
        self._waiting.append(line)
        if len(self._waiting) >= _LINES_PER_PART or time.monotonic() > self._written + _SECONDS_PER_PART:
            self._flush()

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._waiting:
            part = self._folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}.jsonl"
            text = "\n".join([self._first, *self._waiting, ""])
            write_atomically(part, text.encode("utf-8", "surrogateescape"))
        self._waiting, self._written = [], time.monotonic()

    def _parts(self) -> list[Address]:
        with contextlib.suppress(FileNotFoundError, InputError):
            return sorted(part for part in objects_below(self._folder) if _PART.fullmatch(part.name))
        return []


def _text_of(part: Address) -> str:
    with contextlib.suppress(FeatcodecError):
        data = read_bounded(part, _LARGEST_PART, InputError, what="manifest", remedy="remove it")
        return data.decode("utf-8", "surrogateescape")
    return ""
