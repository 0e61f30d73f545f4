"""The fields of version 3, and the QPs that a stream may have; versions 1 and 2 are in test_bitstream.py."""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from featcodec.bitstream import MAX_QP, RAW_QP, SideInfo, check_qp
from featcodec.bitstream.fields import read_fields, write_fields
from featcodec.bitstream.side_info import MAX_FRAME_SAMPLES, newest_version
from featcodec.errors import BitstreamError, InputError
from featcodec.packing.bands import Bands, TensorScale
from featcodec.packing.tiling import TileGrid
from featcodec.wire import packing_of

LATENT_LOW = struct.unpack(">f", bytes.fromhex("be8ea4a9"))[0]

# yolo11n behind layer 10, at 512x352. Its usual grid has 16 columns.
THREE = SideInfo(
    original_width=640,
    original_height=427,
    letterboxed_width=512,
    letterboxed_height=352,
    channels=128,
    feature_height=44,
    feature_width=64,
    tile_rows=8,
    tile_cols=16,
    clip_low=LATENT_LOW,
    clip_high=3.0,
    bits=8,
    split=10,
    fingerprint=bytes.fromhex("0123456789abcdef"),
    qp=38,
    encoder_tag=0xA6C4,
    further=((128, 22, 32), (256, 11, 16)),
)
ONE = dataclasses.replace(THREE, further=(), tile_rows=8, tile_cols=16)


def fields_by_hand(side_info: SideInfo, *, version: int = 3, columns: bool = False, clip_code: int = 0) -> bytes:
    """The bytes from the version to the clip range, written down from version 3's table in docs/bitstream.md.

    Columns and clip range stand there unless the arguments say otherwise.
    """
    exponents = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4, 32: 5, 64: 6}
    parts = [
        struct.pack(">B", version),
        struct.pack(">HH", side_info.original_width, side_info.original_height),
        struct.pack(">BB", side_info.letterboxed_width // 32, side_info.letterboxed_height // 32),
        struct.pack(">B", 128 * columns + side_info.split),
        struct.pack(">B", 32 * (side_info.bits - 1) + 8 * clip_code + len(side_info.further)),
        side_info.fingerprint,
        struct.pack(">BH", side_info.qp, side_info.encoder_tag),
        *(
            struct.pack(">H", 16 * (channels - 1) + exponents[side_info.letterboxed_width // width])
            for channels, _, width in side_info.tensors
        ),
        struct.pack(">B", side_info.tile_cols) if columns else b"",
        b"" if clip_code else struct.pack(">ff", side_info.clip_low, side_info.clip_high),
    ]
    return b"".join(parts)


@st.composite
def late_side_infos(draw: st.DrawFn) -> SideInfo:
    """Side info that version 3 can hold: one to eight tensors, any columns, any clip range."""
    exponents = sorted(draw(st.lists(st.integers(0, 6), min_size=1, max_size=8)))
    unit = max(1, (1 << exponents[-1]) // 32)
    width, height = (32 * unit * draw(st.integers(1, 255 // unit)) for _ in range(2))
    channels = draw(st.lists(st.integers(1, 1024), min_size=len(exponents), max_size=len(exponents)))
    shapes = [(each, height >> exponent, width >> exponent) for each, exponent in zip(channels, exponents, strict=True)]
    further = tuple(TensorScale(each, shapes[0][2] // coarser) for each, _, coarser in shapes[1:])
    cols = draw(st.one_of(st.none(), st.integers(1, 255)))
    grid = Bands.near_square(channels[0], further).grid if cols is None else TensorScale(channels[0], 1).grid(cols)
    rows_and_columns = Bands(channels[0], grid, further).frame_shape(*shapes[0][1:])
    assume(grid.rows <= 255 and rows_and_columns[0] * rows_and_columns[1] <= MAX_FRAME_SAMPLES)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    ranges = st.lists(finite, min_size=2, max_size=2, unique=True).map(sorted).map(tuple)
    low, high = draw(st.one_of(st.sampled_from([(-3.0, 3.0), (LATENT_LOW, 3.0)]), ranges))
    return SideInfo(
        original_width=draw(st.integers(1, 0xFFFF)),
        original_height=draw(st.integers(1, 0xFFFF)),
        letterboxed_width=width,
        letterboxed_height=height,
        channels=channels[0],
        feature_height=shapes[0][1],
        feature_width=shapes[0][2],
        tile_rows=grid.rows,
        tile_cols=grid.cols,
        clip_low=low,
        clip_high=high,
        bits=draw(st.integers(1, 8)),
        split=draw(st.integers(0, 127)),
        fingerprint=draw(st.one_of(st.binary(min_size=8, max_size=8), st.just(bytes(8)))),
        qp=draw(st.one_of(st.integers(0, 63), st.just(255))),
        encoder_tag=draw(st.integers(0, 0xFFFF)),
        further=tuple(shapes[1:]),
    )


def test_known_bytes() -> None:
    expected = "03 0280 01ab 10 0b 0a f2 0123456789abcdef 26 a6c4 07f3 07f4 0ff5"
    assert write_fields(THREE, 3) == bytes.fromhex(expected)
    assert write_fields(ONE, 3) == bytes.fromhex("03 0280 01ab 10 0b 0a f0 0123456789abcdef 26 a6c4 07f3")


@pytest.mark.parametrize(
    ("change", "tail"),
    [
        ({}, {"clip_code": 2}),
        ({"clip_low": -0.2786}, {"clip_code": 2}),
        ({"clip_low": -3.0}, {"clip_code": 1}),
        ({"clip_low": -3.5, "bits": 1}, {}),
        ({"tile_rows": 16, "tile_cols": 8, "split": 127}, {"columns": True, "clip_code": 2}),
        ({"tile_rows": 2, "tile_cols": 127, "clip_high": 3.5, "split": 0}, {"columns": True}),
        ({"further": ()}, {"clip_code": 2}),
        ({"further": (), "tile_rows": 4, "tile_cols": 32}, {"columns": True, "clip_code": 2}),
        ({"further": ((1, 44, 64), (1, 44, 64)), "tile_cols": 10, "tile_rows": 13}, {"clip_code": 2}),
    ],
    ids=str,
)
def test_columns_and_clip_range_stand_there_only_where_they_are_unusual(
    change: dict[str, Any], tail: dict[str, Any]
) -> None:
    side_info = dataclasses.replace(THREE, **change)
    side_info.check()
    expected = fields_by_hand(side_info, **tail)
    assert write_fields(side_info, 3) == expected
    low = float(np.float32(side_info.clip_low))
    assert read_fields(expected) == dataclasses.replace(side_info, clip_low=low)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("clip_code", [0, 2])
def test_what_is_usual_may_stand_there_nevertheless(columns: bool, clip_code: int) -> None:
    assert read_fields(fields_by_hand(THREE, columns=columns, clip_code=clip_code)) == THREE


@given(late_side_infos())
@example(THREE)
def test_read_undoes_write_in_version_3(side_info: SideInfo) -> None:
    side_info.check()
    fields = write_fields(side_info, 3)
    assert read_fields(fields) == side_info
    # Two header bytes, payload type and size, UUID, CRC, trailing bits; emulation prevention adds at most a half.
    assert 3 * (2 + 2 + 16 + len(fields) + 4 + 1) // 2 <= 128


@given(late_side_infos())
def test_the_frame_is_that_of_the_packing(side_info: SideInfo) -> None:
    height, width = side_info.frame_shape
    assume(height * width <= 1 << 20)
    # A quantizer refuses ranges that are too narrow for float32; the fields do not.
    packing = packing_of(dataclasses.replace(side_info, clip_low=-3.0, clip_high=3.0), None)
    tensors = packing.to_tensors(np.zeros((height, width), np.uint8))
    assert [tensor.shape for tensor in tensors] == list(side_info.tensors)
    assert packing.to_frame(tensors).shape == (height, width)


@given(late_side_infos())
def test_only_what_no_older_version_holds_is_written_in_version_3(side_info: SideInfo) -> None:
    stride = side_info.letterboxed_width // side_info.feature_width
    is_late = len(side_info.tensors) > 1 or side_info.split > 4 or stride == 64
    assert newest_version(side_info) == (3 if is_late else 2)
    for version in (1, 2):
        if is_late:
            with pytest.raises(BitstreamError, match="use version 3"):
                write_fields(side_info, version)
        else:
            assert read_fields(write_fields(side_info, version)) == side_info


@pytest.mark.parametrize(
    "change",
    [
        {"letterboxed_width": 528, "feature_width": 66},
        {"letterboxed_height": 8192, "feature_height": 1024},
        {"letterboxed_height": 704},
        {"tile_rows": 9},
    ],
    ids=str,
)
def test_odd_sizes_are_for_version_1_alone(change: dict[str, Any]) -> None:
    late = dataclasses.replace(ONE, **change)
    with pytest.raises(BitstreamError, match=r"only format version 3 holds .*; it needs letterboxed sides"):
        late.check()
    early = dataclasses.replace(late, split=4)
    early.check()
    with pytest.raises(BitstreamError, match=r"it needs letterboxed sides .*; use version [12]$"):
        write_fields(early, 3)


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "too many": {"further": ((1, 44, 64),) * 8},
    "no channel": {"further": ((0, 22, 32),)},
    "too many channels in one": {"further": ((4097, 22, 32),)},
    "too many channels in all": {"further": ((4096, 11, 16), (4096, 11, 16))},
    "unsorted": {"further": ((256, 11, 16), (128, 22, 32))},
    "finer than the first": {"further": ((1, 88, 128),)},
    "not a power of two": {"letterboxed_width": 768, "feature_width": 96, "further": ((1, 22, 32),)},
    "other powers for the sides": {"further": ((1, 22, 16),)},
    "sides do not divide": {"further": ((1, 21, 32),)},
    "sides do not divide the coarsest": {"further": ((1, 5, 8),)},
    "stride of 128": {"letterboxed_height": 512, "feature_height": 64, "further": ((1, 4, 4),)},
    "no height": {"further": ((1, 0, 32),)},
    "no width": {"further": ((1, 22, 0),)},
    "negative": {"further": ((1, -22, -32),)},
    "empty rows": {"tile_rows": 9},
    "no columns": {"tile_cols": 0},
    "too few tiles": {"tile_rows": 7},
    "split": {"split": 128},
    "below all splits": {"split": -1},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_tensors_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(BitstreamError) as caught:
        dataclasses.replace(THREE, **IMPOSSIBLE[name]).check()
    assert len(str(caught.value).splitlines()) == 1


def forged(**changes: int) -> bytes:
    """The fields of THREE with other bytes, by offset: `at7=3` sets byte 7."""
    fields = bytearray(fields_by_hand(THREE, clip_code=2))
    for at, value in changes.items():
        fields[int(at.removeprefix("at"))] = value
    return bytes(fields)


FORGED = {
    "clip code 3": forged(at8=0xF8 | 2),
    "stride exponent 7": forged(at25=0xF7),
    "stride exponent 15": forged(at25=0xFF),
    "stride that does not divide": forged(at25=0xF6),  # 352 pixels by 64
    "finest after coarser": forged(at25=0xF0),
    "unsorted": forged(at21=0xF5, at23=0xF4),
    "unsorted behind columns": bytes([*forged(at7=0x80 | 10, at23=0xF5, at25=0xF4), 16]),
    "too many channels in all": forged(at22=0xFF, at24=0xFF),
    "no columns": bytes([*forged(at7=0x80 | 10), 0]),
    "too large a frame": bytes([*forged(at5=255, at6=255, at21=0xF0, at23=0xF0, at25=0xF0, at7=0x8A), 255]),
    "no letterboxed width": forged(at5=0),
    "no letterboxed height": forged(at6=0),
    "no original width": forged(at1=0, at2=0),
    "QP 64": forged(at17=64),
    "one tensor more than is there": forged(at8=0xF3),
    "one tensor less than is there": forged(at8=0xF1),
    "eight tensors": forged(at8=0xF7),
    "clip range that is not there": forged(at8=0xE2),
    "columns that are not there": forged(at7=0x80 | 10),
    "empty clip range": fields_by_hand(dataclasses.replace(THREE, clip_low=3.0)),
    "clip range without end": fields_by_hand(dataclasses.replace(THREE, clip_high=float("inf"))),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_fields_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(BitstreamError) as caught:
        read_fields(FORGED[name])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("length", [*range(1, 26), 27, 28, 34, 60])
def test_fields_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(BitstreamError, match="truncated inside its side info"):
        read_fields(fields_by_hand(THREE, clip_code=2)[:length].ljust(length, b"\1"))


@given(st.binary(max_size=50))
def test_any_fields_are_read_or_refused_in_one_line(rest: bytes) -> None:
    try:
        side_info = read_fields(b"\3" + rest)
    except BitstreamError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        height, width = side_info.frame_shape
        assert 0 < height * width <= MAX_FRAME_SAMPLES
        assert read_fields(write_fields(side_info, 3)) == side_info


def test_nothing_is_allocated_for_absurd_tensors() -> None:
    eight = bytes([*forged(at5=255, at6=255, at8=0xF7)[:20], *b"\x3f\xf0" * 8])
    fields = [FORGED["too large a frame"], FORGED["too many channels in all"], eight]
    tracemalloc.start()
    try:
        for each in fields:
            with pytest.raises(BitstreamError, match="over the limit"):
                read_fields(each)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("split", "stride"), [(5, 8), (127, 8), (4, 64)])
@pytest.mark.parametrize("version", [1, 2])
def test_older_versions_do_not_name_what_is_new(split: int, stride: int, version: int) -> None:
    side_info = dataclasses.replace(
        ONE, split=split, letterboxed_height=512, feature_height=512 // stride, feature_width=512 // stride
    )
    assert newest_version(side_info) == 3
    fields = bytearray(
        write_fields(dataclasses.replace(side_info, split=0, feature_height=64, feature_width=64), version)
    )
    if version == 1:
        fields[11:15] = struct.pack(">HH", side_info.feature_height, side_info.feature_width)
        fields[26] = split
    elif split > 7:
        return  # version 2 has 3 bits for the split
    else:
        fields[7] = split << 3 | (6 if stride == 64 else 3)
    with pytest.raises(BitstreamError, match=f"values that format version {version} does not use"):
        read_fields(bytes(fields))


def test_a_usual_grid_stays_usual() -> None:
    assert Bands.near_square(128, THREE.bands.further).grid == TileGrid(THREE.tile_rows, THREE.tile_cols)
    assert THREE.frame_shape == (8 * 44 + 4 * 22 + 4 * 11, 16 * 64)


@given(
    st.integers(-300, 300), st.sampled_from([int, np.int64, np.int16]), st.sampled_from([InputError, BitstreamError])
)
def test_qps_are_those_of_vvc(qp: int, kind: type, error: type[InputError] | type[BitstreamError]) -> None:
    if 0 <= qp <= 63:
        check_qp(kind(qp), error)
    else:
        with pytest.raises(error, match=f"^QP {qp} is not a whole number from 0 to 63$"):
            check_qp(kind(qp), error)


@pytest.mark.parametrize("qp", [36.0, 36.5, np.float32(36), float("nan"), "36", None, [36], RAW_QP, MAX_QP + 1])
def test_what_is_not_a_whole_number_is_refused(qp: Any) -> None:
    with pytest.raises(InputError, match="is not a whole number"):
        check_qp(qp)
