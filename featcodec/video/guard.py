"""Ends the programs that this process started when this process is killed, even by `kill -9`.

A shell waits beside this process. It reads which programs run, from a pipe. The pipe ends when this process ends, in
whatever way, and then the shell kills the programs that still run. The kernel's own way (PR_SET_PDEATHSIG) would need
code between fork and exec, which is not safe in a process with threads.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import threading

_SHELL = """trap '' HUP INT TERM
running=
while read -r change program; do
    case $change in
    +) running="$running $program " ;;
    -) case $running in *" $program "*) running="${running%%" $program "*}${running#*" $program "}" ;; esac ;;
    esac
done
[ -z "$running" ] || kill -9 $running"""


class _Guard:
    """The shell and its pipe. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[int] = set()
        self._shell: subprocess.Popen[bytes] | None = None

    def tell(self, change: str, program: int) -> None:
        with self._lock:
            (self._watched.add if change == "+" else self._watched.discard)(program)
            try:
                self._write(f"{change} {program}\n")
            except OSError:  # somebody ended the shell
                self._end()
                with contextlib.suppress(OSError):
                    self._write("".join(f"+ {each}\n" for each in self._watched))

    def end(self) -> None:
        with self._lock:
            self._end()

    def leave(self) -> None:
        """In a fork: let go of the pipe and the shell, which belong to the parent."""
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.stdin.close()
            self._shell.poll()  # no child of this process: nobody waits for it

    def _write(self, text: str) -> None:
        if self._shell is None:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _SHELL],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C in a terminal does not reach it
            )
        if self._shell.stdin is not None:
            os.write(self._shell.stdin.fileno(), text.encode())

    def _end(self) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.stdin.close()
            self._shell.wait()
        self._shell = None


def _end() -> None:
    _guard.end()


def _forked() -> None:
    """A fork starts with a guard of its own.

    If it kept the pipe open, the shell would not notice that the parent ends, and the parent would wait for the shell.
    """
    global _guard  # noqa: PLW0603
    _guard.leave()
    _guard = _Guard()  # a new lock, too: a thread that is not in the fork may hold the old one


_guard = _Guard()
atexit.register(_end)
if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_forked)


def watch(program: int) -> None:
    """From now on, kill that program when this process ends.

    Args:
        program: the id of a process that this process started.
    """
    _guard.tell("+", program)


def forget(program: int) -> None:
    """The program has ended, or may outlive this process."""
    _guard.tell("-", program)
