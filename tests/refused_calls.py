"""Makes system calls fail for real, in this process and its children: the kernel answers with an error number.

Run a script with `run_refusing`, or call `refuse` first in a process that ends soon: it holds until the process ends.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_NUMBERS = {
    "x86_64": {"flock": 73, "rename": 82, "link": 86, "linkat": 265, "renameat2": 316},
    "aarch64": {"flock": 32, "rename": 38, "linkat": 37, "renameat2": 276},
}
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(calls: Mapping[str, int]) -> None:
    """From now on, these system calls fail with these error numbers. Ends the process with 77 if that cannot be done.

    `link` stands for all system calls that make a hard link.
    """
    numbers = _NUMBERS.get(platform.machine(), {})
    named = {**calls, **({"linkat": calls["link"]} if "link" in calls else {})}
    steps = [(_LOAD, 0, 0, 0)]
    for name, error in named.items():
        if name in numbers:
            steps += [(_JUMP_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ERRNO | error)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    program = _Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    library = ctypes.CDLL(None, use_errno=True)
    if (
        not numbers
        or library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        or library.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)
    ):
        sys.exit(77)


def run_refusing(calls: Mapping[str, int], script: str, *arguments: str | Path) -> str:
    """What a Python script prints while these system calls fail. The script must end well."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    start += f"from refused_calls import refuse; refuse({dict(calls)!r})\n"
    command = [sys.executable, "-c", start + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77:
        pytest.skip("this system does not let a process refuse its own system calls")
    assert done.returncode == 0, done.stderr
    return done.stdout
