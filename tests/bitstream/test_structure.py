"""Where NAL units begin and end: whatever happens to start codes, a file is refused. The CRC does not see them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from featcodec import bitstream
from featcodec.bitstream import nal
from featcodec.bitstream.structure import check_structure, ends_as_it_should
from featcodec.errors import BitstreamError
from featcodec.video import EncoderSettings, open_video_codec

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.266"))
SPS, PPS, APS, _, _ = nal.split_units((GOLDEN / "16ch-filtered-qp30.266").read_bytes())
SLICE = b"\0\x41slice\x80"
HASH = bytes([0, 0xC1, 132, 5, 1, 9, 9, 9, 9, 0x80])
"""A suffix SEI NAL unit as VVenC writes it with a checksum of the picture: one message of five bytes."""


def data_of(name: str) -> bytes:
    return (GOLDEN / f"{name}.266").read_bytes()


def refused(data: bytes) -> bool:
    try:
        bitstream.unpack(data)
    except BitstreamError:
        return True
    return False


def joined_without(units: list[bytes], index: int) -> bytes:
    """The file without the start code of one NAL unit."""
    return nal.join_units([*units[: index - 1], units[index - 1] + units[index], *units[index + 1 :]])


# Every file.


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_start_code_is_noticed(name: str) -> None:
    data, units = data_of(name), nal.split_units(data_of(name))
    position = len(data)
    for index in range(len(units) - 1, 0, -1):
        position -= len(units[index])
        code = 4 if data[position - 4 : position] == b"\0\0\0\1" else 3
        assert data[position - 3 : position] == b"\0\0\1"
        assert refused(data[: position - code] + data[position:])
        assert refused(joined_without(units, index))
        position -= code


@pytest.mark.parametrize("name", NAMES)
def test_an_inserted_start_code_is_noticed(name: str) -> None:
    data = data_of(name)
    for position in range(len(data) + 1):
        for code in (b"\0\0\1", b"\0\0\0\1"):
            assert refused(data[:position] + code + data[position:])


@pytest.mark.parametrize("name", NAMES)
def test_zero_bytes_that_are_not_the_formats_are_noticed(name: str) -> None:
    data = data_of(name)
    assert refused(data + b"\0")
    assert refused(b"\0" + data)
    for position in (at for at in range(len(data)) if data.startswith(b"\0\0\1", at)):
        assert refused(data[:position] + b"\0" + data[position:])
    shorter = data.replace(b"\0\0\0\1", b"\0\0\1")
    assert shorter != data
    assert refused(shorter)


@pytest.mark.parametrize("name", NAMES)
def test_units_that_are_swapped_doubled_dropped_or_moved_are_noticed(name: str) -> None:
    units = nal.split_units(data_of(name))
    for index, unit in enumerate(units):
        rest = [*units[:index], *units[index + 1 :]]
        assert refused(nal.join_units(rest))
        assert refused(nal.join_units([*units[: index + 1], *units[index:]]))
        for target in range(len(units)):
            if target != index:
                assert refused(nal.join_units([*rest[:target], unit, *rest[target:]]))


def other_boundaries(units: list[bytes], at: int) -> Iterator[list[bytes]]:
    """The same bytes in as many or more NAL units, the side info at index `at` directly before the slice.

    Only boundaries before bytes that look like the header of a unit of this format: the others are refused for that.
    """
    side_info, rest = units[at], units[:at] + units[at + 1 :]
    whole = b"".join(rest)
    headers = {unit[:2] for unit in rest} | {bytes([0, kind << 3 | 1]) for kind in (nal.PREFIX_APS, nal.SUFFIX_SEI)}
    places = [place for place in range(2, len(whole) - 2) if whole[place : place + 2] in headers]
    for count in range(1, 5):
        for cuts in combinations(places, count):
            edges = [0, *cuts, len(whole)]
            parts = [whole[start:end] for start, end in pairwise(edges)]
            yield [*parts[:-1], side_info, parts[-1]]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("raw")])
def test_no_other_boundaries_of_the_same_bytes_are_accepted(name: str) -> None:
    units = nal.split_units(data_of(name))
    position = next(index for index, unit in enumerate(units) if bitstream.UUID.bytes in unit)
    accepted = [other for other in other_boundaries(units, position) if not refused(nal.join_units(other))]
    assert accepted == [units]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["faster", "medium"])
def test_streams_with_filter_parameters_are_read_whole_and_never_without_a_start_code(preset: str) -> None:
    """Every APS of VVenC ends where `ends_as_it_should` says so, whatever its coefficients are."""
    y, x = np.mgrid[:96, :128]
    codec = open_video_codec("ffmpeg", EncoderSettings(preset, {"ALF": "1", "UseNonLinearAlfLuma": "1"}))
    filtered = 0
    for seed in range(6):
        noise = np.random.default_rng(seed).normal(0, 2, x.shape)
        frame = np.rint(90 + 60 * np.sin(y / (5 + seed)) * np.cos(x / 9) + noise).astype(np.uint8)
        for stream in (codec.encode([frame], qp)[0] for qp in (20, 30, 40)):
            units = nal.split_units(stream)
            check_structure(units[:-1], units[-1:], raw=False)
            if any(nal.nal_type(unit) == nal.PREFIX_APS for unit in units):
                filtered += 1
                for index in range(1, len(units) - 1):
                    joined = nal.split_units(joined_without(units, index))
                    with pytest.raises(BitstreamError):
                        check_structure(joined[:-1], joined[-1:], raw=False)
    assert filtered > 2


# One kind of unit after the other.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([SPS, PPS], [SLICE]),
        ([SPS, PPS, APS], [SLICE]),
        ([SPS, PPS, APS, APS], [b"\0\x39slice\x80"]),
        ([b"\0\x69dci\x80", SPS, PPS], [SLICE]),
        ([b"\0\x71vps\x80", SPS, PPS], [SLICE, HASH]),
        ([SPS, PPS, APS, b"\0\xb9\x93\1\x12\x80"], [SLICE]),
    ],
    ids=["plain", "APS", "two APS", "DCI", "VPS and hash", "SEI"],
)
def test_what_vvenc_may_write_is_accepted(before: list[bytes], after: list[bytes]) -> None:
    check_structure(before, after, raw=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([PPS, SPS], [SLICE]),
        ([SPS], [SLICE]),
        ([SPS, PPS, PPS], [SLICE]),
        ([SPS, APS, PPS], [SLICE]),
        ([SPS, PPS], [APS, SLICE]),
        ([SPS, PPS], [SLICE, APS]),
        ([SPS, PPS, HASH], [SLICE]),
        ([SPS, PPS], [SLICE, SLICE]),
        ([SPS, PPS, b"\0\x99header\x80"], [SLICE]),
        ([SPS, PPS[:1] + b"\x82" + PPS[2:]], [SLICE]),
        ([SPS, PPS + APS], [SLICE]),
        ([SPS, PPS, APS + APS], [SLICE]),
        ([SPS, PPS, APS[:-2]], [SLICE]),
        ([SPS, PPS[:-1]], [SLICE]),
        ([SPS, PPS + b"\x80"], [SLICE]),
        ([SPS, PPS + bytes(5000) + b"\x80"], [SLICE]),
        ([SPS, PPS], [SLICE, HASH[:-2] + b"\x80"]),
        ([SPS, PPS], [SLICE, HASH + HASH[2:4]]),
        ([SPS, PPS, APS], []),
    ],
    ids=range(19),
)
def test_what_vvenc_never_writes_is_refused(before: list[bytes], after: list[bytes]) -> None:
    with pytest.raises(BitstreamError, match="damaged: "):
        check_structure(before, after, raw=False)


def test_raw_samples_stand_alone() -> None:
    raw = b"\0\xe1samples\x80"
    check_structure([], [raw], raw=True)
    for before, after in (([SPS], [raw]), ([], [raw, raw]), ([], [raw, HASH]), ([], [SLICE])):
        with pytest.raises(BitstreamError, match="order of the format"):
            check_structure(before, after, raw=True)


@pytest.mark.parametrize("unit", [PPS, APS, HASH], ids=["PPS", "APS", "SEI"])
def test_an_end_is_known_to_the_byte(unit: bytes) -> None:
    assert ends_as_it_should(unit)
    for length in range(3, len(unit)):
        assert not ends_as_it_should(unit[:length])
    assert not ends_as_it_should(unit + b"\x80")
