"""The byte format of a `.266` file: a VVC picture and the side info that a decoder needs (docs/bitstream.md)."""

from __future__ import annotations

from featcodec.bitstream.format import (
    MAX_FILE_BYTES,
    STREAM_SUFFIX,
    UUID,
    Breakdown,
    breakdown,
    format_version,
    pack,
    read_file,
    unpack,
)
from featcodec.bitstream.side_info import RAW_QP, VERSION, Header

__all__ = [
    "MAX_FILE_BYTES",
    "RAW_QP",
    "STREAM_SUFFIX",
    "UUID",
    "VERSION",
    "Breakdown",
    "Header",
    "breakdown",
    "format_version",
    "pack",
    "read_file",
    "unpack",
]
