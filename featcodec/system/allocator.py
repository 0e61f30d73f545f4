"""What the C library's allocator keeps of memory that was freed."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

_LARGE_BLOCK = 1 << 20
# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@lru_cache(maxsize=1)
def return_large_blocks() -> None:
    """From now on, blocks of 1 MiB or more go back to the system as soon as they are freed.

    By default, glibc keeps freed blocks of up to 32 MiB for later, in each thread apart. With tensors of large pictures
    of different sizes, this adds up to a gigabyte. To get new pages for every block takes time, which does not matter
    beside what the networks take for a large picture, but does for small ones. So this is called when the first large
    picture comes. It does nothing with other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        library = ctypes.CDLL(None)
        set_option, trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError):
        return
    set_option(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    set_option(_M_TRIM_THRESHOLD, _LARGE_BLOCK)
    trim(0)
