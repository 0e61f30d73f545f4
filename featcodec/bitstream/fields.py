"""The fields of the side info as bytes and back, in every version of the format (docs/bitstream.md).

Version 2 is compact, and it is written where it can be. Version 3 is written for what the earlier versions cannot hold:
several tensors, splits over 4, and strides of 64. Version 1 is written for odd sizes. All are always read.
`featcodec.bitstream.format` handles the bytes around the fields: the SEI message with its UUID, and the CRC.
"""

from __future__ import annotations

import struct
from dataclasses import astuple

from featcodec.bitstream.side_info import (
    ONLY_VERSION_3,
    STRIDES,
    UNIT,
    VERSION,
    VERSION_3_NEEDS,
    SideInfo,
    TensorShape,
    check_channels,
    fits_version_2,
    fits_version_3,
    needs_version_3,
    newest_version,
)
from featcodec.errors import BitstreamError
from featcodec.packing.bands import Bands, TensorScale
from featcodec.packing.tiling import TileGrid

# version, original w h, letterboxed w h, channels, feature h w, tile rows cols, clip low high, bits, split,
# fingerprint, QP, encoder tag
_VERSION_1 = struct.Struct(">B2H2H3H2B2f2B8sBH")

# version, original w h, letterboxed w h in units of 32, grid flag and split and stride, bits and clip code, channels,
# fingerprint, QP, encoder tag
_VERSION_2 = struct.Struct(">B2H2B2BH8sBH")
_GRID = struct.Struct(">2B")
_CLIP = struct.Struct(">2f")
# By clip code: 0 = [low, high] follows in the fields; 1 = the range of the paper's bottlenecks and of featcodec's own
# bottlenecks; 2 = the range of latent coding.
_CLIPS = (b"", _CLIP.pack(-3.0, 3.0), _CLIP.pack(-0.2786, 3.0))
_MAX_STRIDE_EXPONENT = 5
_GRID_FOLLOWS = 0x80
_RESERVED = 0x40

# version, original w h, letterboxed w h in units of 32, columns flag and split, bits and clip code and number of
# tensors, fingerprint, QP, encoder tag. Then the channels and the stride of each tensor.
_VERSION_3 = struct.Struct(">B2H2BBB8sBH")
_TENSOR = struct.Struct(">H")
_COLUMNS = struct.Struct(">B")
_COLUMNS_FOLLOW = 0x80

TRUNCATED = "damaged or truncated inside its side info; copy the file or encode the image again"


def write_fields(side_info: SideInfo, version: int) -> bytes:
    """The fields as bytes, the version byte first.

    Args:
        side_info: side info that passes `SideInfo.check`.
        version: version of the format, 1 to 3.

    Raises:
        BitstreamError: the side info does not fit that version, or that version does not exist.
    """
    if not 1 <= version <= VERSION:
        raise BitstreamError(f"there is no format version {version}; use 1..{VERSION}")
    if version == 3:
        if not fits_version_3(side_info):
            raise BitstreamError(f"{VERSION_3_NEEDS}; use version {newest_version(side_info)}")
        return _write_version_3(side_info)
    if needs_version_3(side_info):
        raise BitstreamError(f"{ONLY_VERSION_3}; use version 3")
    if version == 1:
        return _write_version_1(side_info)
    if not fits_version_2(side_info):
        raise BitstreamError(
            f"format version {version} needs letterboxed sides that are multiples of {UNIT} up to {0xFF * UNIT}, and "
            "the same stride for both sides; use version 1"
        )
    return _write_version_2(side_info)


def read_fields(fields: bytes) -> SideInfo:
    """Read and check the side info from the bytes that `write_fields` wrote.

    Args:
        fields: at least the version byte, which is 1 to 3.

    Raises:
        BitstreamError: the fields do not have the length that they claim, or hold values that featcodec never writes.
    """
    version = fields[0]
    side_info = {1: _read_version_1, 2: _read_version_2, 3: _read_version_3}[version](fields)
    side_info.check()
    if version < 3 and needs_version_3(side_info):
        raise BitstreamError(_unused_values(version))
    return side_info


def _unused_values(version: int) -> str:
    return f"its side info holds values that format version {version} does not use; encode the image again"


def _write_version_1(side_info: SideInfo) -> bytes:
    # The fields of SideInfo are in the same order as the table of version 1.
    *fields, _further = astuple(side_info)
    return _VERSION_1.pack(1, *fields)


def _read_version_1(fields: bytes) -> SideInfo:
    if len(fields) != _VERSION_1.size:
        raise BitstreamError(TRUNCATED)
    return SideInfo(*_VERSION_1.unpack(fields)[1:])


def _write_version_2(side_info: SideInfo) -> bytes:
    grid = TileGrid(side_info.tile_rows, side_info.tile_cols)
    is_usual_grid = grid == TileGrid.near_square(side_info.channels)
    clip = _CLIP.pack(side_info.clip_low, side_info.clip_high)
    clip_code = _CLIPS.index(clip) if clip in _CLIPS else 0
    stride_exponent = (side_info.letterboxed_width // side_info.feature_width).bit_length() - 1
    fields = _VERSION_2.pack(
        2,
        side_info.original_width,
        side_info.original_height,
        side_info.letterboxed_width // UNIT,
        side_info.letterboxed_height // UNIT,
        (0 if is_usual_grid else _GRID_FOLLOWS) | side_info.split << 3 | stride_exponent,
        (side_info.bits - 1) << 4 | clip_code,
        side_info.channels,
        side_info.fingerprint,
        side_info.qp,
        side_info.encoder_tag,
    )
    return fields + (b"" if is_usual_grid else _GRID.pack(grid.rows, grid.cols)) + (b"" if clip_code else clip)


def _read_version_2(fields: bytes) -> SideInfo:
    if len(fields) < _VERSION_2.size:
        raise BitstreamError(TRUNCATED)
    _, original_width, original_height, columns, rows, layout, samples, channels, fingerprint, qp, encoder_tag = (
        _VERSION_2.unpack_from(fields)
    )
    stride_exponent, clip_code = layout & 7, samples & 15
    if layout & _RESERVED or stride_exponent > _MAX_STRIDE_EXPONENT or clip_code >= len(_CLIPS):
        raise BitstreamError(_unused_values(2))
    check_channels(channels)
    has_grid = bool(layout & _GRID_FOLLOWS)
    rest = fields[_VERSION_2.size :]
    if len(rest) != has_grid * _GRID.size + (0 if clip_code else _CLIP.size):
        raise BitstreamError(TRUNCATED)
    grid = TileGrid(*_GRID.unpack_from(rest)) if has_grid else TileGrid.near_square(channels)
    clip_low, clip_high = _CLIP.unpack(_CLIPS[clip_code] or rest[-_CLIP.size :])
    return SideInfo(
        original_width=original_width,
        original_height=original_height,
        letterboxed_width=columns * UNIT,
        letterboxed_height=rows * UNIT,
        channels=channels,
        feature_height=rows * UNIT >> stride_exponent,
        feature_width=columns * UNIT >> stride_exponent,
        tile_rows=grid.rows,
        tile_cols=grid.cols,
        clip_low=clip_low,
        clip_high=clip_high,
        bits=(samples >> 4) + 1,
        split=layout >> 3 & 7,
        fingerprint=fingerprint,
        qp=qp,
        encoder_tag=encoder_tag,
    )


def _write_version_3(side_info: SideInfo) -> bytes:
    bands = side_info.bands
    is_usual = bands.grid == Bands.near_square(bands.channels, bands.further).grid
    clip = _CLIP.pack(side_info.clip_low, side_info.clip_high)
    clip_code = _CLIPS.index(clip) if clip in _CLIPS else 0
    fields = _VERSION_3.pack(
        3,
        side_info.original_width,
        side_info.original_height,
        side_info.letterboxed_width // UNIT,
        side_info.letterboxed_height // UNIT,
        (0 if is_usual else _COLUMNS_FOLLOW) | side_info.split,
        (side_info.bits - 1) << 5 | clip_code << 3 | len(side_info.further),
        side_info.fingerprint,
        side_info.qp,
        side_info.encoder_tag,
    )
    for channels, _, width in side_info.tensors:
        stride_exponent = (side_info.letterboxed_width // width).bit_length() - 1
        fields += _TENSOR.pack((channels - 1) << 4 | stride_exponent)
    return fields + (b"" if is_usual else _COLUMNS.pack(bands.grid.cols)) + (b"" if clip_code else clip)


def _read_version_3(fields: bytes) -> SideInfo:
    if len(fields) < _VERSION_3.size:
        raise BitstreamError(TRUNCATED)
    _, original_width, original_height, columns, rows, geometry, samples, fingerprint, qp, encoder_tag = (
        _VERSION_3.unpack_from(fields)
    )
    has_columns, clip_code, tensors = bool(geometry & _COLUMNS_FOLLOW), samples >> 3 & 3, (samples & 7) + 1
    if clip_code >= len(_CLIPS):
        raise BitstreamError(_unused_values(3))
    listed = fields[_VERSION_3.size :][: tensors * _TENSOR.size]
    rest = fields[_VERSION_3.size + tensors * _TENSOR.size :]
    has_whole_list = len(listed) == tensors * _TENSOR.size
    if not has_whole_list or len(rest) != has_columns * _COLUMNS.size + (0 if clip_code else _CLIP.size):
        raise BitstreamError(TRUNCATED)
    shapes = [_read_tensor(packed, rows * UNIT, columns * UNIT) for (packed,) in _TENSOR.iter_unpack(listed)]
    grid = _grid_of(shapes, rest[0] if has_columns else None)
    clip_low, clip_high = _CLIP.unpack(_CLIPS[clip_code] or rest[-_CLIP.size :])
    (channels, height, width), *further = shapes
    return SideInfo(
        original_width=original_width,
        original_height=original_height,
        letterboxed_width=columns * UNIT,
        letterboxed_height=rows * UNIT,
        channels=channels,
        feature_height=height,
        feature_width=width,
        tile_rows=grid.rows,
        tile_cols=grid.cols,
        clip_low=clip_low,
        clip_high=clip_high,
        bits=(samples >> 5) + 1,
        split=geometry & ~_COLUMNS_FOLLOW,
        fingerprint=fingerprint,
        qp=qp,
        encoder_tag=encoder_tag,
        further=tuple(further),
    )


def _read_tensor(packed: int, letterboxed_height: int, letterboxed_width: int) -> TensorShape:
    """The shape of a tensor from its two bytes."""
    stride_exponent = packed & 15
    if stride_exponent >= len(STRIDES):
        raise BitstreamError(_unused_values(3))
    sides = letterboxed_height, letterboxed_width
    if any(side == 0 or side % STRIDES[stride_exponent] for side in sides):
        raise BitstreamError(
            f"{letterboxed_width}x{letterboxed_height} letterboxed pixels do not divide by a stride of "
            f"{STRIDES[stride_exponent]}"
        )
    return (packed >> 4) + 1, letterboxed_height >> stride_exponent, letterboxed_width >> stride_exponent


def _grid_of(shapes: list[TensorShape], columns: int | None) -> TileGrid:
    """The tiles of the finest tensor: in a number of columns, or the usual ones."""
    (channels, _, width), *others = shapes
    if columns is not None:
        # `SideInfo.check` refuses 0 columns.
        return TileGrid(-(-channels // max(columns, 1)), columns)
    widths = [each for _, _, each in shapes]
    if widths != sorted(widths, reverse=True):
        raise BitstreamError("its tensors are not sorted, the finest first; encode the image again")
    further = tuple(TensorScale(each, width // coarser) for each, _, coarser in others)
    return Bands.near_square(channels, further).grid
