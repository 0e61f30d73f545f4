"""Where the NAL units of a file begin and end: which units, in which order, and how long (docs/bitstream.md, The file).

The CRC covers the bytes of the NAL units, but not where one ends and the next begins. The order of their types shows
most faults. It does not show an APS that has become a part of the unit before it, or a piece of a unit that looks like
an APS. So each PPS and each APS must also end where its own syntax ends (H.266 clauses 7.3.2.5, 7.3.2.6 and 7.3.2.18).
In HEVC files, the CRC covers the lengths of the NAL units, and the order alone is checked here.
"""

from __future__ import annotations

import re

from featcodec.bitstream import nal
from featcodec.errors import BitstreamError

# Types as bytes of a pattern. VVenC's own SEI messages, VPS and DCI come from unusual encoder parameters only.
_BEFORE_SIDE_INFO = re.compile(rb"[\x0d\x0e]*\x0f\x10[\x11\x17]*")  # DCI, VPS; SPS; PPS; APS, prefix SEI
_AFTER_SIDE_INFO = re.compile(rb"[\x00-\x0b]\x18*")  # slice; suffix SEI
_HEVC_BEFORE = bytes([nal.HEVC_VPS, nal.HEVC_SPS, nal.HEVC_PPS])
_HEVC_AFTER = frozenset({bytes([nal.HEVC_IDR_W_RADL]), bytes([nal.HEVC_IDR_N_LP])})
_NO_SUBLAYER = 1
"""nuh_temporal_id_plus1 of temporal ID 0. `nal.split_units` checks the layer."""

_ALF = 0
_ALF_CLASSES, _ALF_LUMA_COEFFICIENTS, _ALF_CHROMA_COEFFICIENTS, _CC_ALF_COEFFICIENTS = 25, 12, 6, 7
_MOST_FILTERS = 25
_MOST_TILES = 1 << 10
_MOST_BYTES = 4096
"""No parameter set and no SEI message of one picture is longer. Reading takes time that grows with the square of it."""


class _IllFormedError(Exception):
    """The bits are not those of the NAL unit's type."""


def check_structure(before: list[bytes], after: list[bytes], *, raw: bool) -> None:
    """Refuse NAL units that are not those of one picture, in the order of the format, each with its own end.

    Args:
        before, after: the NAL units before and after the side info.
        raw: whether the picture is raw samples.

    Raises:
        BitstreamError: a NAL unit is missing, is in excess, is in another place, or begins or ends somewhere else.
    """
    types = bytes(map(nal.nal_type, before)), bytes(map(nal.nal_type, after))
    is_hevc = nal.standard_of((*before, *after)[0]) is nal.HEVC
    if raw:
        in_order = types == (b"", bytes([nal.UNSPECIFIED_28]))
    elif is_hevc:
        in_order = types[0] == _HEVC_BEFORE and types[1] in _HEVC_AFTER
    else:
        in_order = all(
            pattern.fullmatch(part) for pattern, part in zip((_BEFORE_SIDE_INFO, _AFTER_SIDE_INFO), types, strict=True)
        )
    if not in_order or any(unit[1] & 7 != _NO_SUBLAYER for unit in (*before, *after)):
        raise BitstreamError(
            "damaged: its NAL units are not in the order of the format; copy the file or encode the image again"
        )
    if raw or is_hevc:
        return
    with_known_ends = [unit for unit in before if nal.nal_type(unit) in (nal.PPS, nal.PREFIX_APS, nal.PREFIX_SEI)]
    for unit in (*with_known_ends, *after[1:]):
        if not ends_as_it_should(unit):
            raise BitstreamError(
                "damaged: one of its NAL units begins or ends in the wrong place; copy the file or encode the image "
                "again"
            )


def ends_as_it_should(unit: bytes) -> bool:
    """Whether a PPS, an APS or an SEI NAL unit ends where its syntax ends.

    Syntax that VVenC never writes does not count: extensions, several slices, LMCS and scaling lists.

    Args:
        unit: a NAL unit of one of these types.
    """
    if len(unit) > _MOST_BYTES:
        return False
    readers = {nal.PPS: _read_pps, nal.PREFIX_APS: _read_aps}
    bits = _Bits(nal.unescape(unit[2:]))
    try:
        readers.get(nal.nal_type(unit), _read_sei)(bits)
        bits.expect_end()
    except _IllFormedError:
        return False
    return True


class _Bits:
    """Reads the bits of an RBSP, the most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self.left = 8 * len(data)
        self._value = int.from_bytes(data, "big")

    def fixed(self, count: int) -> int:
        """u(n)."""
        if count > self.left:
            raise _IllFormedError
        self.left -= count
        return self._value >> self.left & (1 << count) - 1

    def flag(self) -> bool:
        return bool(self.fixed(1))

    def unsigned(self) -> int:
        """ue(v), clause 9.2; a signed se(v) has the same length."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise _IllFormedError
        return (1 << zeros) - 1 + self.fixed(zeros)

    def skip(self, codes: int) -> None:
        """Skip that many codes of ue(v) or se(v)."""
        for _ in range(codes):
            self.unsigned()

    def at_most(self, most: int) -> int:
        """A ue(v) with a limit."""
        value = self.unsigned()
        if value > most:
            raise _IllFormedError
        return value

    def expect_end(self) -> None:
        """Only the trailing bits are left: a one, and zeros up to the end of its byte."""
        left = self.left
        if not 1 <= left <= 8 or self.fixed(left) != 1 << left - 1:
            raise _IllFormedError


def _read_pps(bits: _Bits) -> None:
    bits.fixed(6 + 4 + 1)
    size = bits.unsigned(), bits.unsigned()
    for _window in ("conformance", "scaling"):
        bits.skip(4 * bits.flag())
    bits.flag()
    is_one_part, has_subpicture_ids = bits.flag(), bits.flag()
    if has_subpicture_ids:
        raise _IllFormedError
    if not is_one_part:
        _read_partition(bits, size)
    bits.flag()
    bits.skip(2)
    bits.fixed(3)
    bits.skip(bits.flag())  # wrap-around
    bits.skip(1)  # initial QP
    bits.flag()
    has_chroma_offsets = bits.flag()
    if has_chroma_offsets:
        _read_chroma_offsets(bits)
    if bits.flag():  # deblocking control
        may_override, is_disabled = bits.flag(), bits.flag()
        if may_override and not is_one_part:
            bits.flag()
        bits.skip(0 if is_disabled else 6 if has_chroma_offsets else 2)
    if not is_one_part:
        bits.fixed(4)
    bits.fixed(2)
    _expect_no_extension(bits)


def _read_partition(bits: _Bits, size: tuple[int, int]) -> None:
    """Tiles, in one rectangular slice; they may have several slices only in syntax that VVenC does not write."""
    block = 32 << bits.fixed(2)
    given = bits.at_most(_MOST_TILES) + 1, bits.at_most(_MOST_TILES) + 1
    tiles = 1
    for side, count in zip(size, given, strict=True):
        widths = [bits.unsigned() + 1 for _ in range(count)]
        rest = max(0, -(-side // block) - sum(widths))
        tiles *= count + -(-rest // widths[-1])
    is_rectangular = True
    if tiles > 1:
        bits.flag()
        is_rectangular = bits.flag()
    is_whole = is_rectangular and bits.flag()
    if is_rectangular and not is_whole:
        bits.at_most(0)
    if not is_rectangular or is_whole:
        bits.flag()


def _read_chroma_offsets(bits: _Bits) -> None:
    bits.skip(2)
    has_joint = bits.flag()
    bits.skip(has_joint)
    bits.flag()
    if bits.flag():
        bits.skip((bits.at_most(5) + 1) * (2 + has_joint))


def _read_aps(bits: _Bits) -> None:
    if bits.fixed(3) != _ALF:
        raise _IllFormedError
    bits.fixed(5)
    has_chroma = bits.flag()
    luma = bits.flag()
    chroma, blue, red = (has_chroma and bits.flag() for _ in range(3))
    if luma:
        _read_luma_filters(bits)
    if chroma:
        clips = bits.flag()
        for _ in range(bits.at_most(7) + 1):
            _read_filter(bits, _ALF_CHROMA_COEFFICIENTS)
            bits.fixed(2 * _ALF_CHROMA_COEFFICIENTS * clips)
    for _ in range(blue + red):
        for _ in range((bits.at_most(3) + 1) * _CC_ALF_COEFFICIENTS):
            if bits.fixed(3):
                bits.flag()
    _expect_no_extension(bits)


def _read_luma_filters(bits: _Bits) -> None:
    clips = bits.flag()
    filters = bits.at_most(_MOST_FILTERS - 1) + 1
    bits.fixed(_ALF_CLASSES * (filters - 1).bit_length())
    for _ in range(filters):
        _read_filter(bits, _ALF_LUMA_COEFFICIENTS)
    bits.fixed(2 * _ALF_LUMA_COEFFICIENTS * filters * clips)


def _read_filter(bits: _Bits, coefficients: int) -> None:
    for _ in range(coefficients):
        if bits.unsigned():
            bits.flag()


def _read_sei(bits: _Bits) -> None:
    """SEI messages one after the other (clause 7.3.6), at least one."""
    while True:
        for _type_or_size in range(2):
            size = 0
            while (byte := bits.fixed(8)) == 0xFF:
                size += byte
            size += byte
        bits.fixed(8 * size)
        if bits.left <= 8:
            return


def _expect_no_extension(bits: _Bits) -> None:
    if bits.flag():
        raise _IllFormedError
