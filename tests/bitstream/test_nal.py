"""NAL units: emulation prevention, splitting and joining, grouping by picture, and relabelling."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featcodec.bitstream import nal
from featcodec.errors import BitstreamError

# Bytes in which start codes and emulation prevention are the rule, not the exception.
TIGHT = st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 255]), max_size=40).map(bytes)
PAYLOADS = st.one_of(TIGHT, st.binary(max_size=60))


@st.composite
def nal_units(draw: st.DrawFn) -> bytes:
    """A legal NAL unit: two header bytes, an escaped payload that ends in a byte other than 0."""
    return unit(draw(st.integers(0, 31)), draw(PAYLOADS))


def unit(kind: int, payload: bytes = b"x") -> bytes:
    return bytes([0, kind << 3 | 1]) + nal.escape(payload + b"\x80")


@pytest.mark.slow
@settings(max_examples=300)
@given(PAYLOADS)
@example(b"\0\0\0\0\0\0\0")
@example(b"\0\0\3\0\0\3")
@example(b"\0\0\0\3")
def test_unescape_undoes_escape(payload: bytes) -> None:
    assert nal.unescape(nal.escape(payload)) == payload


@pytest.mark.slow
@settings(max_examples=300)
@given(PAYLOADS)
@example(b"\0\0\0\0\1")
def test_an_escaped_payload_holds_nothing_that_a_parser_could_take_for_a_start_code(payload: bytes) -> None:
    escaped = nal.escape(payload)
    assert not re.search(b"\0\0[\0-\2]", escaped)
    assert len(escaped) <= len(payload) * 3 // 2


@pytest.mark.parametrize(
    ("payload", "escaped"),
    [
        ("000000", "00000300"),
        ("000001", "00000301"),
        ("000002", "00000302"),
        ("000003", "00000303"),
        ("000004", "000004"),
        ("0000000000", "00000300000300"),
        ("00010001", "00010001"),
    ],
)
def test_escape_by_the_standard(payload: str, escaped: str) -> None:
    assert nal.escape(bytes.fromhex(payload)).hex() == escaped


@given(st.lists(nal_units(), min_size=1, max_size=6))
def test_split_undoes_join(units: list[bytes]) -> None:
    assert nal.split_units(nal.join_units(units)) == units


@given(st.lists(nal_units(), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 3))
def test_zero_padding_between_units_is_not_part_of_them(units: list[bytes], before: int, after: int) -> None:
    stream = b"".join(b"\0" * before + b"\0\0\1" + each + b"\0" * after for each in units)
    assert nal.split_units(stream) == units


def test_start_codes_are_long_at_the_beginning_and_before_parameter_sets() -> None:
    units = [unit(nal.PREFIX_SEI), unit(nal.SPS), unit(nal.PPS), unit(nal.PREFIX_APS), unit(nal.IDR_N_LP)]
    expected = b"\0\0\0\1" + units[0]
    expected += b"".join(b"\0\0\0\1" + each for each in units[1:4])
    expected += b"\0\0\1" + units[4]
    assert nal.join_units(units) == expected


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\0\0\0\0",
        b"no start code",
        b"x\0\0\1\0\x41x",
        b"\0\0\1",
        b"\0\0\1\0\x41",
        b"\0\0\1\0\x41\0\0",
        b"\0\0\1\x80\x41x",
        b"\0\0\1\0\x40x",
        b"\0\0\1\x01\x41x",
        b"\0\0\1\0\x41x\0\0\1",
    ],
)
def test_what_is_no_byte_stream_is_refused(stream: bytes) -> None:
    with pytest.raises(BitstreamError):
        nal.split_units(stream)


@given(st.binary(max_size=80))
def test_any_bytes_split_or_are_refused(stream: bytes) -> None:
    try:
        units = nal.split_units(stream)
    except BitstreamError:
        return
    assert all(len(each) >= 3 and b"\0\0\1" not in each for each in units)


def test_types_of_units() -> None:
    assert nal.nal_type(b"\0\x41x") == nal.IDR_N_LP
    assert [kind for kind in range(32) if nal.is_slice(unit(kind))] == list(range(12))


def test_pictures_are_grouped_with_their_parameter_sets_and_suffixes() -> None:
    aud, sps, pps, aps = unit(nal.ACCESS_UNIT_DELIMITER), unit(nal.SPS), unit(nal.PPS), unit(nal.PREFIX_APS)
    slices = [unit(nal.IDR_N_LP, bytes([number])) for number in range(1, 4)]
    suffix = unit(nal.SUFFIX_SEI)
    units = [aud, sps, pps, slices[0], suffix, aud, sps, pps, aps, slices[1], slices[2]]
    assert nal.split_pictures(units) == [[sps, pps, slices[0], suffix], [sps, pps, aps, slices[1]], [slices[2]]]
    assert nal.split_pictures([]) == []


def idr(kind: int, first_16_bits: int, rest: bytes = b"\x12\x34") -> bytes:
    return bytes([0, kind << 3 | 1]) + nal.escape(first_16_bits.to_bytes(2, "big") + rest + b"\x80")


@pytest.mark.parametrize("position", [0, 1, 7, 255, 256, 300])
@pytest.mark.parametrize("low_bits", [0b00, 0b11])
def test_a_slice_of_a_batch_becomes_the_first_picture(position: int, low_bits: int) -> None:
    coded = idr(nal.IDR_W_RADL, 0b110001 << 10 | (position & 255) << 2 | low_bits, b"\0\0\1")
    alone = idr(nal.IDR_N_LP, 0b110001 << 10 | low_bits, b"\0\0\1")
    assert nal.number_as_first_picture(coded, position) == alone


@pytest.mark.parametrize(
    "other",
    [
        idr(nal.IDR_W_RADL, 0b110001 << 10 | 6 << 2),  # counts another picture
        idr(nal.IDR_W_RADL, 0b010001 << 10 | 5 << 2),  # picture header elsewhere
        idr(9, 0b110001 << 10 | 5 << 2),  # CRA
        unit(nal.SPS, b"\xc4\x14"),
        bytes([0, nal.IDR_W_RADL << 3 | 1, 0xC4]),
    ],
)
def test_slices_of_another_form_stay_as_they_are(other: bytes) -> None:
    assert nal.number_as_first_picture(other, 5) == other
