"""Gives a finished file its name in one step, without replacing a file that somebody else put there meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path

from featcodec.system.elsewhere import Elsewhere

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2


def move_new(part: Path, path: Path) -> None:
    """Move a file to a name that is still free, in the same folder.

    Three ways are tried, because not every system has the first and not every file system the second: a rename that
    replaces nothing, a second name for the file, and an empty file that reserves the name.

    Raises:
        FileExistsError: the name is taken. The file at `path` is as it was.
        OSError: the file cannot be moved.
    """
    try:
        _renameat2(part, path, _NOREPLACE)
    except FileExistsError:
        raise
    except OSError:
        _move_by_link(part, path)


def exchange(one: Path, other: Path) -> None:
    """Let two files or folders change places in one step.

    Raises:
        OSError: the system or the file system cannot do this; nothing has changed.
    """
    _renameat2(one, other, _EXCHANGE)


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, also by links."""
    if isinstance(one, Elsewhere) or isinstance(other, Elsewhere):
        return one == other
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one of them is not there
        return False


def _move_by_link(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError:
        # A network file system may have made the link, lost the answer, and tried again.
        if not is_same(part, path):
            raise
    except OSError:
        _move_by_reservation(part, path)
        return
    part.unlink()


def _move_by_reservation(part: Path, path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _renameat2(source: Path, target: Path, flags: int) -> None:
    function = _function()
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def _function() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """Linux's renameat2, or None where the C library has no such function. Python itself does not offer it."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function
