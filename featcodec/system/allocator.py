"""What the C library's allocator keeps of memory that was freed."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

_LARGE_BLOCK = 1 << 20
_KEPT_BLOCK = 32 << 20
"""The largest that glibc takes as a threshold."""
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
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGE_BLOCK)
        library.malloc_trim(0)


def keep_blocks() -> None:
    """From now on, freed blocks of up to 32 MiB stay in this process for later, about 64 MiB at most.

    A process that does little else than to decode pictures gives all their blocks back after each, and gets new pages
    for the next one: for 512x512 samples of VVC 2,550 page faults, which took as long as the decoding. In a process
    with torch, larger blocks have been freed before, and glibc keeps such blocks by itself. It does nothing with other
    C libraries.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BLOCK)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is one whose allocator has options."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        _ = library.mallopt, library.malloc_trim
    except (AttributeError, OSError):
        return None
    return library
