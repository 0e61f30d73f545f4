"""Paths that the system's own calls do not know, because what they name is not a file of its own on this machine.

Such a path can be asked and read like any other `Path`. Whatever hands it to the system gets an error of one line: an
address must never be taken for a local file of that name.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import IO, Any, NamedTuple, NoReturn

from featcodec.errors import FeatcodecError

_BLOCK = 4 << 20
"""Bytes that are read at once, so that a photograph is one request."""


class State(NamedTuple):
    """What tells two contents of a file apart: its bytes, and the time of its last change in nanoseconds."""

    size: int
    time: int


class UnreachableError(FeatcodecError):
    """What a path names cannot be reached."""


class Elsewhere(PosixPath):
    """A path to something that is not a file of its own on this machine."""

    __slots__ = ()

    def state(self) -> State | None:
        """What is known of the file, or None for a folder.

        Raises:
            FileNotFoundError: there is nothing of that name.
            UnreachableError: it cannot be found out.
        """
        raise NotImplementedError

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, or up to the end of the file.

        Raises:
            FileNotFoundError: there is no such file.
            UnreachableError: it cannot be read.
        """
        raise NotImplementedError

    def __fspath__(self) -> NoReturn:
        raise FeatcodecError(f"{self}: this works with files on this machine only; copy it, or give a local path")

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        found = self.state()
        mode = stat.S_IFDIR | 0o755 if found is None else stat.S_IFREG | 0o644
        size, time = found or State(0, 0)
        times = dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), time)
        seconds = time // 10**9
        return os.stat_result((mode, 0, 0, 1, 0, 0, size, seconds, seconds, seconds), times)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        try:
            self.state()
        except FileNotFoundError:
            return False
        return True

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        try:
            return self.state() is not None
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        try:
            return self.state() is None
        except FileNotFoundError:
            return False

    def is_symlink(self) -> bool:
        return False

    def samefile(self, other_path: str | os.PathLike[str]) -> bool:
        return self == other_path

    def open(self, mode: str = "rb", buffering: int = -1, *_: Any, **__: Any) -> IO[bytes]:  # type: ignore[override]
        """A seekable file for reading. It is read in blocks of `buffering` bytes."""
        if mode != "rb":
            self.__fspath__()
        found = self.state()
        if found is None:
            raise IsADirectoryError(f"{self}: is a folder")
        return io.BufferedReader(_Ranges(found.size, self.read_range), _BLOCK if buffering < 2 else buffering)


class _Ranges(io.RawIOBase):
    """A file of known size, of which parts can be read."""

    def __init__(self, size: int, read_range: Callable[[int, int], bytes]) -> None:
        self._size, self._position, self._read_range = size, 0, read_range

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._size, self._position + len(buffer))
        if end <= self._position:
            return 0
        data = self._read_range(self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def state_of(path: Path) -> State | None:
    """The state of a file of any kind, or None if there is none, or if it cannot be found out."""
    try:
        found = path.stat()
    except (OSError, ValueError, FeatcodecError):
        return None
    return State(found.st_size, found.st_mtime_ns)
