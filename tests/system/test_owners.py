"""Whose process is surely dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from featcodec.system.owners import is_dead, owner

ASK = "from featcodec.system.owners import owner; print(owner(), flush=True); input()"


def start() -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_process_is_alive_until_it_ends() -> None:
    process, name = start()
    assert not is_dead(name)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(name), "it has ended, and nobody has asked for its exit code yet"
    process.communicate()
    assert is_dead(name)
    assert not is_dead(owner())


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    machine, number, start_time = owner().split("-")
    assert is_dead(f"{machine}-{number}-{int(start_time) - 1}")


def test_of_other_machines_and_other_texts_nothing_is_known() -> None:
    machine, number, start_time = owner().split("-")
    other = f"{int(machine, 16) ^ 1:08x}"
    for text in (f"{other}-999999999-1", f"00000000-{number}-{start_time}", "", "a-b-c", f"{machine}-1"):
        assert not is_dead(text)
