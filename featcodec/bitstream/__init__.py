"""The byte format of a `.266` or `.265` file: one VVC or HEVC picture and the side info (docs/bitstream.md)."""

from __future__ import annotations

from featcodec.bitstream.format import (
    MAX_FILE_BYTES,
    STREAM_SUFFIXES,
    UUID,
    Breakdown,
    breakdown,
    format_version,
    pack,
    read_file,
    unpack,
)
from featcodec.bitstream.nal import HEVC, STANDARDS, VVC, Standard
from featcodec.bitstream.side_info import MAX_QP, RAW_QP, VERSION, SideInfo, check_qp

__all__ = [
    "HEVC",
    "MAX_FILE_BYTES",
    "MAX_QP",
    "RAW_QP",
    "STANDARDS",
    "STREAM_SUFFIXES",
    "UUID",
    "VERSION",
    "VVC",
    "Breakdown",
    "SideInfo",
    "Standard",
    "breakdown",
    "check_qp",
    "format_version",
    "pack",
    "read_file",
    "unpack",
]
