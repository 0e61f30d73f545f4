"""What a process holds after it has freed blocks of many sizes in two threads."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_CODE = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from featcodec.system.allocator import return_large_blocks

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

def work(seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        blocks = [np.ones(int(size), np.uint8) for size in rng.integers(2 << 20, 30 << 20, 12)]
        small = [np.ones(70_000, np.uint8) for _ in range(20)]  # between them, they keep the heap from shrinking
        kept.append(small[::7])

kept = []
if sys.argv[1] == "returned":
    return_large_blocks()
with ThreadPoolExecutor(2) as pool:
    list(pool.map(work, range(2)))
print(held())
"""


def _held(how: str) -> int:
    result = subprocess.run([sys.executable, "-c", _CODE, how], capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_blocks_go_back_to_the_system() -> None:
    assert _held("kept") > 400, "glibc keeps nothing any more, so nothing is shown here"
    assert _held("returned") < 120
