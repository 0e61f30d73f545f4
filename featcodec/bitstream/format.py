"""The byte format of a `.266` or `.265` file: the picture, and the SEI message with the side info (docs/bitstream.md).

A file is a VVC or HEVC Annex B byte stream of one intra picture, the frame. The side info is in one prefix SEI NAL unit
before the first slice: user_data_unregistered (Rec. ITU-T H.274 clause 8.3, H.265 clause D.2.7) under `UUID`.
`fields` reads and writes it. Files of `--video-codec none` have no picture: they hold the raw samples of the
frame in a NAL unit of VVC's unspecified type 28.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

from featcodec.bitstream import nal
from featcodec.bitstream.fields import TRUNCATED, read_fields, write_fields
from featcodec.bitstream.side_info import RAW_QP, VERSION, SideInfo, check_qp, newest_version
from featcodec.bitstream.structure import check_structure
from featcodec.errors import BitstreamError
from featcodec.system.files import read_bounded

__all__ = [
    "RAW_QP",
    "STREAM_SUFFIXES",
    "UUID",
    "VERSION",
    "Breakdown",
    "SideInfo",
    "breakdown",
    "format_version",
    "pack",
    "read_file",
    "unpack",
]

UUID = uuid.UUID("5f6c3da8-8936-582b-a12b-b97cf95638ba")

STREAM_SUFFIXES = frozenset(standard.suffix for standard in nal.STANDARDS)
"""The endings of bitstreams: `.266` (VVC) and `.265` (HEVC)."""
MAX_FILE_BYTES = 64 << 20
_MAX_NAL_UNITS = 64
_MAX_SEI_BYTES = 128

_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">I")
_HEADER_BYTES = 2
_USER_DATA_UNREGISTERED = 5
_VERSION_AT = 2 + len(UUID.bytes)
"""Offset of the version byte in the SEI message: after payload type, payload size and UUID."""
_RBSP_TRAILING = b"\x80"


@dataclass(frozen=True)
class Breakdown:
    """How many bytes each part of a file takes. The parts add up to the whole file.

    Attributes:
        slice_data: coded picture data, or raw samples.
        parameter_sets: VPS, SPS, PPS, APS and all other NAL units that the encoder wrote.
        side_info: the SEI NAL unit with featcodec's side info.
        start_codes: the start codes of all NAL units.
    """

    slice_data: int
    parameter_sets: int
    side_info: int
    start_codes: int

    @property
    def total(self) -> int:
        """Bytes of the whole file."""
        return self.slice_data + self.parameter_sets + self.side_info + self.start_codes


def pack(side_info: SideInfo, stream: bytes, *, version: int | None = None) -> bytes:
    """Put the side info into the stream of a coded picture.

    Args:
        side_info: the fields that a decoder needs besides the picture.
        stream: Annex B bytes of one picture, as a video codec of `featcodec.video` makes them.
        version: version of the format, 1 to 3; None means the usual one (`newest_version`).

    Raises:
        BitstreamError: the side info is out of range or does not fit the version, or the stream does not hold exactly
            one picture in NAL units of the format's order.
    """
    side_info.check()
    fields = write_fields(side_info, newest_version(side_info) if version is None else version)
    units = nal.split_units(stream)
    first = _picture_position(units, side_info)
    _check_qp(side_info, units)
    check_structure(units[:first], units[first:], raw=side_info.is_raw)
    return nal.join_units([*units[:first], _write_sei(fields, units), *units[first:]])


def unpack(data: bytes) -> tuple[SideInfo, bytes]:
    """Read a bitstream: the side info, and the Annex B bytes of the picture without the side info.

    Every bit is checked: the CRC covers the side info and all other NAL units, `structure` checks where they begin and
    end, and start codes have one form.

    Raises:
        BitstreamError: the bytes are not a featcodec bitstream, are truncated or damaged, have a later version, or
            claim absurd sizes.
    """
    side_info, units, _ = _parse(data)
    return side_info, nal.join_units(units)


def format_version(data: bytes) -> int:
    """The format version of a file.

    Raises:
        BitstreamError: as in `unpack`.
    """
    return _parse(data)[2][_HEADER_BYTES + _VERSION_AT]


def breakdown(data: bytes) -> Breakdown:
    """Count the bytes of each part of a file.

    Raises:
        BitstreamError: as in `unpack`.
    """
    _, units, sei = _parse(data)
    samples = sum(len(unit) for unit in units if nal.is_slice(unit) or nal.is_raw(unit))
    others = sum(map(len, units)) - samples
    return Breakdown(samples, others, len(sei), len(data) - samples - others - len(sei))


def read_file(path: Path) -> bytes:
    """The bytes of a bitstream file of bounded size.

    Raises:
        BitstreamError: the file cannot be read, is empty, or is larger than any featcodec bitstream (64 MiB).
    """
    data = read_bounded(
        path, MAX_FILE_BYTES, BitstreamError, what="feature bitstream", remedy="give .266 or .265 files"
    )
    if not data:
        raise BitstreamError(f"{path}: empty file; encode the image again")
    return data


def _write_sei(fields: bytes, other_units: list[bytes]) -> bytes:
    payload = UUID.bytes + fields + _CRC.pack(_checksum(fields, other_units))
    message = bytes([_USER_DATA_UNREGISTERED, len(payload)]) + payload + _RBSP_TRAILING
    return nal.standard_of(other_units[0]).sei_header + nal.escape(message)


def _checksum(fields: bytes, other_units: list[bytes]) -> int:
    crc = zlib.crc32(fields)
    for unit in other_units:
        if nal.standard_of(unit) is nal.HEVC:
            # So the CRC also sees where the NAL unit ends. In VVC, `structure` checks this.
            crc = zlib.crc32(_LENGTH.pack(len(unit)), crc)
        crc = zlib.crc32(unit, crc)
    return crc


def _check_qp(side_info: SideInfo, units: list[bytes]) -> None:
    if not side_info.is_raw:
        check_qp(side_info.qp, BitstreamError, most=nal.standard_of(units[0]).max_qp)


def _picture_position(units: list[bytes], side_info: SideInfo) -> int:
    """The index of the one NAL unit with the picture's samples."""
    is_samples = nal.is_raw if side_info.is_raw else nal.is_slice
    positions = [index for index, unit in enumerate(units) if is_samples(unit)]
    if len(positions) != 1:
        raise BitstreamError(f"holds {len(positions)} coded pictures, not one; encode the image again")
    return positions[0]


def _parse(data: bytes) -> tuple[SideInfo, list[bytes], bytes]:
    """The side info, the NAL units without the SEI, and the SEI NAL unit."""
    if data.count(b"\x00\x00\x01") > _MAX_NAL_UNITS:
        raise BitstreamError("not a featcodec bitstream: it holds more NAL units than one picture needs")
    units = nal.split_units(data)
    candidates = [index for index, unit in enumerate(units) if UUID.bytes in unit]
    if len(candidates) != 1:
        raise BitstreamError("not a featcodec bitstream, or damaged: it does not hold featcodec's side info")
    if nal.join_units(units) != data:
        raise BitstreamError(
            "damaged: it holds bytes outside its NAL units, or another start code than the format has; copy the file "
            "or encode the image again"
        )
    position = candidates[0]
    sei = units.pop(position)
    fields, crc = _read_sei(sei)
    if _checksum(fields, units) != crc:
        raise BitstreamError("damaged or truncated: its checksum is wrong; copy the file or encode the image again")
    side_info = read_fields(fields)
    _picture_position(units, side_info)
    _check_qp(side_info, units)
    check_structure(units[:position], units[position:], raw=side_info.is_raw)
    return side_info, units, sei


def _read_sei(sei: bytes) -> tuple[bytes, int]:
    """The field bytes and the CRC of a side info NAL unit."""
    if len(sei) > _MAX_SEI_BYTES:
        raise BitstreamError("damaged: its side info is too long; copy the file or encode the image again")
    message = nal.unescape(sei[_HEADER_BYTES:])
    # The message is escaped again, because the CRC does not notice an unneeded emulation prevention byte.
    in_place = sei == nal.standard_of(sei).sei_header + nal.escape(message)
    if not in_place or message[:1] != bytes([_USER_DATA_UNREGISTERED]) or message[2:_VERSION_AT] != UUID.bytes:
        raise BitstreamError("damaged: its side info is in the wrong place; copy the file or encode the image again")
    if len(message) <= _VERSION_AT:
        raise BitstreamError(TRUNCATED)
    version, size, payload = message[_VERSION_AT], message[1], message[2:-1]
    if version > VERSION:
        raise BitstreamError(
            f"has format version {version}, or is damaged; this featcodec reads up to version {VERSION}; update it"
        )
    fields, crc = payload[len(UUID.bytes) : -_CRC.size], payload[-_CRC.size :]
    if version == 0 or size != len(payload) or not fields or not message.endswith(_RBSP_TRAILING):
        raise BitstreamError(TRUNCATED)
    return fields, int(_CRC.unpack(crc)[0])
