"""The byte format of a `.266` file: one VVC picture and the side info (docs/bitstream.md)."""

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
from featcodec.bitstream.side_info import MAX_QP, RAW_QP, VERSION, SideInfo, check_qp

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_QP",
    "RAW_QP",
    "STREAM_SUFFIX",
    "UUID",
    "VERSION",
    "Breakdown",
    "SideInfo",
    "breakdown",
    "check_qp",
    "format_version",
    "pack",
    "read_file",
    "unpack",
]
