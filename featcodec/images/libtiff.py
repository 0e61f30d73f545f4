"""Keeps libtiff quiet: it writes what it finds wrong in a TIFF file to stderr, line by line, without the file's name.

Pillow raises an exception about everything that makes the file unreadable, and that is what the user is told.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

_MAPS = Path("/proc/self/maps")


@lru_cache(maxsize=1)
def silence_libtiff() -> None:
    """Take away the functions by which libtiff prints. Where Linux does not say where it is loaded, nothing happens."""
    try:
        lines = _MAPS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    # address, permissions, offset, device, inode, and the path, which may hold spaces
    paths = {line.split(maxsplit=5)[-1] for line in lines if "libtiff" in line.rpartition("/")[2]}
    for path in paths:
        try:
            library = ctypes.CDLL(path)
            handlers = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
        except (AttributeError, OSError):
            continue
        for set_handler in handlers:
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
