"""Files appear whole or not at all: write beside, then rename."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from featcodec.errors import OutputError

PART_SUFFIX = ".part"


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
        raise OutputError(f"{path}: holds other things ({(others or [path])[0].name}); choose another -o")
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
    return f"{path}: cannot be written ({reason}); free the disk, check the permissions, or choose another -o"
