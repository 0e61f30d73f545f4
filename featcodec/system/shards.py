"""Shards: tar files of many small files, in the layout of WebDataset, with an index beside each.

A member is named KEY.ENDING. Readers of WebDataset end the key at the first dot of its last part, and readers of the
index end a name at a space. So these characters, and others that a reader could stumble over, are written as in URLs
(%2E is a dot).
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import tarfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from featcodec.errors import FeatcodecError, InputError, reason_of
from featcodec.system.elsewhere import Elsewhere, State, UnreachableError
from featcodec.system.files import check_regular, read_bounded, write_once

SHARD_SUFFIX, INDEX_SUFFIX = ".tar", ".idx"
_VERSION = "v1.2"
_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_LONGEST_HEADER = 64 << 10
_LARGEST_INDEX = 1 << 30
_LARGEST_SHARD = 1 << 50
_READ_AT_ONCE = 1 << 20
_OPEN_SHARDS = 4
_REMEDY = "make the shard again"
_ODD = re.compile(r"[%\\\s\x00-\x1f\x7f\udc80-\udcff]")
_META = re.compile(r"_(?=_[^/]*__/)")
"""The first character of a name that WebDataset skips."""


@dataclass(frozen=True)
class Entry:
    """A member of a shard: its name, the place of its first byte, and its bytes."""

    name: str
    offset: int
    size: int


class Member(Elsewhere):
    """A file in a shard. Its path is that of the shard, and its name in the shard behind it."""

    __slots__ = ("_entry", "_is_indexed", "_shard")
    _shard: Path
    _entry: Entry
    _is_indexed: bool

    @classmethod
    def of(cls, shard: Path, entry: Entry, *, is_indexed: bool) -> Member:
        """A member of a shard.

        Args:
            shard: the shard.
            entry: where the member is.
            is_indexed: whether an index says so, and not the shard itself.
        """
        member = cls(f"{shard}/{entry.name}")
        member._shard, member._entry, member._is_indexed = shard, entry, is_indexed
        return member

    def __str__(self) -> str:
        text = super().__str__()
        return text.replace(":/", "://", 1) if isinstance(getattr(self, "_shard", None), Elsewhere) else text

    def __reduce__(self) -> Any:
        if not hasattr(self, "_shard"):
            return type(self), (str(self),)
        return _again, (self._shard, self._entry, self._is_indexed)

    def state(self) -> State:
        if not hasattr(self, "_shard"):
            raise FileNotFoundError(f"{self}: no such member")
        return State(self._entry.size, 0)

    def read_range(self, start: int, end: int) -> bytes:
        size = self.state().size
        with _opened(os.getpid(), self._shard).reading() as file:
            file.seek(self._entry.offset - _BLOCK)
            header = file.read(_BLOCK)
            file.seek(start, os.SEEK_CUR)
            data = file.read(max(0, min(end, size) - start))
        # An index of another shard must not give one image the stream of another.
        is_right = not self._is_indexed or _is_header_of(header, self._entry.name, size)
        if not is_right or len(data) < min(end, size) - start:
            raise UnreachableError(f"{self}: is not where the index of the shard says; remove the index, or {_REMEDY}")
        return data


def _again(shard: Path, entry: Entry, is_indexed: bool) -> Member:
    return Member.of(shard, entry, is_indexed=is_indexed)


class _Shared:
    """An open shard, which is read by one thread at a time."""

    def __init__(self, shard: Path) -> None:
        self._lock = threading.Lock()
        self._file: IO[bytes] = shard.open("rb", _READ_AT_ONCE)

    @contextlib.contextmanager
    def reading(self) -> Iterator[IO[bytes]]:
        with self._lock:
            yield self._file

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _opened(_process: int, shard: Path) -> _Shared:
    """A shard that stays open: its members are small, and mostly read one after the other."""
    return _Shared(shard)


def is_shard(path: Path) -> bool:
    """Whether a path ends like a shard."""
    return path.suffix.lower() == SHARD_SUFFIX


def member_name(relative: Path) -> str:
    """The name of the member for a file: its path with slashes, in which the last dot is the only one of its last part.

    Args:
        relative: the path of the file below its folder. Its last part has an ending.
    """
    *folders, last = (_ODD.sub(_as_in_urls, part) for part in relative.parts)
    stem, ending = last[: -len(relative.suffix)], relative.suffix
    return _META.sub("%5F", "/".join([*folders, stem.replace(".", "%2E") + ending]), count=1)


def _as_in_urls(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(match[0]))


def path_of_member(shard: Path, name: str) -> Path:
    """The path of the file for the member of that name; `member_name` backwards.

    Raises:
        InputError: the name is not a path below a folder.
    """
    path = PurePosixPath(os.fsdecode(unquote_to_bytes(name.encode("utf-8", "surrogateescape"))))
    parts = str(path).split("/")
    if path.is_absolute() or not path.parts or ".." in parts or "\0" in str(path):
        raise InputError(f"{shard}: holds {name!r}, which is not the name of a file below a folder; {_REMEDY}")
    return Path(path)


def write_shard(sink: Any, members: Iterable[tuple[str, bytes]]) -> list[Entry]:
    """Write members into a tar file. The same members make the same bytes.

    Args:
        sink: has a method `write`.
        members: name and bytes of each, in order.
    """
    entries, position = list[Entry](), 0
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        for part in (header, data, bytes(-len(data) % _BLOCK)):
            sink.write(part)
        entries.append(Entry(name, position + len(header), len(data)))
        position += len(header) + len(data) + -len(data) % _BLOCK
    sink.write(bytes(_end_of(position) - position))
    return entries


def _end_of(position: int) -> int:
    """The size of a tar file whose last member ends there: two empty blocks follow, and a record is filled."""
    return -(-(position + 2 * _BLOCK) // _RECORD) * _RECORD


def write_index(shard: Path, entries: Iterable[Entry]) -> None:
    """Write the index of a shard beside it, as wds2idx of NVIDIA DALI does. One that is there and right stays.

    Raises:
        OutputError: it cannot be written.
    """
    lines = []
    for entry in entries:
        ending = entry.name.rpartition("/")[2].partition(".")[2]
        lines.append(f"{ending} {entry.offset} {entry.size} {entry.name}\n")
    text = f"{_VERSION} {len(lines)}\n{''.join(lines)}"
    write_once(shard.with_suffix(INDEX_SUFFIX), text.encode("utf-8", "surrogateescape"), overwrite=True)


def members_of(shard: Path, suffixes: frozenset[str]) -> list[tuple[Member, Path]]:
    """The members of a shard whose endings count, each with its path below a folder; in the order of the shard.

    Its index says what is in it. Without an index that fits, the shard itself is read.

    Raises:
        InputError: the shard is damaged or cannot be read, a name is not a path below a folder, or two members have one
            name.
    """
    indexed = _indexed(shard)
    entries = list(scan(shard)) if indexed is None else indexed
    found, names = list[tuple[Member, Path]](), set[Path]()
    for entry in entries:
        relative = path_of_member(shard, entry.name)
        if relative.suffix.lower() not in suffixes or any(part.startswith(".") for part in relative.parts):
            continue
        if relative in names:
            raise InputError(f"{shard}: holds {entry.name!r} twice; {_REMEDY}")
        names.add(relative)
        found.append((Member.of(shard, entry, is_indexed=indexed is not None), relative))
    return found


def scan(shard: Path) -> Iterator[Entry]:
    """The regular files of a tar file, by its headers.

    Raises:
        InputError: it is not a whole tar file, or cannot be read.
    """
    if not isinstance(shard, Elsewhere):
        check_regular(shard, _LARGEST_SHARD, InputError, what="shard", remedy=_REMEDY)
    try:
        with shard.open("rb", _READ_AT_ONCE) as file:
            yield from _scan(shard, file, shard.stat().st_size)
    except FeatcodecError as error:
        raise InputError(str(error)) from None
    except FileNotFoundError:
        raise InputError(f"{shard}: no such file; check the path") from None
    except Exception as error:  # a hostile file can make the library raise any exception
        raise InputError(f"{shard}: not a readable tar file ({reason_of(error)}); {_REMEDY}") from None


def _scan(shard: Path, file: IO[bytes], size: int) -> Iterator[Entry]:
    with tarfile.open(fileobj=_Headers(file), mode="r:") as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]  # else it would keep all of them
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise InputError(f"{shard}: holds {info.name!r}, which is not a regular file; {_REMEDY}")
            if info.offset_data + info.size > size:
                raise InputError(f"{shard}: ends within {info.name!r}; {_REMEDY}")
            yield Entry(info.name, info.offset_data, info.size)
        # The library takes a damaged header for the end.
        file.seek(tar.offset)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise InputError(f"{shard}: is damaged or cut off at byte {tar.offset}; {_REMEDY}")


class _Headers(io.RawIOBase):
    """A file of which only short parts are read. A header may claim that a name is as long as the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _indexed(shard: Path) -> list[Entry] | None:
    """What the index of a shard says; None without an index, or if it is surely not that of the shard."""
    try:
        data = read_bounded(
            shard.with_suffix(INDEX_SUFFIX), _LARGEST_INDEX, InputError, what="index", remedy="remove it"
        )
        size = shard.stat().st_size
    except (FeatcodecError, OSError):
        return None
    first, *lines = data.decode("utf-8", "surrogateescape").split("\n")
    if first != f"{_VERSION} {len(lines) - 1}" or lines.pop():
        return None
    entries, position = list[Entry](), 0
    for line in lines:
        match = re.fullmatch(r"\S+ (\d{1,18}) (\d{1,18}) (\S+)", line)
        if match is None:
            return None
        entry = Entry(match[3], int(match[1]), int(match[2]))
        if entry.offset < position + _BLOCK or entry.offset % _BLOCK:
            return None
        position = entry.offset + entry.size + -entry.size % _BLOCK
        entries.append(entry)
    return entries if _end_of(position) == size else None


def _is_header_of(header: bytes, name: str, size: int) -> bool:
    """Whether a block is the header of a member. Of a long name, it has only the beginning."""
    with contextlib.suppress(tarfile.TarError):
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        found, whole = (text.encode("utf-8", "surrogateescape") for text in (info.name, name))
        is_same = found == (whole[: len(found)] if len(found) == tarfile.LENGTH_NAME else whole)
        return info.isreg() and info.size == size and is_same
    return False
