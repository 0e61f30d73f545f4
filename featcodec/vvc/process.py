"""Running encoder and decoder programs: no shell, nothing left running, failures with their remedy."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import threading
from collections.abc import Sequence

from featcodec.errors import EncoderError


class ProgramError(EncoderError):
    """A program failed.

    Attributes:
        output: what it wrote to stdout and stderr.
    """

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()
_STDERR_LINES = 3


def run(command: Sequence[str], data: bytes = b"", *, hints: Sequence[tuple[str, str]] = ()) -> bytes:
    """Run a program to its end and return what it wrote to stdout.

    Args:
        command: the program's path and arguments.
        data: what it reads from stdin.
        hints: (text in the program's output, remedy) pairs for known failures.

    Raises:
        EncoderError: it cannot be started.
        ProgramError: it exits with another code than 0, or is killed. The message carries the remedy, the end of the
            program's own words and the command line.
    """
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise EncoderError(f"{command[0]} cannot be started ({error.strerror}); run `featcodec doctor`") from None
    with _lock:
        _running.add(process)
    try:
        stdout, stderr = process.communicate(data)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        with _lock:
            _running.discard(process)
    if process.returncode != 0:
        output = (stdout + b"\n" + stderr).decode(errors="replace")
        raise ProgramError(_failure(command, process.returncode, output, hints), output)
    return stdout


def kill_all() -> None:
    """Kill every program that runs now, so that an interrupted pipeline ends at once."""
    with _lock:
        for process in _running:
            with contextlib.suppress(OSError):
                process.kill()


def _failure(command: Sequence[str], code: int, text: str, hints: Sequence[tuple[str, str]]) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = " | ".join(lines[-_STDERR_LINES:]) or "nothing"
    remedy = next((remedy for sign, remedy in hints if sign in text), "")
    if code < 0:
        with contextlib.suppress(ValueError):
            remedy = remedy or f"it was killed by {signal.Signals(-code).name} (out of memory?); encode again"
    return f"{remedy or 'the program failed'} [{shlex.join(command)} ended with code {code} and said: {said}]"
