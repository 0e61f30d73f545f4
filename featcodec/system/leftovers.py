"""Names for what is not finished yet, and the removal of what killed processes of ours left under such names.

A name says which process it belongs to. Only what belongs to a process that is surely dead is removed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path

from featcodec.system.owners import is_dead, owner

PART_SUFFIX = ".part"
_TEMPORARY = "featcodec-"
_OWNED = re.compile(r"(?:\..*\.|featcodec-)(?P<owner>[0-9a-f]{8}-\d+-\d+)(?:\.[0-9a-f]{8}\.part|-\w{8})", re.DOTALL)


def beside(path: Path) -> Path:
    """A new hidden name in the folder of `path`, for what is not finished yet; it ends in `.part`."""
    clear(path.parent)
    # Use only the beginning of the name: the whole name may already be as long as the file system allows.
    return path.with_name(f".{path.name[:32]}.{owner()}.{secrets.token_hex(4)}{PART_SUFFIX}")


def temporary_prefix() -> str:
    """How the name of a temporary folder of this process begins, for `tempfile`, which adds 8 characters."""
    clear(Path(tempfile.gettempdir()))
    return f"{_TEMPORARY}{owner()}-"


@functools.cache
def clear(folder: Path) -> None:
    """Remove what dead processes of ours left in a folder, but not below it. Each process does this once per folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _OWNED.fullmatch(entry.name)
            if match and is_dead(match["owner"]):
                _remove(Path(entry.path))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
