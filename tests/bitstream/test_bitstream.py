"""The byte format: exact bytes against docs/bitstream.md, round trips, and the refusal of everything else."""

from __future__ import annotations

import dataclasses
import math
import re
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from make_frames import make_frame

from featcodec import bitstream
from featcodec.bitstream import SideInfo, nal
from featcodec.errors import BitstreamError
from featcodec.packing.tiling import TileGrid
from featcodec.video import open_video_codec

REPO = Path(__file__).resolve().parents[2]
UUID_BYTES = bytes.fromhex("5f6c3da88936582ba12bb97cf95638ba")
SPS = b"\0\x79sps\0\0\3\1\x80"
PPS, APS = bytes.fromhex("00810000204040898408"), bytes.fromhex("008907c28ac4c2f120c8644058b4")  # of VVenC
SLICE = b"\0\x41slice \0\0\3\2 data\x80"
RAW = b"\0\xe1\0\0\3\0\0\3\1samples\x80"
PICTURE = b"\0\0\0\1" + SPS + b"\0\0\0\1" + PPS + b"\0\0\0\1" + APS + b"\0\0\1" + SLICE
RAW_PICTURE = b"\0\0\0\1" + RAW

LATENT_LOW = struct.unpack(">f", bytes.fromhex("be8ea4a9"))[0]

SIDE_INFO = SideInfo(
    original_width=640,
    original_height=427,
    letterboxed_width=512,
    letterboxed_height=352,
    channels=64,
    feature_height=44,
    feature_width=64,
    tile_rows=8,
    tile_cols=8,
    clip_low=-3.0,
    clip_high=3.0,
    bits=8,
    split=4,
    fingerprint=bytes.fromhex("0123456789abcdef"),
    qp=38,
    encoder_tag=0xA6C4,
)


def first_fields_by_hand(side_info: SideInfo, version: int = 1) -> bytes:
    """The 38 bytes from the version to the encoder tag, written down from version 1's table in docs/bitstream.md."""
    parts = [
        struct.pack(">B", version),
        struct.pack(">HH", side_info.original_width, side_info.original_height),
        struct.pack(">HH", side_info.letterboxed_width, side_info.letterboxed_height),
        struct.pack(">HHH", side_info.channels, side_info.feature_height, side_info.feature_width),
        struct.pack(">BB", side_info.tile_rows, side_info.tile_cols),
        struct.pack(">ff", side_info.clip_low, side_info.clip_high),
        struct.pack(">BB", side_info.bits, side_info.split),
        side_info.fingerprint,
        struct.pack(">BH", side_info.qp, side_info.encoder_tag),
    ]
    return b"".join(parts)


def compact_fields_by_hand(side_info: SideInfo, version: int = 2, *, grid: bool = False, clip_code: int = 0) -> bytes:
    """The 22 to 32 bytes from the version to the clip range, written down from version 2's table in docs/bitstream.md.

    Grid and clip range stand there unless the arguments say otherwise.
    """
    strides = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4, 32: 5}
    layout = (
        (128 if grid else 0) + 8 * side_info.split + strides[side_info.letterboxed_width // side_info.feature_width]
    )
    parts = [
        struct.pack(">B", version),
        struct.pack(">HH", side_info.original_width, side_info.original_height),
        struct.pack(">BB", side_info.letterboxed_width // 32, side_info.letterboxed_height // 32),
        struct.pack(">BB", layout, 16 * (side_info.bits - 1) + clip_code),
        struct.pack(">H", side_info.channels),
        side_info.fingerprint,
        struct.pack(">BH", side_info.qp, side_info.encoder_tag),
        struct.pack(">BB", side_info.tile_rows, side_info.tile_cols) if grid else b"",
        b"" if clip_code else struct.pack(">ff", side_info.clip_low, side_info.clip_high),
    ]
    return b"".join(parts)


def side_info_by_hand(fields: bytes, others: list[bytes], crc: int | None = None) -> bytes:
    """The SEI NAL unit around the fields, with a CRC that is right unless another one is given."""
    crc = zlib.crc32(fields + b"".join(others)) if crc is None else crc
    payload = bytes([5, 16 + len(fields) + 4]) + UUID_BYTES + fields + struct.pack(">I", crc) + b"\x80"
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros == 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\x00\xb9" + bytes(escaped)


def file_by_hand(fields: bytes) -> bytes:
    sei = side_info_by_hand(fields, [SPS, PPS, APS, SLICE])
    return PICTURE.removesuffix(b"\0\0\1" + SLICE) + b"\0\0\1" + sei + b"\0\0\1" + SLICE


REAL = [(name, version) for name in ("ffmpeg", "hevc") for version in (1, 2, 3)]


@pytest.fixture(scope="module", params=REAL, ids=[f"{name}-{version}" for name, version in REAL])
def real_file(request: pytest.FixtureRequest) -> bytes:
    """A small real picture as a file of about 200 bytes, of either standard, in each version; in 3, two tensors."""
    name, version = request.param
    side_info = dataclasses.replace(
        SIDE_INFO, channels=6, feature_height=32, feature_width=32, tile_rows=2, tile_cols=3, letterboxed_height=512
    )
    if version == 3:
        side_info = dataclasses.replace(side_info, letterboxed_width=256, letterboxed_height=256, split=10)
        side_info = dataclasses.replace(side_info, further=((12, 16, 16),))
    (stream,) = open_video_codec(name).encode([make_frame(side_info.frame_shape)], 40)
    return bitstream.pack(side_info, stream, version=version)


@st.composite
def compact_headers(draw: st.DrawFn) -> SideInfo:
    """Headers that fit version 2, with grids and clip ranges of the codec's own and with others."""
    stride = draw(st.sampled_from([1, 2, 4, 8, 16, 32]))
    width, height = draw(st.integers(1, 255)), draw(st.integers(1, 255))
    channels = draw(st.integers(1, 4096))
    usual = TileGrid.near_square(channels)
    grid = draw(st.sampled_from([usual, TileGrid(usual.cols, usual.rows), TileGrid(1, min(channels, 255))]))
    channels = min(channels, grid.rows * grid.cols)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    ranges = st.lists(finite, min_size=2, max_size=2, unique=True).map(sorted)
    low, high = draw(st.one_of(st.sampled_from([(-3.0, 3.0), (LATENT_LOW, 3.0)]), ranges.map(tuple)))
    assume(grid.rows * height * 32 * grid.cols * width * 32 <= stride**2 << 26)
    return dataclasses.replace(
        draw(side_infos()),
        letterboxed_width=32 * width,
        letterboxed_height=32 * height,
        channels=channels,
        feature_height=32 * height // stride,
        feature_width=32 * width // stride,
        tile_rows=grid.rows,
        tile_cols=grid.cols,
        clip_low=low,
        clip_high=high,
    )


@st.composite
def side_infos(draw: st.DrawFn) -> SideInfo:
    """Any side_info that the format allows, raw files included."""
    height, width = draw(st.integers(1, 2047)), draw(st.integers(1, 2047))
    rows = draw(st.integers(1, min(255, (1 << 26) // (height * width))))
    cols = draw(st.integers(1, min(255, (1 << 26) // (height * width * rows))))
    strides = st.sampled_from([1, 2, 4, 8, 16, 32])
    letterboxed_height, letterboxed_width = height * draw(strides), width * draw(strides)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    low, high = sorted(draw(st.lists(finite, min_size=2, max_size=2, unique=True)))
    return SideInfo(
        original_width=draw(st.integers(1, 0xFFFF)),
        original_height=draw(st.integers(1, 0xFFFF)),
        letterboxed_width=letterboxed_width,
        letterboxed_height=letterboxed_height,
        channels=draw(st.integers(1, min(rows * cols, 4096))),
        feature_height=height,
        feature_width=width,
        tile_rows=rows,
        tile_cols=cols,
        clip_low=low,
        clip_high=high,
        bits=draw(st.integers(1, 8)),
        split=draw(st.integers(0, 4)),
        fingerprint=draw(st.one_of(st.binary(min_size=8, max_size=8), st.just(bytes(8)))),
        qp=draw(st.one_of(st.integers(0, 63), st.just(255))),
        encoder_tag=draw(st.integers(0, 0xFFFF)),
    )


# Exact bytes.


def test_the_file_is_byte_for_byte_what_the_document_says() -> None:
    assert bitstream.pack(SIDE_INFO, PICTURE) == file_by_hand(compact_fields_by_hand(SIDE_INFO, clip_code=1))
    assert bitstream.pack(SIDE_INFO, PICTURE, version=1) == file_by_hand(first_fields_by_hand(SIDE_INFO))


def test_known_bytes() -> None:
    others = [SPS, PPS, APS, SLICE]
    expected = bytes.fromhex(
        "00b9 05 2a 5f6c3da88936582ba12bb97cf95638ba 02 0280 01ab 10 0b 23 71 0040 0123456789abcdef 26 a6c4"
    )
    expected += struct.pack(">I", zlib.crc32(expected[20:] + b"".join(others))) + b"\x80"
    assert len(expected) == 47
    assert nal.split_units(bitstream.pack(SIDE_INFO, PICTURE)) == [SPS, PPS, APS, expected, SLICE]


def test_known_bytes_of_version_1() -> None:
    others = [SPS, PPS, APS, SLICE]
    expected = bytes.fromhex(
        "00b9 05 3a 5f6c3da88936582ba12bb97cf95638ba 01 0280 01ab 0200 0160 0040 002c 0040 08 08"
        "c0400000 40400000 08 04 0123456789abcdef 26 a6c4"
    )
    expected += struct.pack(">I", zlib.crc32(expected[20:] + b"".join(others))) + b"\x80"
    assert len(expected) == 63
    assert nal.split_units(bitstream.pack(SIDE_INFO, PICTURE, version=1)) == [SPS, PPS, APS, expected, SLICE]


@pytest.mark.parametrize(
    ("change", "tail"),
    [
        ({"clip_low": LATENT_LOW}, {"clip_code": 2}),
        ({"clip_low": -0.2786}, {"clip_code": 2}),
        ({"clip_low": -3.5}, {}),
        ({"clip_high": 3.5}, {}),
        ({"tile_rows": 4, "tile_cols": 16}, {"grid": True, "clip_code": 1}),
        ({"tile_rows": 9, "clip_low": 0.0}, {"grid": True}),
        ({"bits": 1, "split": 0, "qp": 63, "channels": 7, "tile_rows": 2, "tile_cols": 4}, {"clip_code": 1}),
        ({"feature_width": 512, "feature_height": 352}, {"clip_code": 1}),
        ({"feature_width": 16, "feature_height": 11}, {"clip_code": 1}),
        (
            {"letterboxed_width": 8160, "letterboxed_height": 32, "feature_width": 255, "feature_height": 1},
            {"clip_code": 1},
        ),
        ({"fingerprint": bytes(8), "clip_low": -3.25, "encoder_tag": 0}, {}),
    ],
    ids=str,
)
def test_grid_and_clip_range_stand_there_only_where_they_are_unusual(
    change: dict[str, Any], tail: dict[str, Any]
) -> None:
    side_info = dataclasses.replace(SIDE_INFO, **change)
    expected = compact_fields_by_hand(side_info, **tail)
    assert bitstream.pack(side_info, PICTURE) == file_by_hand(expected)


@pytest.mark.slow
@given(side_infos())
@example(dataclasses.replace(SIDE_INFO, fingerprint=bytes(8), clip_low=0.0, encoder_tag=0))
def test_every_header_can_be_written_as_the_document_says_of_version_1(side_info: SideInfo) -> None:
    units = [RAW] if side_info.qp == 255 else [SPS, PPS, APS, SLICE]
    sei = side_info_by_hand(first_fields_by_hand(side_info), units)
    data = bitstream.pack(side_info, RAW_PICTURE if side_info.qp == 255 else PICTURE, version=1)
    assert nal.split_units(data) == [*units[:-1], sei, units[-1]]


@pytest.mark.parametrize(
    ("name", "at", "size"),
    [("v2-20ch-qp38", 44, 48), ("v3-three-qp34", 43, 52), ("6ch-qp38", 60, 64)],
    ids=["version 2", "version 3", "version 1"],
)
def test_the_worked_examples_of_the_document_are_golden_files(name: str, at: int, size: int) -> None:
    text = (REPO / "docs" / "bitstream.md").read_text()
    dumps = re.findall(r"^```\n((?:00[0-9a-f]0  [0-9a-f ]+\n)+)```$", text, re.MULTILINE)
    dumped = [b"".join(bytes.fromhex(line[6:]) for line in dump.splitlines()) for dump in dumps]
    data = (REPO / "tests" / "golden" / f"{name}.266").read_bytes()
    assert [len(one) for one in dumped] == [48, 52, 64]
    assert data[at : at + size] in dumped
    assert UUID_BYTES in data[at : at + size]


# Which version.


@pytest.mark.slow
@given(side_infos())
def test_what_does_not_fit_version_2_is_written_in_version_1(side_info: SideInfo) -> None:
    sides = side_info.letterboxed_width, side_info.letterboxed_height
    fits = all(side % 32 == 0 and side <= 255 * 32 for side in sides)
    fits = fits and sides[0] * side_info.feature_height == sides[1] * side_info.feature_width
    stream = RAW_PICTURE if side_info.qp == 255 else PICTURE
    data = bitstream.pack(side_info, stream)
    assert bitstream.format_version(data) == (2 if fits else 1)
    assert data == bitstream.pack(side_info, stream, version=2 if fits else 1)


@pytest.mark.parametrize(
    "change",
    [
        {"letterboxed_width": 528, "feature_width": 66, "letterboxed_height": 352},
        {"letterboxed_height": 8192, "feature_height": 1024, "tile_rows": 1, "channels": 8},
        {"letterboxed_height": 704},
        {"letterboxed_height": 44},
    ],
    ids=str,
)
def test_version_2_is_refused_where_it_cannot_hold_the_header(change: dict[str, Any]) -> None:
    side_info = dataclasses.replace(SIDE_INFO, **change)
    with pytest.raises(BitstreamError, match="use version 1"):
        bitstream.pack(side_info, PICTURE, version=2)
    data = bitstream.pack(side_info, PICTURE)
    assert bitstream.format_version(data) == 1
    assert bitstream.unpack(data) == (side_info, PICTURE)


@pytest.mark.parametrize("version", [-1, 0, 4])
def test_a_version_that_does_not_exist_is_not_written(version: int) -> None:
    with pytest.raises(BitstreamError, match=rf"no format version {version}; use 1\.\.3"):
        bitstream.pack(SIDE_INFO, PICTURE, version=version)


def test_the_side_info_stands_before_the_slice_and_the_picture_is_unchanged(real_file: bytes) -> None:
    units = nal.split_units(real_file)
    vvc = [nal.SPS, nal.PPS, nal.PREFIX_SEI, nal.IDR_N_LP]
    hevc = [nal.HEVC_VPS, nal.HEVC_SPS, nal.HEVC_PPS, nal.HEVC_PREFIX_SEI, nal.HEVC_IDR_N_LP]
    assert [nal.nal_type(unit) for unit in units] == (hevc if nal.standard_of(units[0]) is nal.HEVC else vvc)
    side_info, stream = bitstream.unpack(real_file)
    assert nal.split_units(stream) == [*units[:-2], units[-1]]
    # Any decoder shows the frame: the side info changes no sample.
    codec = open_video_codec("ffmpeg")
    shape = side_info.frame_shape
    assert (codec.decode(real_file, shape) == codec.decode(stream, shape)).all()


# Round trips.


@pytest.mark.slow
@given(side_infos())
def test_unpack_undoes_pack_in_version_1(side_info: SideInfo) -> None:
    stream = RAW_PICTURE if side_info.qp == 255 else PICTURE
    data = bitstream.pack(side_info, stream, version=1)
    assert bitstream.unpack(data) == (side_info, stream)
    assert bitstream.format_version(data) == 1
    assert side_info.is_raw == (side_info.qp == 255)


@pytest.mark.slow
@given(compact_headers())
def test_unpack_undoes_pack_in_version_2(side_info: SideInfo) -> None:
    stream = RAW_PICTURE if side_info.qp == 255 else PICTURE
    data = bitstream.pack(side_info, stream)
    assert bitstream.unpack(data) == (side_info, stream)
    assert bitstream.format_version(data) == 2
    assert len(data) < len(bitstream.pack(side_info, stream, version=1))


@pytest.mark.slow
@given(side_infos(), st.sampled_from([1, None]))
def test_the_parts_of_a_breakdown_add_up(side_info: SideInfo, version: int | None) -> None:
    raw = side_info.qp == 255
    data = bitstream.pack(side_info, RAW_PICTURE if raw else PICTURE, version=version)
    parts = bitstream.breakdown(data)
    assert parts.total == len(data)
    assert parts.slice_data == len(RAW if raw else SLICE)
    assert parts.parameter_sets == (0 if raw else len(SPS + PPS + APS))
    sei = next(unit for unit in nal.split_units(data) if UUID_BYTES in unit)
    assert parts.side_info == len(sei)
    sizes = {63} if bitstream.format_version(data) == 1 else {47, 49, 55, 57}
    assert parts.side_info - len(re.findall(b"\0\0\3", sei)) in sizes
    assert parts.start_codes == (4 + 3 if raw else 4 + 4 + 4 + 3 + 3)


@pytest.mark.parametrize("qp", [0, 20, 30, 38, 45, 63])
def test_all_but_the_slice_takes_under_100_bytes(qp: int) -> None:
    side_info = dataclasses.replace(
        SIDE_INFO, feature_height=16, feature_width=16, letterboxed_height=128, letterboxed_width=128
    )
    (stream,) = open_video_codec("ffmpeg").encode([make_frame(side_info.frame_shape)], qp)
    parts = bitstream.breakdown(bitstream.pack(dataclasses.replace(side_info, qp=qp), stream))
    assert parts.total - parts.slice_data < 100


@pytest.mark.parametrize("qp", [0, 38, 51])
def test_all_but_the_slice_of_an_hevc_file_takes_under_130_bytes(qp: int) -> None:
    side_info = dataclasses.replace(
        SIDE_INFO, feature_height=16, feature_width=16, letterboxed_height=128, letterboxed_width=128
    )
    (stream,) = open_video_codec("hevc").encode([make_frame(side_info.frame_shape)], qp)
    parts = bitstream.breakdown(bitstream.pack(dataclasses.replace(side_info, qp=qp), stream))
    assert parts.total - parts.slice_data < 130


# Damage.


def test_every_flipped_bit_is_detected(real_file: bytes) -> None:
    undetected = []
    for bit in range(8 * len(real_file)):
        damaged = bytearray(real_file)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            bitstream.unpack(bytes(damaged))
        except BitstreamError:
            continue
        undetected.append(bit)
    assert undetected == []


def test_every_truncation_is_detected(real_file: bytes) -> None:
    for length in range(len(real_file)):
        with pytest.raises(BitstreamError):
            bitstream.unpack(real_file[:length])
        with pytest.raises(BitstreamError):
            bitstream.breakdown(real_file[:length])
    for start in range(1, len(real_file)):
        with pytest.raises(BitstreamError):
            bitstream.unpack(real_file[start:])


def test_bytes_around_the_stream_are_detected(real_file: bytes) -> None:
    for other in (
        b"\0" + real_file,
        real_file + b"\0",
        b"x" + real_file,
        real_file + b"x",
        real_file + b"\0\0\1\0\x41x",
    ):
        with pytest.raises(BitstreamError):
            bitstream.unpack(other)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.data())
def test_inserted_and_overwritten_bytes_are_detected(real_file: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(real_file) - 1))
    patch = data.draw(st.one_of(st.binary(min_size=1, max_size=6), st.just(b"\0\0\1"), st.just(b"\0\0\3")))
    end = position + data.draw(st.integers(0, len(patch)))
    damaged = real_file[:position] + patch + real_file[end:]
    assume(damaged != real_file)
    with pytest.raises(BitstreamError):
        bitstream.unpack(damaged)


def test_a_superfluous_emulation_prevention_byte_is_detected(real_file: bytes) -> None:
    (sei,) = (unit for unit in nal.split_units(real_file) if UUID_BYTES in unit)
    # Directly after the first two zero bytes, where undoing the prevention drops it again.
    side_info, stream = bitstream.unpack(real_file)
    data = bitstream.pack(dataclasses.replace(side_info, fingerprint=b"\0\0\7fedcb"), stream, version=sei[20])
    assert data.count(b"\0\0\7fedcb") == 1
    with pytest.raises(BitstreamError, match="damaged"):
        bitstream.unpack(data.replace(b"\0\0\7fedcb", b"\0\0\3\7fedcb"))


def test_a_slice_of_another_file_is_detected(real_file: bytes) -> None:
    units = nal.split_units(real_file)
    name = "hevc" if nal.standard_of(units[0]) is nal.HEVC else "ffmpeg"
    (stream,) = open_video_codec(name).encode([make_frame((64, 96), seed=1)], 40)
    with pytest.raises(BitstreamError, match="checksum"):
        bitstream.unpack(nal.join_units([*units[:-1], nal.split_units(stream)[-1]]))


# Several tensors; their fields are in test_side_info.py.

SEVERAL = dataclasses.replace(SIDE_INFO, split=10, further=((128, 22, 32), (256, 11, 16)))


def test_a_file_of_several_tensors_is_byte_for_byte_what_the_document_says() -> None:
    fields = bytes.fromhex("03 0280 01ab 10 0b 0a ea 0123456789abcdef 26 a6c4 03f3 07f4 0ff5")
    data = bitstream.pack(SEVERAL, PICTURE)
    assert data == file_by_hand(fields)
    assert bitstream.unpack(data) == (SEVERAL, PICTURE)
    assert bitstream.format_version(data) == 3
    assert bitstream.breakdown(data).side_info == 51
    assert bitstream.pack(SEVERAL, hevc_stream(HEVC_UNITS)) == hevc_file(HEVC_UNITS, fields)


@pytest.mark.parametrize("version", [1, 2])
def test_several_tensors_are_not_written_in_older_versions(version: int) -> None:
    with pytest.raises(BitstreamError, match="use version 3"):
        bitstream.pack(SEVERAL, PICTURE, version=version)


def test_the_longest_side_info_of_version_3_is_read() -> None:
    """Eight tensors, columns and clip range stand there, and zeros need emulation prevention."""
    shape = {"channels": 1, "feature_height": 44, "feature_width": 1, "further": ((1, 44, 1),) * 7}
    sides = {"letterboxed_height": 44 * 64, "letterboxed_width": 64, "tile_rows": 1, "tile_cols": 3}
    zeros = {"original_width": 256, "split": 0, "fingerprint": bytes(8), "encoder_tag": 0}
    eight = dataclasses.replace(SIDE_INFO, **shape, **sides, **zeros, clip_low=0.0, clip_high=2.0**-126)
    data = bitstream.pack(eight, PICTURE)
    assert bitstream.unpack(data) == (eight, PICTURE)
    assert 70 < bitstream.breakdown(data).side_info <= 128


# HEVC files, by hand from docs/bitstream.md.

HEVC_UNITS = [b"\x40\1vps\x80", b"\x42\1sps\0\0\3\1\x80", b"\x44\1pps\x80", b"\x28\1slice \0\0\3\2 data\x80"]


def hevc_file(units: list[bytes], fields: bytes | None = None, position: int = 3) -> bytes:
    fields = compact_fields_by_hand(SIDE_INFO, clip_code=1) if fields is None else fields
    crc = zlib.crc32(fields + b"".join(struct.pack(">I", len(unit)) + unit for unit in HEVC_UNITS))
    sei = b"\x4e\1" + side_info_by_hand(fields, [], crc)[2:]
    return hevc_stream([*units[:position], sei, *units[position:]])


def hevc_stream(units: list[bytes]) -> bytes:
    is_long = [index == 0 or unit[0] in b"\x40\x42\x44" for index, unit in enumerate(units)]
    return b"".join((b"\0" if long else b"") + b"\0\0\1" + unit for long, unit in zip(is_long, units, strict=True))


def test_an_hevc_file_is_byte_for_byte_what_the_document_says() -> None:
    data = bitstream.pack(SIDE_INFO, hevc_stream(HEVC_UNITS))
    assert data == hevc_file(HEVC_UNITS)
    assert bitstream.unpack(data) == (SIDE_INFO, hevc_stream(HEVC_UNITS))
    old = bitstream.pack(SIDE_INFO, hevc_stream(HEVC_UNITS), version=1)
    assert old == hevc_file(HEVC_UNITS, first_fields_by_hand(SIDE_INFO))
    assert bitstream.unpack(old) == (SIDE_INFO, hevc_stream(HEVC_UNITS))


@pytest.mark.parametrize("qp", [52, 63])
def test_a_qp_beyond_hevc_is_neither_read_nor_written(qp: int) -> None:
    side_info = dataclasses.replace(SIDE_INFO, qp=qp)
    with pytest.raises(BitstreamError, match=f"QP {qp} is not a whole number from 0 to 51"):
        bitstream.pack(side_info, hevc_stream(HEVC_UNITS))
    with pytest.raises(BitstreamError, match=f"QP {qp} is not a whole number from 0 to 51"):
        bitstream.unpack(hevc_file(HEVC_UNITS, compact_fields_by_hand(side_info, clip_code=1)))


def test_raw_samples_are_not_in_hevc_files() -> None:
    raw = dataclasses.replace(SIDE_INFO, qp=255)
    with pytest.raises(BitstreamError, match="holds 0 coded pictures"):
        bitstream.pack(raw, hevc_stream(HEVC_UNITS))
    for kind in (28, 60):
        with pytest.raises(BitstreamError):
            bitstream.pack(raw, hevc_stream([bytes([kind << 1, 1]) + b"samples\x80"]))


@pytest.mark.parametrize("position", [0, 1, 2, 4])
def test_the_side_info_of_an_hevc_file_is_in_one_place(position: int) -> None:
    with pytest.raises(BitstreamError, match="order of the format"):
        bitstream.unpack(hevc_file(HEVC_UNITS, position=position))


@pytest.mark.parametrize(
    "units",
    [
        HEVC_UNITS[1:],
        [HEVC_UNITS[1], HEVC_UNITS[0], *HEVC_UNITS[2:]],
        [*HEVC_UNITS[:3], b"\x02\1slice\x80"],  # TRAIL_R
        [*HEVC_UNITS, b"\x50\1suffix\x80"],
        [b"\x40\2vps\x80", *HEVC_UNITS[1:]],  # temporal ID 1
    ],
)
def test_other_nal_units_are_not_in_hevc_files(units: list[bytes]) -> None:
    with pytest.raises(BitstreamError):
        bitstream.pack(SIDE_INFO, hevc_stream(units))


def test_a_moved_end_of_a_parameter_set_of_hevc_is_detected() -> None:
    """The bytes of the NAL units stay in their order, and both pieces look like a unit: only their lengths differ."""
    vps, sps = b"\x40\1v\x42\1ps\x80", b"\x42\1sps\x80"
    others = HEVC_UNITS[2:]
    data = bitstream.pack(SIDE_INFO, hevc_stream([vps, sps, *others]))
    moved = [b"\x40\1v", b"\x42\1ps\x80" + sps, *others]
    sei = next(unit for unit in nal.split_units(data) if UUID_BYTES in unit)
    forged = hevc_stream([*moved[:3], sei, moved[3]])
    assert b"".join(nal.split_units(forged)) == b"".join(nal.split_units(data))
    with pytest.raises(BitstreamError, match="checksum"):
        bitstream.unpack(forged)


def test_nal_units_in_another_order_are_detected() -> None:
    sps, pps, aps, sei, coded = nal.split_units(bitstream.pack(SIDE_INFO, PICTURE))
    with pytest.raises(BitstreamError, match="checksum"):
        bitstream.unpack(nal.join_units([pps, sps, aps, sei, coded]))


# Foreign, later and hostile streams.


@given(st.binary(max_size=300))
@example(b"")
@example(b"\0\0\0\1")
@example(b"\0\0\0\1" + SLICE)
@example(b"\0\0\1\0\xb9" + UUID_BYTES)
@example(b"\0\0\1\0\xb9\5" + UUID_BYTES)
@example(b"\0\0\1\0\xb9\5\x3a" + UUID_BYTES)
@example(b"\0\0\1\0\xb9\5\x3a" + UUID_BYTES + b"\1\x80")
@example(b"\0\0\1\0\x41\5\x3a" + UUID_BYTES + bytes(43) + b"\x80")
def test_foreign_bytes_are_refused(data: bytes) -> None:
    for read in (bitstream.unpack, bitstream.breakdown):
        with pytest.raises(BitstreamError):
            read(data)


def test_a_plain_vvc_stream_is_refused() -> None:
    (stream,) = open_video_codec("ffmpeg").encode([make_frame((64, 96))], 40)
    with pytest.raises(BitstreamError, match="not a featcodec bitstream"):
        bitstream.unpack(stream)


def test_side_info_under_another_uuid_is_refused() -> None:
    data = bitstream.pack(SIDE_INFO, PICTURE).replace(UUID_BYTES, UUID_BYTES[::-1])
    with pytest.raises(BitstreamError, match="not a featcodec bitstream"):
        bitstream.unpack(data)


def test_two_side_infos_are_refused() -> None:
    sps, pps, aps, sei, coded = nal.split_units(bitstream.pack(SIDE_INFO, PICTURE))
    with pytest.raises(BitstreamError):
        bitstream.unpack(nal.join_units([sps, pps, aps, sei, sei, coded]))


@pytest.mark.parametrize("version", [4, 5, 255])
def test_a_later_version_is_refused_by_its_number(version: int) -> None:
    with pytest.raises(BitstreamError, match=rf"version {version}\b.*reads up to version 3"):
        bitstream.unpack(file_by_hand(compact_fields_by_hand(SIDE_INFO, version)))
    longer = side_info_by_hand(compact_fields_by_hand(SIDE_INFO, version) + b"more", [SLICE])
    with pytest.raises(BitstreamError, match=rf"version {version}\b"):
        bitstream.unpack(nal.join_units([longer, SLICE]))


def test_version_0_is_refused() -> None:
    with pytest.raises(BitstreamError, match="damaged"):
        bitstream.unpack(file_by_hand(first_fields_by_hand(SIDE_INFO, 0)))


@pytest.mark.parametrize("fields", [first_fields_by_hand(SIDE_INFO), compact_fields_by_hand(SIDE_INFO, clip_code=1)])
@pytest.mark.parametrize("length", range(1, 60))
def test_fields_of_another_length_are_refused_though_their_checksum_is_right(fields: bytes, length: int) -> None:
    other = fields[:length].ljust(length, b"\1")
    if other == fields:
        pytest.skip("that is their length")
    with pytest.raises(BitstreamError, match="truncated inside its side info"):
        bitstream.unpack(file_by_hand(other))


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("clip_code", [0, 1])
def test_what_is_usual_may_stand_there_nevertheless(grid: bool, clip_code: int) -> None:
    fields = compact_fields_by_hand(SIDE_INFO, grid=grid, clip_code=clip_code)
    assert bitstream.unpack(file_by_hand(fields)) == (SIDE_INFO, PICTURE)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        *((7, 0x40 | 0x23), (7, 0x26), (7, 0x27), (7, 0x2B), (7, 0x3B)),  # unused bit, strides of 64 and 128, splits
        *((8, 0x73), (8, 0x7F), (8, 0x81), (8, 0xF1)),  # clip codes, bit depths
        *((5, 0), (6, 0)),  # letterboxed sides
        *((9, 0xFF), (9, 0x10), (10, 0)),  # channels
        *((19, 64), (19, 254)),  # QP
    ],
)
def test_values_that_version_2_leaves_unused_are_refused(at: int, value: int) -> None:
    fields = bytearray(compact_fields_by_hand(SIDE_INFO, clip_code=1))
    fields[at] = value
    with pytest.raises(BitstreamError) as caught:
        bitstream.unpack(file_by_hand(bytes(fields)))
    assert "checksum" not in str(caught.value)


IMPOSSIBLE: list[dict[str, Any]] = [
    {"original_width": 0},
    {"original_height": 0},
    {"letterboxed_width": 0},
    {"letterboxed_height": 0},
    {"letterboxed_width": 513},
    {"letterboxed_width": 64 * 64},
    {"letterboxed_height": 44 * 3},
    {"feature_width": 0},
    {"feature_height": 0},
    {"channels": 0},
    {"channels": 65},
    {"channels": 4097, "tile_rows": 255, "tile_cols": 255, "feature_height": 1, "letterboxed_height": 32},
    {"channels": 65535},
    {"tile_rows": 0},
    {"tile_cols": 0},
    {"tile_rows": 255, "tile_cols": 255},
    {"clip_low": 3.0},
    {"clip_low": math.nan},
    {"clip_high": math.inf},
    {"clip_low": -math.inf},
    {"bits": 0},
    {"bits": 9},
    {"split": 128},
    {"qp": 64},
    {"qp": 254},
]


@pytest.mark.parametrize("change", IMPOSSIBLE, ids=str)
def test_impossible_fields_are_neither_read_nor_written(change: dict[str, Any]) -> None:
    side_info = dataclasses.replace(SIDE_INFO, **change)
    with pytest.raises(BitstreamError) as caught:
        bitstream.unpack(file_by_hand(first_fields_by_hand(side_info)))
    assert "checksum" not in str(caught.value)
    with pytest.raises(BitstreamError):
        bitstream.pack(side_info, PICTURE)


@pytest.mark.parametrize(
    "change",
    [
        {"original_width": 65536},
        {"channels": -1},
        {"split": -1},
        {"qp": -1},
        {"fingerprint": b"short"},
        {"fingerprint": bytes(9)},
        {"encoder_tag": 65536},
        {"encoder_tag": -1},
    ],
    ids=str,
)
def test_fields_that_do_not_fit_are_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(BitstreamError):
        bitstream.pack(dataclasses.replace(SIDE_INFO, **change), PICTURE)


def test_absurd_sizes_are_refused_before_anything_is_allocated() -> None:
    sides = {"feature_height": 65535, "feature_width": 65535, "letterboxed_height": 65535, "letterboxed_width": 65535}
    absurd = dataclasses.replace(SIDE_INFO, **sides, tile_rows=255, tile_cols=255)
    compact = dataclasses.replace(absurd, letterboxed_height=8160, letterboxed_width=8160)
    compact = dataclasses.replace(compact, feature_height=8160, feature_width=8160)
    tracemalloc.start()
    try:
        for fields in (first_fields_by_hand(absurd), compact_fields_by_hand(compact, grid=True)):
            with pytest.raises(BitstreamError, match="over the limit"):
                bitstream.unpack(file_by_hand(fields))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_largest_mosaic_is_allowed() -> None:
    largest = dataclasses.replace(
        SIDE_INFO, feature_height=1024, feature_width=1024, letterboxed_height=8192, letterboxed_width=8192
    )
    assert bitstream.unpack(bitstream.pack(largest, PICTURE))[0].frame_shape == (8192, 8192)
    with pytest.raises(BitstreamError, match="over the limit"):
        bitstream.pack(dataclasses.replace(largest, tile_rows=9), PICTURE)


def test_more_nal_units_than_a_picture_has_are_refused() -> None:
    sei_first = nal.split_units(bitstream.pack(SIDE_INFO, PICTURE))[3]
    with pytest.raises(BitstreamError, match="more NAL units than one picture"):
        bitstream.unpack(nal.join_units([sei_first, *[SPS] * 100, SLICE]))


@pytest.mark.parametrize(
    ("qp", "units", "count"),
    [
        (38, [SPS, PPS], 0),
        (38, [SPS, PPS, SLICE, SLICE], 2),
        (255, [SPS, SLICE], 0),
        (38, [RAW], 0),
        (255, [RAW, RAW], 2),
    ],
)
def test_exactly_one_picture_of_the_right_kind(qp: int, units: list[bytes], count: int) -> None:
    side_info = dataclasses.replace(SIDE_INFO, qp=qp)
    with pytest.raises(BitstreamError, match=f"holds {count} coded pictures"):
        bitstream.pack(side_info, nal.join_units(units))
    sei = side_info_by_hand(compact_fields_by_hand(side_info), units)
    with pytest.raises(BitstreamError, match=f"holds {count} coded pictures"):
        bitstream.unpack(nal.join_units([*units, sei]))


def test_a_mosaic_has_rows_of_tiles() -> None:
    side_info = dataclasses.replace(SIDE_INFO, tile_rows=12, tile_cols=16)
    assert side_info.frame_shape == (12 * 44, 16 * 64)


# Files.


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.266").write_bytes(b"data")
    assert bitstream.read_file(tmp_path / "a.266") == b"data"


def test_files_that_cannot_be_streams_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.266").touch()
    with (tmp_path / "large.266").open("wb") as file:
        file.truncate((64 << 20) + 1)
    for name, reason in (
        ("empty.266", "empty file"),
        ("large.266", "over 64 MiB"),
        ("missing.266", "no such file"),
        (".", "not a regular file"),
    ):
        with pytest.raises(BitstreamError, match=reason) as caught:
            bitstream.read_file(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
