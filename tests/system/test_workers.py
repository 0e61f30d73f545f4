"""Processes that work for this one."""

from __future__ import annotations

import os
import signal

import pytest

from featcodec.errors import OutputError
from featcodec.system.workers import processes


def double(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", None])
def test_a_killed_process_is_the_error_that_was_asked_for(method: str | None) -> None:
    with processes(2, OutputError("killed"), method=method) as pool:
        assert list(pool.map(double, range(5))) == [0, 2, 4, 6, 8]
        pids = list(pool._processes)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(OutputError, match="killed"), processes(2, OutputError("killed"), method=method) as pool:
        list(pool.map(double, [1, -1, 2]))
