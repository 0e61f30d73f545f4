"""Files appear whole or not at all: write beside, then rename."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from featcodec.errors import OutputError

PART_SUFFIX = ".part"


@contextlib.contextmanager
def atomic_writer(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under `path` only when the block ends without an exception.

    Missing parent folders are made. Until then the data lies beside it in a hidden file that ends in `.part`,
    and that is removed when the block fails.

    Raises:
        OutputError: the file cannot be written (disk full, no permission, a folder in the way).
    """
    # Only the name's beginning: the whole one may already be as long as the file system allows.
    part = path.with_name(f".{path.name[:32]}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encoding = None if "b" in mode else "utf-8"
        with part.open(mode.replace("w", "x"), encoding=encoding) as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise OutputError(_explain(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file; see `atomic_writer`."""
    with atomic_writer(path) as file:
        file.write(data)


def _explain(path: Path, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{path}: cannot be written ({reason}); free the disk, check the permissions, or choose another -o"
