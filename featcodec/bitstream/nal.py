"""NAL units of a VVC or HEVC byte stream: split, join, escape (Rec. ITU-T H.266 and H.265, Annex B and clause 7.3.1).

Here, a NAL unit is a `bytes` object: the two header bytes, then the payload with its emulation prevention bytes. The
start code is not part of the NAL unit. This module knows both standards, not what featcodec puts into a stream.

In the base layer, the first header byte of a VVC NAL unit is 0. In HEVC, it holds the type, which is never 0 in
streams of IDR pictures. So each NAL unit shows its standard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from featcodec.errors import BitstreamError


@dataclass(frozen=True)
class Standard:
    """A video coding standard.

    Attributes:
        name: its name, for people.
        suffix: the ending of files with such a stream.
        max_qp: the coarsest QP; the finest is 0.
        sei_header: the two header bytes of a prefix SEI NAL unit.
    """

    name: str
    suffix: str
    max_qp: int
    sei_header: bytes


# Table 5 of H.266: the types that featcodec writes or must tell apart.
IDR_W_RADL = 7
IDR_N_LP = 8
VPS = 14
SPS = 15
PPS = 16
PREFIX_APS = 17
ACCESS_UNIT_DELIMITER = 20
PREFIX_SEI = 23
SUFFIX_SEI = 24
UNSPECIFIED_28 = 28

# Table 7-1 of H.265, likewise.
HEVC_IDR_W_RADL = 19
HEVC_IDR_N_LP = 20
HEVC_VPS = 32
HEVC_SPS = 33
HEVC_PPS = 34
HEVC_PREFIX_SEI = 39

VVC = Standard("VVC", ".266", 63, bytes([0, PREFIX_SEI << 3 | 1]))
HEVC = Standard("HEVC", ".265", 51, bytes([HEVC_PREFIX_SEI << 1, 1]))
STANDARDS = (VVC, HEVC)

LAST_VCL_TYPE = 11
HEVC_LAST_VCL_TYPE = 31
# Clause B.2.2 of each standard.
_NEEDS_ZERO_BYTE = frozenset({12, 13, VPS, SPS, PPS, PREFIX_APS, 18})
_HEVC_NEEDS_ZERO_BYTE = frozenset({HEVC_VPS, HEVC_SPS, HEVC_PPS})
_FOLLOWS_SLICE = frozenset({18, 21, 22, SUFFIX_SEI})  # suffix APS, end of sequence, end of bitstream


def standard_of(unit: bytes) -> Standard:
    """The standard of a NAL unit of layer 0."""
    return HEVC if unit[0] else VVC


def standard_of_stream(stream: bytes) -> Standard:
    """The standard of a byte stream, from its first NAL unit. A stream without one counts as VVC."""
    start = stream.find(b"\x00\x00\x01")
    first = stream[start + 3 : start + 4] if start >= 0 else b""
    return standard_of(first or b"\x00")


def nal_type(unit: bytes) -> int:
    """The nal_unit_type of a NAL unit of at least two bytes: 0..31 in VVC, 1..63 in HEVC."""
    return unit[0] >> 1 if unit[0] else unit[1] >> 3


def is_slice(unit: bytes) -> bool:
    """Whether the NAL unit carries coded picture data (VCL: types 0..11 in VVC, 0..31 in HEVC)."""
    return nal_type(unit) <= (HEVC_LAST_VCL_TYPE if unit[0] else LAST_VCL_TYPE)


def is_raw(unit: bytes) -> bool:
    """Whether the NAL unit has VVC's unspecified type 28, which carries raw samples."""
    return unit[0] == 0 and nal_type(unit) == UNSPECIFIED_28


def split_units(stream: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream, in order, without the zero padding between them.

    Raises:
        BitstreamError: the bytes do not begin with a start code. Or a NAL unit has no full header, has the forbidden
            bit set, is of another layer than 0, or is of another standard than the first one.
    """
    starts = [match.start() for match in re.finditer(b"\x00\x00\x01", stream)]
    if not starts or stream[: starts[0]].strip(b"\x00"):
        raise BitstreamError("not a VVC or HEVC byte stream: it does not begin with a start code")
    ends = [*starts[1:], len(stream)]
    units = [stream[start + 3 : end].rstrip(b"\x00") for start, end in zip(starts, ends, strict=True)]
    if any(not _is_possible(unit) for unit in units) or len({bool(unit[0]) for unit in units}) != 1:
        raise BitstreamError("damaged: it holds a NAL unit with an impossible header")
    return units


def _is_possible(unit: bytes) -> bool:
    if len(unit) < 3 or unit[1] & 7 == 0:
        return False
    return unit[0] == 0 or (unit[0] & 0x81 == 0 and unit[1] >> 3 == 0)


def join_units(units: list[bytes]) -> bytes:
    """An Annex B byte stream of the NAL units.

    The first NAL unit and the parameter sets get the four-byte start code, as Annex B requires. All other NAL units
    get the three-byte start code.
    """
    parts = []
    for index, unit in enumerate(units):
        long = index == 0 or nal_type(unit) in (_HEVC_NEEDS_ZERO_BYTE if unit[0] else _NEEDS_ZERO_BYTE)
        parts.append((b"\x00\x00\x00\x01" if long else b"\x00\x00\x01") + unit)
    return b"".join(parts)


def split_pictures(units: list[bytes]) -> list[list[bytes]]:
    """Group NAL units by picture, for streams of one slice per picture and layer.

    A picture begins with the first NAL unit after the previous slice. This may be the picture's own slice.
    Access unit delimiters are dropped: they are optional (clause 7.4.2.4.3), and each delimiter costs 6 bytes. In HEVC,
    all is dropped but parameter sets and slices: hardware encoders add messages that nobody needs.
    """
    pictures: list[list[bytes]] = []
    closed = True
    for unit in units:
        if unit[0]:
            if not is_slice(unit) and nal_type(unit) not in _HEVC_NEEDS_ZERO_BYTE:
                continue
        elif nal_type(unit) == ACCESS_UNIT_DELIMITER:
            continue
        elif pictures and nal_type(unit) in _FOLLOWS_SLICE:
            pictures[-1].append(unit)
            continue
        if closed:
            pictures.append([])
        pictures[-1].append(unit)
        closed = is_slice(unit)
    return pictures


def escape(payload: bytes) -> bytes:
    """Insert emulation prevention bytes (clause 7.4.2.1): no start code can appear in the result."""
    return re.sub(b"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", payload)


def unescape(payload: bytes) -> bytes:
    """Undo `escape`: drop every byte 3 that follows two zero bytes."""
    return payload.replace(b"\x00\x00\x03", b"\x00\x00")


def number_as_first_picture(unit: bytes, position: int) -> bytes:
    """Rewrite an IDR slice of a batch as if it were the slice of the only picture.

    VVenC counts the pictures of a batch in ph_pic_order_cnt_lsb (8 bits in its streams). It marks all pictures except
    the first one as IDR_W_RADL. For an intra picture in a stream of its own, the count and the mark are only labels.
    When both are reset, a picture's bytes do not depend on its neighbours in the batch.

    Args:
        unit: a slice NAL unit with the picture header inside, as VVenC writes it.
        position: the picture's index in its batch.

    Returns:
        the relabelled NAL unit. If its picture header has another form than expected (clause 7.3.2.8), `unit` is
        returned unchanged; the stream is valid in both cases.
    """
    if nal_type(unit) not in (IDR_W_RADL, IDR_N_LP):
        return unit
    payload = bytearray(unescape(unit[2:]))
    if len(payload) < 2:
        return unit
    first_16_bits = payload[0] << 8 | payload[1]
    # Six bits come first: picture header in slice 1, IRAP 1, non-reference 0, GDR 0, inter 0, PPS id 0 (ue: "1").
    if first_16_bits >> 10 != 0b110001 or first_16_bits >> 2 & 0xFF != position & 0xFF:
        return unit
    first_16_bits &= ~(0xFF << 2)
    payload[0], payload[1] = first_16_bits >> 8, first_16_bits & 0xFF
    return bytes([unit[0], IDR_N_LP << 3 | unit[1] & 7]) + escape(bytes(payload))
