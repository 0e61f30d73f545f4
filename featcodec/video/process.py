"""Runs encoder and decoder programs: without a shell, with a remedy per failure, and leaves no program running.

When this process is killed, `guard` ends the programs.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from featcodec.errors import EncoderError
from featcodec.system.leftovers import temporary_prefix
from featcodec.video import guard


class ProgramError(EncoderError):
    """A program failed.

    Attributes:
        output: the text that the program wrote to stdout and stderr.
    """

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


DISK_FULL_HINT = ("No space left on device", "the temporary folder is full; empty it, or set TMPDIR to another folder")

LIMIT_SECONDS = 3600
"""The slowest preset needs less time for the largest batch, so a program that takes longer hangs."""

_running: dict[subprocess.Popen[bytes], object] = {}
_lock = threading.Lock()
_thread = threading.local()
_QUOTED_LINES = 2
_LOG_PREFIX = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] *)+")


def run(command: Sequence[str], data: bytes = b"", *, hints: Sequence[tuple[str, str]] = ()) -> bytes:
    """Run a program to its end and return its stdout.

    Args:
        command: the program's path and arguments.
        data: the bytes that the program reads from stdin.
        hints: (text in the program's output, remedy) pairs for known failures.

    Raises:
        EncoderError: the program cannot be started.
        ProgramError: the program exits with another code than 0, hangs, or is killed. The message holds the remedy, the
            first lines of the program's output and the command line.
    """
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise EncoderError(f"{command[0]} cannot be started ({error.strerror}); run `featcodec doctor`") from None
    try:
        guard.watch(process.pid)
        with _lock:
            _running[process] = getattr(_thread, "owner", None)
        stdout, stderr = process.communicate(data, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        said = f"it ran for over {LIMIT_SECONDS} seconds: {shlex.join(command)}"
        raise ProgramError(
            f"the program hangs; encode again with fewer images at once, or with a faster preset [{said}]", ""
        ) from None
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        guard.forget(process.pid)
        with _lock:
            _running.pop(process, None)
    if process.returncode != 0:
        output = (stdout + b"\n" + stderr).decode(errors="replace")
        raise ProgramError(_failure(command, process.returncode, output, hints), output)
    return stdout


@contextlib.contextmanager
def owned_by(owner: object) -> Iterator[None]:
    """Programs that this thread starts inside the block belong to `owner`, for `kill_owned_by`."""
    previous = getattr(_thread, "owner", None)
    _thread.owner = owner
    try:
        yield
    finally:
        _thread.owner = previous


def kill_owned_by(owner: object) -> None:
    """Kill all running programs of an owner, so that an interrupted pipeline ends at once."""
    with _lock:
        for process in [process for process, its_owner in _running.items() if its_owner is owner]:
            with contextlib.suppress(OSError):
                process.kill()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for the files of one program run.

    Raises:
        EncoderError: the folder cannot be made, or a file in it cannot be read or written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=temporary_prefix(), ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise EncoderError(
            f"no room for temporary files ({error}); free disk space, or set TMPDIR to another folder"
        ) from None


def _failure(command: Sequence[str], code: int, text: str, hints: Sequence[tuple[str, str]]) -> str:
    lines = [_LOG_PREFIX.sub("", line).strip() for line in text.splitlines()]
    # The first lines name the cause. The later lines name what failed because of it.
    said = " | ".join([line for line in lines if line][:_QUOTED_LINES]) or "nothing"
    remedy = next((remedy for sign, remedy in hints if sign in text), "")
    if code < 0:
        with contextlib.suppress(ValueError):
            remedy = remedy or f"it was killed by {signal.Signals(-code).name} (out of memory?); encode again"
    return (
        f"{remedy or 'the program failed'} [it ended with code {code} and said: {said}; it was: {shlex.join(command)}]"
    )
