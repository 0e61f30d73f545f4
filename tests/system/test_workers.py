"""Processes that work for this one."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from featcodec.errors import OutputError
from featcodec.system.workers import processes


def double(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_killed_process_is_the_error_that_was_asked_for(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with processes(2, OutputError("killed"), __name__) as pool:
        assert list(pool.map(double, range(5))) == [0, 2, 4, 6, 8]
        pids = list(pool._processes)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(OutputError, match="killed"), processes(2, OutputError("killed"), __name__) as pool:
        list(pool.map(double, [1, -1, 2]))


def interrupted_beside_one_that_hangs() -> None:
    with processes(2, OutputError("killed"), __name__) as pool:
        pool.submit(time.sleep, 250)
        assert pool.submit(double, 1).result() == 2
        raise KeyboardInterrupt


@pytest.mark.slow
def test_nobody_waits_for_a_process_that_hangs_when_the_work_is_interrupted() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted_beside_one_that_hangs()
    assert time.monotonic() - started < 200


LARGE = 1 << 28  # bytes; it takes long to write, so that the process can be killed in the middle


def large(pid: Path) -> bytes:
    pid.write_text(str(os.getpid()))
    return bytes(LARGE)


def bytes_read() -> int:
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


def half_a_result(pid: Path, error: BaseException | None) -> None:
    with processes(2, OutputError("killed"), __name__) as pool:
        assert pool.submit(double, 1).result() == 2
        start = bytes_read()
        result = pool.submit(large, pid)
        while bytes_read() < start + LARGE // 16:
            assert not result.done()
        os.kill(int(pid.read_text()), signal.SIGKILL)
        if error is not None:
            raise error
        result.result()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say how much a process has read")
@pytest.mark.parametrize("error", [None, KeyboardInterrupt("interrupted")])
def test_nobody_waits_for_the_rest_of_a_result_whose_process_was_killed(
    error: BaseException | None, tmp_path: Path
) -> None:
    with pytest.raises((OutputError, KeyboardInterrupt), match="interrupted" if error else "killed"):
        half_a_result(tmp_path / "pid", error)


def one_killed_that_is_watched() -> None:
    with processes(2, OutputError("killed"), __name__) as pool:
        assert pool.submit(double, 1).result() == 2
        time.sleep(1.5)  # by now the thread that waits for processes to end knows this one
        pool.submit(double, -1).result()


@pytest.mark.slow
def test_a_pipe_is_not_closed_by_two_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second would close a file that somebody else has opened since, or fail."""
    close = Connection.close
    closing: set[int] = set()
    overlaps: list[int] = []

    def slow_close(pipe: Connection) -> None:
        if id(pipe) in closing:
            overlaps.append(id(pipe))
        closing.add(id(pipe))
        time.sleep(0.5)
        close(pipe)
        closing.discard(id(pipe))

    monkeypatch.setattr(Connection, "close", slow_close)
    with pytest.raises(OutputError, match="killed"):
        one_killed_that_is_watched()
    assert not overlaps


def origin_of(_: int) -> tuple[int, set[int], object]:
    return os.getppid(), signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no server")
def test_processes_are_no_forks_of_this_one_and_ignore_ctrl_c_from_the_start() -> None:
    with processes(1, OutputError("killed"), __name__) as pool:
        parent, blocked, reaction = pool.submit(origin_of, 0).result()
    assert parent != os.getpid()
    assert (signal.SIGINT in blocked, reaction) == (True, signal.SIG_IGN)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
