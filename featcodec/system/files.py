"""Files appear whole or not at all: write beside, then rename. Files that somebody names are read within bounds."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from featcodec.errors import FeatcodecError, OutputError

PART_SUFFIX = ".part"
_CHUNK = 1 << 20
# A pipe is opened without waiting for a writer, a terminal does not become this process's. Windows has neither.
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


class _Sink:
    """A file whose own errors are OutputErrors; what else goes wrong while it is open is not its fault."""

    def __init__(self, path: Path, file: IO[Any]) -> None:
        self._path = path
        self._file = file

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise OutputError(_explain(self._path, error)) from error


@contextlib.contextmanager
def atomic_writer(path: Path, mode: str = "wb") -> Iterator[_Sink]:
    """Open a file that appears under `path` only when the block ends without an exception.

    Missing parent folders are made. Until then the data lies beside it in a hidden file that ends in `.part`,
    and that is removed when the block fails.

    Args:
        path: the file.
        mode: "wb", or "w" for text in UTF-8 (names that are no UTF-8 keep their bytes).

    Raises:
        OutputError: the file cannot be written (disk full, no permission, a folder in the way).
    """
    part = _beside(path)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    try:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = part.open(mode.replace("w", "x"), **text)
        try:
            yield _Sink(path, file)
        finally:
            with _explained(path):
                file.close()
        with _explained(path):
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, replaceable: tuple[str, ...]) -> Iterator[Path]:
    """A folder that appears under `path`, in place of an older one, only when the block ends without an exception.

    Args:
        path: the folder.
        replaceable: file name endings; an older folder is replaced only when it holds nothing else.

    Raises:
        OutputError: it cannot be written, or the older folder holds other files.
    """
    part, older = _beside(path), _beside(path)
    others = [file for file in path.rglob("*") if not file.is_dir() and file.suffix not in replaceable]
    if others or (path.exists() and not path.is_dir()):
        raise OutputError(f"{path}: holds other things ({(others or [path])[0].name}); choose another `output`")
    try:
        with _explained(path):
            part.mkdir(parents=True)
        yield part
        with _explained(path):
            if path.exists():
                # Aside first: whatever fails from here on, one of the two is whole.
                path.replace(older)
            part.replace(path)
    finally:
        if older.exists() and not path.exists():
            older.replace(path)
        for leftover in (part, older):
            shutil.rmtree(leftover, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file; see `atomic_writer`."""
    with atomic_writer(path) as file:
        file.write(data)


def read_bounded(
    path: Path,
    limit: int,
    error: type[FeatcodecError],
    *,
    what: str,
    remedy: str,
    unreadable: str | None = None,
) -> bytes:
    """The bytes of a file that somebody names, which may be anything.

    Pipes, devices and folders, also behind links, are refused and not waited for. Of a file that grows meanwhile no
    more than `limit` + 1 bytes are read.

    Args:
        path: the file.
        limit: most bytes.
        error: what is raised.
        what: no file of this kind is larger than `limit`, for messages ("sweep").
        remedy: what to do where it is not such a file, for messages.
        unreadable: what to do where it is missing or cannot be read; None means to check the path.

    Raises:
        error: not a regular file, too large, or it cannot be read.
    """
    with _opened(path, limit, error, what, remedy, unreadable) as file:
        chunks = []
        # Most files are read at once, whatever the limit is: memory is taken for what is there.
        left, size = limit + 1, max(os.fstat(file.fileno()).st_size + 1, _CHUNK)
        while left and (chunk := file.read(min(left, size))):
            chunks.append(chunk)
            left -= len(chunk)
    if not left:
        raise error(_too_large(path, limit, what, remedy))
    return b"".join(chunks)


def check_regular(
    path: Path,
    limit: int,
    error: type[FeatcodecError],
    *,
    what: str,
    remedy: str,
    unreadable: str | None = None,
) -> None:
    """Refuse what `read_bounded` refuses, before a library opens the file by its path.

    Args:
        path, limit, error, what, remedy, unreadable: as there.

    Raises:
        error: not a regular file, too large, or it cannot be read.
    """
    with _opened(path, limit, error, what, remedy, unreadable):
        pass


@contextlib.contextmanager
def _opened(
    path: Path, limit: int, error: type[FeatcodecError], what: str, remedy: str, unreadable: str | None
) -> Iterator[IO[bytes]]:
    try:
        # Some devices act when they are opened, so the path is looked at first; but it may be another file by then.
        if not stat.S_ISREG(path.stat().st_mode):
            raise error(f"{path}: not a regular file; {remedy}")
        with open(os.open(path, _OPEN_FLAGS), "rb") as file:  # noqa: PTH123  (pathlib opens no descriptor)
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise error(f"{path}: not a regular file; {remedy}")
            if found.st_size > limit:
                raise error(_too_large(path, limit, what, remedy))
            yield file
    except FeatcodecError:  # an InputError is a ValueError, too
        raise
    except FileNotFoundError:
        raise error(f"{path}: no such file; {unreadable or 'check the path'}") from None
    except (OSError, ValueError) as problem:  # a ValueError is a name that no file can have
        reason = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
        raise error(
            f"{path}: cannot be read ({reason}); {unreadable or 'check the path and its permissions'}"
        ) from None


def _too_large(path: Path, limit: int, what: str, remedy: str) -> str:
    units = ((30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "bytes"))
    shift, unit = next((shift, unit) for shift, unit in units if limit >> shift or not shift)
    return f"{path}: over {limit >> shift} {unit}, larger than any {what}; {remedy}"


def _beside(path: Path) -> Path:
    # Only the name's beginning: the whole one may already be as long as the file system allows.
    return path.with_name(f".{path.name[:32]}.{secrets.token_hex(4)}{PART_SUFFIX}")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(_explain(path, error)) from error


def _explain(path: Path, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{path}: cannot be written ({reason}); free the disk, check the permissions, or choose another `output`"
