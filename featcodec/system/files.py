"""Writes files whole or not at all (write to a temporary file, then rename), and reads files up to a size limit."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from featcodec.errors import FeatcodecError, OutputError
from featcodec.system.addresses import Address
from featcodec.system.elsewhere import Elsewhere, UnreachableError
from featcodec.system.leftovers import beside, temporary_prefix
from featcodec.system.renaming import is_same, move_new

_CHUNK = 1 << 20
# A pipe is opened without waiting for a writer. A terminal does not become this process's own terminal. Windows lacks
# these flags.
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


class ExistsError(OutputError):
    """The output exists, and it may not be replaced."""


class _Sink:
    """An open file. Its own write errors become OutputErrors; other errors in the block stay as they are."""

    def __init__(self, path: Path, file: IO[Any]) -> None:
        self._path = path
        self._file = file

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise OutputError(_explain(self._path, error)) from error


def check_new(path: Path, parameter: str = "output", *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Check, before the work starts, whether a file can be written under `path`, which `parameter` names.

    Args:
        path: the output.
        parameter: the name of the parameter, for messages.
        overwrite: whether a file that exists may be replaced.
        inputs: what the command reads.

    Raises:
        ExistsError: the file exists, and `overwrite` is False.
        OutputError: `path` is a folder, a device, a pipe or one of the inputs, or a name that no file can have.
    """
    with explained(path):
        if path.is_dir() or (isinstance(path, Address) and path.is_bucket):
            raise OutputError(f"{path}: is a folder; choose another `{parameter}`")
    _refuse_odd(path, parameter)
    if any(is_same(path, other) for other in inputs):
        raise OutputError(f"{path}: is read by this command; choose another `{parameter}`")
    if isinstance(path, Elsewhere):
        check_folder(path, parameter)
        is_taken = path.exists()
    else:
        is_taken = os.path.lexists(path)
    if is_taken and not overwrite:
        raise exists_error(path, parameter)


def check_folder(path: Path, parameter: str = "output") -> None:
    """Check, before the work starts, whether files can be written below a folder. It need not be there.

    Args:
        path: the folder.
        parameter: the name of the parameter, for messages.

    Raises:
        OutputError: `path` is a file, or the bucket of an address cannot be reached.
    """
    if isinstance(path, Address):
        with explained(path):
            path.check_bucket()
    elif path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is not a folder; choose another `{parameter}`")


def check_writable(path: Path) -> None:
    """Check, before the work starts, that a file can be made in the folder of `path`. Missing folders are made.

    Raises:
        OutputError: it cannot.
    """
    part = beside(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("xb").close()
        part.unlink()


@contextlib.contextmanager
def atomic_writer(path: Path, mode: str = "wb", *, overwrite: bool = False) -> Iterator[_Sink]:
    """Open a file that appears under `path` only when the block ends without an exception.

    Missing parent folders are made. Until the block ends, the data is in a hidden file in the same folder; its name
    ends in `.part`. The hidden file is removed if the block fails.

    Args:
        path: the file.
        mode: "wb", or "w" for text in UTF-8 (names that are not UTF-8 keep their bytes).
        overwrite: replace a file that exists; of a link, the file behind it. Without it, no file is replaced, not even
            one that another process writes during the block.

    Raises:
        ExistsError: the file exists at the end of the block, and `overwrite` is False.
        OutputError: the file cannot be written (disk full, no permission, or `path` is a folder, a device or a pipe).
    """
    if isinstance(path, Address):
        with _object_writer(path, mode, overwrite=overwrite) as sink:
            yield sink
        return
    target = path
    if overwrite:
        _refuse_odd(path)
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
    part = beside(target)
    try:
        with explained(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = part.open(mode.replace("w", "x"), **_as_text(mode))
        try:
            yield _Sink(path, file)
        finally:
            with explained(path):
                file.close()
        with explained(path):
            if overwrite or path.is_dir():
                part.replace(target)
            else:
                _move_new(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a whole file; see `atomic_writer`."""
    if isinstance(path, Address):
        with explained(path):
            path.write(data, overwrite=overwrite)
        return
    with atomic_writer(path, overwrite=overwrite) as file:
        file.write(data)


@contextlib.contextmanager
def _object_writer(path: Address, mode: str, *, overwrite: bool) -> Iterator[_Sink]:
    """`atomic_writer` for an object: it is collected in a local file, and written at the end."""
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        part = Path(folder) / "object"
        with part.open(mode, **_as_text(mode)) as file:
            yield _Sink(path, file)
        with explained(path):
            path.upload(part, overwrite=overwrite)


def _as_text(mode: str) -> dict[str, Any]:
    return {} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


def write_once(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a whole file, unless the file with exactly these bytes is already there.

    Args:
        path: the file.
        data: its bytes.
        overwrite: replace a file with other bytes.

    Raises:
        ExistsError: the file has other bytes, and `overwrite` is False.
        OutputError: the file cannot be written.
    """
    if _holds(path, data):
        return
    try:
        write_atomically(path, data, overwrite=overwrite)
    except ExistsError:
        if not _holds(path, data):  # another process may have written the same
            raise


def read_bounded(
    path: Path,
    limit: int,
    error: type[FeatcodecError],
    *,
    what: str,
    remedy: str,
    unreadable: str | None = None,
) -> bytes:
    """The bytes of a file that the user named. The path may lead to anything.

    Pipes, devices and folders, also behind links, are refused without waiting for them. If the file grows while it is
    read, at most `limit` + 1 bytes are read.

    Args:
        path: the file.
        limit: the largest size in bytes.
        error: the class of the error to raise.
        what: the kind of the file, for messages ("sweep"). No file of this kind is larger than `limit`.
        remedy: what to do if the file is not of this kind, for messages.
        unreadable: what to do if the file is missing or cannot be read, for messages; None means to check the path.

    Raises:
        error: the file is not a regular file, is too large, or cannot be read.
    """
    if isinstance(path, Elsewhere):
        with _explained_reading(path, error, unreadable):
            data = path.read_range(0, limit + 1)
        if len(data) > limit:
            raise error(_too_large(path, limit, what, remedy))
        return data
    with _opened(path, limit, error, what, remedy, unreadable) as file:
        chunks = []
        # Most files are read in one step. Memory is allocated for the size of the file, not for the limit.
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
    """Refuse every file that `read_bounded` refuses, before a library opens the file by its path.

    Args:
        path, limit, error, what, remedy, unreadable: as in `read_bounded`.

    Raises:
        error: the file is not a regular file, is too large, or cannot be read.
    """
    with _opened(path, limit, error, what, remedy, unreadable):
        pass


@contextlib.contextmanager
def _opened(
    path: Path, limit: int, error: type[FeatcodecError], what: str, remedy: str, unreadable: str | None
) -> Iterator[IO[bytes]]:
    with _explained_reading(path, error, unreadable):
        # Some devices act when they are opened, so the path is checked first. The open file is checked again, because
        # another file may have taken its place.
        if not stat.S_ISREG(path.stat().st_mode):
            raise error(f"{path}: not a regular file; {remedy}")
        with open(os.open(path, _OPEN_FLAGS), "rb") as file:  # noqa: PTH123  (pathlib opens no descriptor)
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise error(f"{path}: not a regular file; {remedy}")
            if found.st_size > limit:
                raise error(_too_large(path, limit, what, remedy))
            yield file


@contextlib.contextmanager
def _explained_reading(path: Path, error: type[FeatcodecError], unreadable: str | None) -> Iterator[None]:
    try:
        yield
    except UnreachableError as problem:
        raise error(str(problem)) from None
    except FeatcodecError:  # an InputError is also a ValueError
        raise
    except FileNotFoundError:
        raise error(f"{path}: no such file; {unreadable or 'check the path'}") from None
    except (OSError, ValueError) as problem:  # a ValueError is a name that no file can have
        reason = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
        raise error(
            f"{path}: cannot be read ({reason}); {unreadable or 'check the path and its permissions'}"
        ) from None


def exists_error(path: Path, parameter: str = "output") -> ExistsError:
    """The error for an output that may not be replaced."""
    return ExistsError(f"{path}: exists; use `overwrite` or another `{parameter}`")


def _too_large(path: Path, limit: int, what: str, remedy: str) -> str:
    units = ((30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "bytes"))
    shift, unit = next((shift, unit) for shift, unit in units if limit >> shift or not shift)
    return f"{path}: over {limit >> shift} {unit}, larger than any {what}; {remedy}"


def _refuse_odd(path: Path, parameter: str = "output") -> None:
    with explained(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OutputError(f"{path}: is not a regular file, so it is not replaced; choose another `{parameter}`")


def _holds(path: Path, data: bytes) -> bool:
    try:
        if not path.is_file() or path.stat().st_size != len(data):
            return False
        with path.open("rb") as file:
            return file.read(len(data) + 1) == data
    except OSError:
        return False


def _move_new(part: Path, path: Path) -> None:
    try:
        move_new(part, path)
    except FileExistsError:
        raise exists_error(path) from None


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError of one line."""
    try:
        yield
    except UnreachableError as error:
        raise OutputError(str(error)) from None
    except FileExistsError as error:
        if isinstance(path, Address):
            raise exists_error(path) from None
        raise OutputError(_explain(path, error)) from error
    except FileNotFoundError as error:
        if isinstance(path, Address):
            raise OutputError(
                f"{path}: there is no bucket {path.bucket}; make it, or choose another `output`"
            ) from None
        raise OutputError(_explain(path, error)) from error
    except OSError as error:
        raise OutputError(_explain(path, error)) from error


def _explain(path: Path, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{path}: cannot be written ({reason}); free disk space, check the permissions, or choose another `output`"
