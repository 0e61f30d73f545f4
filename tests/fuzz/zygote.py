"""Runs the command line in forks of this process, which has imported everything once. Linux only."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featcodec.cli.main import main as featcodec

_PATIENCE = 30.0
"""Seconds in which the programs of a killed process must end by themselves."""
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: programs whose parent was killed become children of this process
_CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir"})
_IMPORTED_LATE = (
    *("torchvision", "pycocotools.cocoeval", "torch.utils.tensorboard"),
    *(f"featcodec.cli.{name}" for name in ("encode", "decode", "sweep", "sweep_plans", "train")),
    *("featcodec.pipeline", "featcodec.detections.drawing", "featcodec.detections.exports"),
    *("featcodec.evaluation.sweep", "featcodec.training.bottleneck", "featcodec.training.restoration"),
)


class Zygote:
    """Runs command lines in forks of this process, and kills them.

    Args:
        folder: a folder for everything that the runs read and write. The last run's output is in `printed`, its
            temporary files are in `temporary`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = folder / "printed.txt"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self._count = folder / "events.txt"
        self._events = 0
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        for name in _IMPORTED_LATE:
            importlib.import_module(name)

    def run(self, arguments: Sequence[str]) -> tuple[int, float]:
        """Run a command line to its end. Returns its exit code and the seconds that it took."""
        started = time.monotonic()
        _, status = os.waitpid(self._start(arguments), 0)
        return os.waitstatus_to_exitcode(status), time.monotonic() - started

    def file_events(self) -> int:
        """The file events of the last run that came to its end."""
        return int(self._count.read_text())

    def kill_after(self, arguments: Sequence[str], seconds: float) -> bool:
        """Run a command line and kill it after some time. Returns False if it ended before."""
        pid = self._start(arguments)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        return _was_killed(pid)

    def kill_at_event(self, arguments: Sequence[str], number: int) -> bool:
        """Run a command line that is killed at a file event, counted from 1. Returns False if it ended before."""
        return _was_killed(self._start(arguments, kill_at=number))

    def programs_left(self) -> int:
        """Wait for what a killed process started. What does not end by itself is killed and counted."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    time.sleep(0.005)
            except ChildProcessError:
                return 0
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)
        return len(children)

    def _start(self, arguments: Sequence[str], *, kill_at: int = 0) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = os.EX_SOFTWARE
        try:
            self._become_a_program(kill_at)
            featcodec(list(arguments))
        except SystemExit as ending:
            code = int(ending.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            self._count.write_text(str(self._events))
            os._exit(code)

    def _become_a_program(self, kill_at: int) -> None:
        os.setsid()
        os.environ["TMPDIR"] = str(self.temporary)
        tempfile.tempdir = None
        with self.printed.open("wb") as printed, Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
        me, here = os.getpid(), str(self.folder)

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            if _changes_files(event, arguments) and str(arguments[0]).startswith(here) and os.getpid() == me:
                self._events += 1
                if self._events == kill_at:
                    os.kill(me, signal.SIGKILL)

        sys.addaudithook(count)


def _changes_files(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a file or folder is made, renamed, removed or written just after this event of `sys.addaudithook`."""
    if event == "open":
        _path, _mode, flags = arguments
        return bool(flags & (os.O_WRONLY | os.O_RDWR))
    return event in _CHANGES


def _was_killed(pid: int) -> bool:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL
