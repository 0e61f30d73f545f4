"""From the fields of the side info to bytes and back, in every version of the format (docs/bitstream.md).

Version 2 is compact, and it is written where it can be. Version 3 is written for what the earlier versions cannot hold:
several tensors, splits over 4, and strides of 64. Version 1 is written for odd sizes. All are always read.
`featcodec.bitstream.format` handles the bytes around the fields: the SEI message with its UUID, and the CRC.
"""

from __future__ import annotations

import math
import struct
from dataclasses import astuple, dataclass
from typing import TypeAlias

from featcodec.errors import BitstreamError, FeatcodecError, InputError
from featcodec.packing.bands import Bands, TensorScale
from featcodec.packing.tiling import TileGrid

VERSION = 3
"""The newest version of the format."""
RAW_QP = 255
"""The value of the QP field in a file whose samples are not coded."""

MAX_FRAME_SAMPLES = 1 << 26
MAX_CHANNELS = 4096
MAX_TENSORS = 8
MAX_CHANNELS_IN_ALL = 8192
"""Channels of all tensors together."""
MAX_SPLIT = 127
MAX_QP = 63
"""The coarsest QP of VVC; the finest QP is 0. HEVC ends at 51 (`nal.HEVC`)."""

TensorShape: TypeAlias = tuple[int, int, int]
"""Channels, height and width of a tensor."""

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
_UNIT = 32
_MAX_STRIDE_EXPONENT = 5
_GRID_FOLLOWS = 0x80
_RESERVED = 0x40

# version, original w h, letterboxed w h in units of 32, columns flag and split, bits and clip code and number of
# tensors, fingerprint, QP, encoder tag. Then the channels and the stride of each tensor.
_VERSION_3 = struct.Struct(">B2H2BBB8sBH")
_TENSOR = struct.Struct(">H")
_COLUMNS = struct.Struct(">B")
_COLUMNS_FOLLOW = 0x80

# What versions 1 and 2 can hold. Their readers refuse more.
_OLD_MAX_SPLIT = 4
_OLD_MAX_STRIDE = 32
_STRIDES = (1, 2, 4, 8, 16, 32, 64)

TRUNCATED = "damaged or truncated inside its side info; copy the file or encode the image again"


@dataclass(frozen=True)
class SideInfo:
    """The side info of one picture (docs/bitstream.md). `pack` and `unpack` check every field.

    Attributes:
        original_width, original_height: pixels of the image that was encoded, 1..65535, after EXIF rotation.
        letterboxed_width, letterboxed_height: pixels of the detector's input, at most 64 times the feature size.
        channels: channels of the tensor, 1..4096; of several tensors, those of the finest.
        feature_height, feature_width: height and width of that tensor in samples.
        tile_rows, tile_cols: rows and columns of its tile grid, 1..255 each, with room for every channel.
        clip_low, clip_high: the clip range of all tensors; of one, as the layout arranges it; float32.
        bits: sample bit depth, 1..8.
        split: the last layer of the front-end, 0..127.
        fingerprint: 8 bytes that name detector, bottleneck and layout (`featcodec.fingerprints`).
        qp: quantization parameter, 0..63 in VVC, 0..51 in HEVC, or `RAW_QP`.
        encoder_tag: 16 bits that tell apart encoder settings (video codec, preset, parameters) and letterboxed pixels;
            0..65535. Decoders ignore the tag. A resumed run uses the tag to see whether it wrote a file itself.
        further: channels, height and width of each further tensor, if several cross the wire; at most 7. None is finer
            than the one before it, and the sides of each are those of the finest divided by one power of two.
    """

    original_width: int
    original_height: int
    letterboxed_width: int
    letterboxed_height: int
    channels: int
    feature_height: int
    feature_width: int
    tile_rows: int
    tile_cols: int
    clip_low: float
    clip_high: float
    bits: int
    split: int
    fingerprint: bytes
    qp: int
    encoder_tag: int
    further: tuple[TensorShape, ...] = ()

    @property
    def tensors(self) -> tuple[TensorShape, ...]:
        """Channels, height and width of every tensor, the finest first."""
        return (self.channels, self.feature_height, self.feature_width), *self.further

    @property
    def bands(self) -> Bands:
        """Where the channels of all tensors lie in the frame. Only for side info that passes `check`."""
        further = tuple(TensorScale(channels, self.feature_width // width) for channels, _, width in self.further)
        return Bands(self.channels, TileGrid(self.tile_rows, self.tile_cols), further)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Height and width of the frame in samples. Only for side info that passes `check`."""
        return self.bands.frame_shape(self.feature_height, self.feature_width)

    @property
    def is_raw(self) -> bool:
        """Whether the samples are stored as they are instead of coded."""
        return self.qp == RAW_QP

    def check(self) -> None:
        """Refuse side info that featcodec never writes, before anything of the claimed size is allocated.

        Raises:
            BitstreamError: a field is out of range, or two fields contradict each other.
        """
        self._check_sizes()
        self._check_further()
        height, width = self.frame_shape
        if height * width > MAX_FRAME_SAMPLES:
            raise BitstreamError(f"a frame of {width}x{height} samples is over the limit of {MAX_FRAME_SAMPLES}")
        if not (math.isfinite(self.clip_low) and math.isfinite(self.clip_high) and self.clip_low < self.clip_high):
            raise BitstreamError(f"clip range [{self.clip_low}, {self.clip_high}] is empty or not finite")
        if not 1 <= self.bits <= 8:
            raise BitstreamError(f"bit depth {self.bits} is outside 1..8")
        if not 0 <= self.split <= MAX_SPLIT:
            raise BitstreamError(f"split layer {self.split} is outside 0..{MAX_SPLIT}")
        if len(self.fingerprint) != 8:
            raise BitstreamError("a fingerprint has 8 bytes")
        if self.qp != RAW_QP:
            check_qp(self.qp, BitstreamError)
        if not 0 <= self.encoder_tag <= 0xFFFF:
            raise BitstreamError(f"encoder tag {self.encoder_tag} is outside 0..65535")
        if _needs_version_3(self) and not _fits_version_3(self):
            raise BitstreamError(f"{_ONLY_VERSION_3}; {_VERSION_3_NEEDS}")

    def _check_sizes(self) -> None:
        for name in ("original_width", "original_height", "letterboxed_width", "letterboxed_height"):
            if not 1 <= getattr(self, name) <= 0xFFFF:
                raise BitstreamError(f"{name.replace('_', ' ')} {getattr(self, name)} is outside 1..65535 pixels")
        _check_channels(self.channels)
        if not (1 <= self.tile_rows <= 255 and 1 <= self.tile_cols <= 255):
            raise BitstreamError(f"a grid of {self.tile_rows}x{self.tile_cols} tiles is outside 1..255")
        if self.tile_rows * self.tile_cols < self.channels:
            raise BitstreamError(f"{self.tile_rows}x{self.tile_cols} tiles have no room for {self.channels} channels")
        for letterboxed, feature in (
            (self.letterboxed_width, self.feature_width),
            (self.letterboxed_height, self.feature_height),
        ):
            if feature < 1 or letterboxed % feature or letterboxed // feature not in _STRIDES:
                raise BitstreamError(f"{letterboxed} letterboxed pixels cannot make {feature} feature samples")

    def _check_further(self) -> None:
        if len(self.tensors) > MAX_TENSORS:
            raise BitstreamError(f"{len(self.tensors)} tensors are over the limit of {MAX_TENSORS}")
        last = 1
        for channels, height, width in self.further:
            _check_channels(channels)
            divisor = self.feature_width // width if width > 0 else 0
            is_whole = (height * divisor, width * divisor) == (self.feature_height, self.feature_width)
            if not is_whole or divisor not in _STRIDES:
                raise BitstreamError(
                    f"a tensor of {width}x{height} samples does not go with one of "
                    f"{self.feature_width}x{self.feature_height}; its sides are not those divided by a power of two"
                )
            if max(self.letterboxed_width // width, self.letterboxed_height // height) > _STRIDES[-1]:
                raise BitstreamError(f"a tensor of {width}x{height} samples has a stride over {_STRIDES[-1]}")
            if divisor < last:
                raise BitstreamError(f"a tensor of {width}x{height} samples comes after a coarser one; sort them")
            last = divisor
        in_all = sum(channels for channels, _, _ in self.tensors)
        if in_all > MAX_CHANNELS_IN_ALL:
            raise BitstreamError(f"{in_all} channels in all are over the limit of {MAX_CHANNELS_IN_ALL}")


def newest_version(side_info: SideInfo) -> int:
    """The version that the side info is written in, unless another one is asked for.

    It is 3 for what only version 3 can hold, 2 for everything else that featcodec's letterbox makes, and else 1.

    Args:
        side_info: side info that passes `SideInfo.check`.
    """
    if _needs_version_3(side_info):
        return 3
    return 2 if _fits_version_2(side_info) else 1


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
        if not _fits_version_3(side_info):
            raise BitstreamError(f"{_VERSION_3_NEEDS}; use version {newest_version(side_info)}")
        return _write_version_3(side_info)
    if _needs_version_3(side_info):
        raise BitstreamError(f"{_ONLY_VERSION_3}; use version 3")
    if version == 1:
        return _write_version_1(side_info)
    if not _fits_version_2(side_info):
        raise BitstreamError(
            f"format version {version} needs letterboxed sides that are multiples of {_UNIT} up to {0xFF * _UNIT}, and "
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
    if version < 3 and _needs_version_3(side_info):
        raise BitstreamError(_unused_values(version))
    return side_info


_ONLY_VERSION_3 = (
    f"only format version 3 holds several tensors, a split over {_OLD_MAX_SPLIT}, or a stride over {_OLD_MAX_STRIDE}"
)
_VERSION_3_NEEDS = (
    f"it needs letterboxed sides that are multiples of {_UNIT} up to {0xFF * _UNIT}, one stride for both sides, and no "
    "empty rows of tiles"
)


def _unused_values(version: int) -> str:
    return f"its side info holds values that format version {version} does not use; encode the image again"


def _strides(side_info: SideInfo) -> tuple[int, int]:
    """How many pixels wide and how many pixels high a sample of the finest tensor is."""
    return (
        side_info.letterboxed_width // side_info.feature_width,
        side_info.letterboxed_height // side_info.feature_height,
    )


def _needs_version_3(side_info: SideInfo) -> bool:
    has_wide_stride = max(_strides(side_info)) > _OLD_MAX_STRIDE
    return bool(side_info.further) or side_info.split > _OLD_MAX_SPLIT or has_wide_stride


def _fits_version_2(side_info: SideInfo) -> bool:
    return _has_compact_sides(side_info) and not _needs_version_3(side_info)


def _fits_version_3(side_info: SideInfo) -> bool:
    # The number of rows is not in the fields: it follows from the number of columns.
    has_full_rows = side_info.tile_rows == -(-side_info.channels // side_info.tile_cols)
    return _has_compact_sides(side_info) and has_full_rows


def _has_compact_sides(side_info: SideInfo) -> bool:
    sides = (side_info.letterboxed_width, side_info.letterboxed_height)
    is_in_units = all(side % _UNIT == 0 and side // _UNIT <= 0xFF for side in sides)
    return is_in_units and len(set(_strides(side_info))) == 1


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
        side_info.letterboxed_width // _UNIT,
        side_info.letterboxed_height // _UNIT,
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
    _check_channels(channels)
    has_grid = bool(layout & _GRID_FOLLOWS)
    rest = fields[_VERSION_2.size :]
    if len(rest) != has_grid * _GRID.size + (0 if clip_code else _CLIP.size):
        raise BitstreamError(TRUNCATED)
    grid = TileGrid(*_GRID.unpack_from(rest)) if has_grid else TileGrid.near_square(channels)
    clip_low, clip_high = _CLIP.unpack(_CLIPS[clip_code] or rest[-_CLIP.size :])
    return SideInfo(
        original_width=original_width,
        original_height=original_height,
        letterboxed_width=columns * _UNIT,
        letterboxed_height=rows * _UNIT,
        channels=channels,
        feature_height=rows * _UNIT >> stride_exponent,
        feature_width=columns * _UNIT >> stride_exponent,
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
        side_info.letterboxed_width // _UNIT,
        side_info.letterboxed_height // _UNIT,
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
    shapes = [_read_tensor(packed, rows * _UNIT, columns * _UNIT) for (packed,) in _TENSOR.iter_unpack(listed)]
    grid = _grid_of(shapes, rest[0] if has_columns else None)
    clip_low, clip_high = _CLIP.unpack(_CLIPS[clip_code] or rest[-_CLIP.size :])
    (channels, height, width), *further = shapes
    return SideInfo(
        original_width=original_width,
        original_height=original_height,
        letterboxed_width=columns * _UNIT,
        letterboxed_height=rows * _UNIT,
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
    if stride_exponent >= len(_STRIDES):
        raise BitstreamError(_unused_values(3))
    sides = letterboxed_height, letterboxed_width
    if any(side == 0 or side % _STRIDES[stride_exponent] for side in sides):
        raise BitstreamError(
            f"{letterboxed_width}x{letterboxed_height} letterboxed pixels do not divide by a stride of "
            f"{_STRIDES[stride_exponent]}"
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


def check_qp(qp: int, error: type[FeatcodecError] = InputError, *, most: int = MAX_QP) -> None:
    """Refuse a value that is not a QP.

    Args:
        qp: a whole number of any type, also a numpy integer; 0 to `most`.
        error: the class of the error to raise.
        most: the coarsest QP of the standard (`nal.Standard`).

    Raises:
        error: the value is not a whole number from 0 to `most`.
    """
    if not hasattr(qp, "__index__") or not 0 <= qp <= most:  # numpy integers have __index__, floats do not
        raise error(f"QP {qp} is not a whole number from 0 to {most}{' (HEVC ends there)' if most < MAX_QP else ''}")


def _check_channels(channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise BitstreamError(f"{channels} channels are outside 1..{MAX_CHANNELS}")
