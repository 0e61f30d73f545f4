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


_PICTURES = """
import resource
import sys
import numpy as np
from featcodec.system.allocator import keep_blocks

def decode():
    blocks = [np.ones(2 << 20, np.uint8) for _ in range(6)]

if sys.argv[1] == "kept":
    keep_blocks()
decode()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    decode()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone has these options")
def test_blocks_that_are_kept_need_no_new_pages() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", _PICTURES, how], capture_output=True, check=True).stdout)
        for how in ("given back", "kept")
    }
    assert faults["given back"] > 10_000
    assert faults["kept"] < 500
