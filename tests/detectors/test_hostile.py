"""Hostile checkpoints: each is refused in one line, in little time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hostile import BROKEN, GREEDY
from refusals import refusal_of

from featcodec.detectors import load_detector
from featcodec.errors import WeightsError

# Loads a good file first, so that what torch itself needs is not counted. Then all files, in a limited address space.
MEASURE = """
import resource, sys
from pathlib import Path
from featcodec.detectors import load_detector
from featcodec.errors import WeightsError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

good, *files = map(Path, sys.argv[1:])
load_detector(good, device="cpu")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
for file in files:
    before = peak()
    try:
        load_detector(file, device="cpu")
        print(file.stem, "loaded")
    except WeightsError:
        pass
    if peak() - before > 200:
        print(file.stem, peak() - before, "MiB")
"""


@pytest.mark.slow
def test_greedy_files_are_refused_in_little_memory_and_time(tmp_path: Path, tiny_yolov5: Path) -> None:
    files = [make(tmp_path / f"{name}.pt") for name, make in GREEDY.items()]
    assert all(file.stat().st_size < 16 << 20 for file in files)
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, tiny_yolov5, *files], capture_output=True, text=True, timeout=240, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if index % 4 else []) for index, name in enumerate(BROKEN)]
)
def test_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    path = BROKEN[name](tmp_path / "a.pt")
    message = refusal_of(WeightsError, path, lambda path: load_detector(path, device="cpu"))
    assert len(message) < 600
