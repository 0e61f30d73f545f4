"""Names the process that a file belongs to, so that others can tell whether it is surely dead."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from pathlib import Path

_PATTERN = re.compile(r"([0-9a-f]{8})-(\d{1,10})-(\d{1,20})")
_DEAD_STATES = "ZX"


def owner() -> str:
    """A text of letters, digits and hyphens that names this process: its machine, its number and its start."""
    return _name(os.getpid())


@functools.lru_cache(maxsize=1)
def _name(number: int) -> str:
    _, start = _state_and_start(number) or ("", 0)
    return f"{_machine()}-{number}-{start}"


def is_dead(text: str) -> bool:
    """Whether the process that `owner` named has surely ended.

    Nothing is known about a process of another machine, of a container, or from before the machine was started. Such a
    process counts as alive.
    """
    match = _PATTERN.fullmatch(text)
    if match is None or match[1] != _machine() or not int(match[1], 16):
        return False
    number, start = int(match[2]), int(match[3])
    try:
        os.kill(number, 0)  # asks only whether the process exists
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # a process of another user
        pass
    found = _state_and_start(number)
    # The system gives the number of a dead process to a later process.
    return found is not None and (found[0] in _DEAD_STATES or found[1] != start)


@functools.cache
def _machine() -> str:
    """8 hex digits that name this start of this machine, and this container. All are 0 where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except (OSError, ValueError):
        return "0" * 8
    return hashlib.sha256(f"{boot} {space}".encode()).hexdigest()[:8]


def _state_and_start(number: int) -> tuple[str, int] | None:
    """The state of a process, one letter, and its start in clock ticks; None if they cannot be read."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The name of the program may hold any character, also parentheses.
        fields = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode("ascii"), int(fields[19])
    return None
