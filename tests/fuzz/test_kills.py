"""The program that kills commands, for a few kills."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kills.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to another process")
@pytest.mark.parametrize("command", ["encode", "decode", "sweep", "train"])
def test_nothing_is_lost_when_a_command_is_killed(command: str) -> None:
    result = subprocess.run(
        [sys.executable, PROGRAM, command, "--times", "3", "--seed", "7"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    summary = json.loads(result.stdout)
    assert {name: summary[name] for name in ("kills", "lost", "leftovers")} == {"kills": 3, "lost": 0, "leftovers": 0}
