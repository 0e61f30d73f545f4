"""Programs do not outlive the process that started them, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featcodec.video import guard
from featcodec.video.process import run


def alive(program: int) -> bool:
    try:
        state = Path(f"/proc/{program}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone_soon(program: int) -> bool:
    deadline = time.monotonic() + 20
    while alive(program) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(program)


@pytest.fixture
def parent() -> subprocess.Popen[str]:
    """A process that runs two programs in threads, and says their ids when they run."""
    code = """
import threading, time
from featcodec.video import process
program = ["sh", "-c", "exec sleep 300"]
for _ in range(2):
    threading.Thread(target=process.run, args=(program,), daemon=True).start()
while len(process._running) < 2:
    time.sleep(0.01)
process.run(["true"])
print(*(each.pid for each in process._running), process.guard._guard._shell.pid, flush=True)
time.sleep(300)
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV])
def test_programs_end_with_the_process_that_started_them(parent: subprocess.Popen[str], sign: signal.Signals) -> None:
    assert parent.stdout is not None
    first, second, shell = map(int, parent.stdout.readline().split())
    assert all(map(alive, (first, second, shell)))
    parent.send_signal(sign)
    parent.wait(20)
    parent.stdout.close()
    assert gone_soon(first)
    assert gone_soon(second)
    assert gone_soon(shell)


def test_a_program_that_has_ended_is_forgotten() -> None:
    run(["true"])
    assert guard._guard._watched == set()


def test_a_guard_that_was_killed_is_replaced() -> None:
    run(["true"])
    shell = guard._guard._shell
    assert shell is not None
    shell.kill()
    shell.wait()
    for _ in range(3):  # the first write may still find the pipe open
        run(["true"])
    assert guard._guard._shell is not shell
    assert guard._guard._shell is not None
    assert alive(guard._guard._shell.pid)


def test_a_program_that_was_forgotten_is_spared() -> None:
    code = """
import subprocess
from featcodec.video import guard
silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
program, other = (subprocess.Popen(["sleep", "300"], **silent) for _ in range(2))
guard.watch(program.pid)
guard.watch(other.pid)
guard.forget(program.pid)
print(program.pid, other.pid, flush=True)
import os
os._exit(0)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    spared, ended = map(int, said.split())
    assert gone_soon(ended)
    assert alive(spared)
    os.kill(spared, signal.SIGKILL)


def test_a_fork_that_lives_on_does_not_hold_up_the_end() -> None:
    code = """
import os, time
from featcodec.video import process
process.run(["true"])
child = os.fork()
if child == 0:
    time.sleep(300)
print(child, process.guard._guard._shell.pid, flush=True)
"""
    with subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, shell = map(int, parent.stdout.readline().split())
        try:
            assert parent.wait(20) == 0
            assert gone_soon(shell)
            assert alive(child)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_fork_has_a_guard_of_its_own() -> None:
    code = """
import os, subprocess
from featcodec.video import guard, process
process.run(["true"])
child = os.fork()
if child == 0:
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    program = subprocess.Popen(["sleep", "300"], **silent)
    guard.watch(program.pid)
    print(program.pid, flush=True)
    os.kill(os.getpid(), 9)
os.waitpid(child, 0)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert gone_soon(int(said))
