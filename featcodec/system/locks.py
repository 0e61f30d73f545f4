"""Locks that keep other processes away, also other processes of other machines."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from featcodec.errors import OutputError
from featcodec.system.files import explained
from featcodec.system.leftovers import beside
from featcodec.system.owners import is_dead, owner
from featcodec.system.renaming import move_new

LOCK_SUFFIX = ".lock"
_LONGEST_WAIT = 60.0
"""Seconds that a lock file of one and the same owner is waited for. To write a row takes milliseconds."""
_PAUSE = 0.01


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Let only one process at a time run the block.

    The system locks the file or folder (flock); such a lock ends with its process. Where the file system has no such
    locks (some network file systems), a hidden file beside `path` is the lock; its name ends in `.lock`. It is taken
    over if its owner is surely dead.

    Args:
        path: a file or folder that exists.
        wait: wait for the other process. Without it, a lock that is held is an error at once.

    Raises:
        OutputError: another process holds the lock, or the lock file cannot be written.
    """
    with explained(path):
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        if not _flock(path, descriptor, wait=wait):
            with _lock_file(path, wait=wait):
                yield
            return
        yield
    finally:
        os.close(descriptor)  # this also ends the lock


def _flock(path: Path, descriptor: int, *, wait: bool) -> bool:
    """Lock by the system. Returns False if the file system cannot do this."""
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise OutputError(f"{path}: is in use by another run; wait for its end, or choose another `output`") from None
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _lock_file(path: Path, *, wait: bool) -> Iterator[None]:
    lock = path.with_name(f".{path.name[:32]}{LOCK_SUFFIX}")
    mine = f"{owner()} {secrets.token_hex(8)}"
    seen, since = "", time.monotonic()
    while not _take(lock, mine):
        holder = _read(lock)
        if is_dead(holder.partition(" ")[0]) and _break(lock, holder):
            continue
        if holder != seen:
            seen, since = holder, time.monotonic()
        if not wait or time.monotonic() - since > _LONGEST_WAIT:
            raise OutputError(
                f"{path}: is in use by another run, as {lock} says; if no other run is alive, remove that file"
            )
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()


def _take(lock: Path, mine: str) -> bool:
    """Make the lock file, with its content, in one step. Returns False if it is already there."""
    part = beside(lock)
    with explained(lock):
        try:
            part.write_text(mine, encoding="ascii")
            move_new(part, lock)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
    return True


def _read(lock: Path) -> str:
    try:
        return lock.read_text(encoding="ascii", errors="replace")
    except OSError:  # its owner has removed it meanwhile
        return ""


def _break(lock: Path, holder: str) -> bool:
    """Remove the lock file of a dead process, but not the lock file that another process made in its place.

    Returns False if it cannot be removed, for example in a folder in which only the owner of a file may do so.
    """
    aside = beside(lock)
    try:
        lock.rename(aside)
    except FileNotFoundError:  # another process has removed it
        return True
    except OSError:
        return False
    with contextlib.suppress(OSError):
        if _read(aside) != holder:
            move_new(aside, lock)
        aside.unlink(missing_ok=True)
    return True
