"""From the fields of the side info to bytes and back, in every version of the format (docs/bitstream.md).

Version 2 is compact. Version 1 is always read, and it is written if the side info does not fit version 2.
`featcodec.bitstream.format` handles the bytes around the fields: the SEI message with its UUID, and the CRC.
"""

from __future__ import annotations

import math
import struct
from dataclasses import astuple, dataclass

from featcodec.errors import BitstreamError, FeatcodecError, InputError
from featcodec.packing.tiling import TileGrid

VERSION = 2
"""The newest version of the format."""
RAW_QP = 255
"""The value of the QP field in a file whose samples are not coded."""

MAX_FRAME_SAMPLES = 1 << 26
MAX_CHANNELS = 4096
MAX_SPLIT = 4
MAX_QP = 63
"""The coarsest QP of VVC; the finest QP is 0. HEVC ends at 51 (`nal.HEVC`)."""

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

TRUNCATED = "damaged or truncated inside its side info; copy the file or encode the image again"


@dataclass(frozen=True)
class SideInfo:
    """The side info of one picture (docs/bitstream.md). `pack` and `unpack` check every field.

    Attributes:
        original_width, original_height: pixels of the image that was encoded, 1..65535, after EXIF rotation.
        letterboxed_width, letterboxed_height: pixels of the detector's input, at most 32 times the feature size.
        channels: channels of the tensor, 1..4096.
        feature_height, feature_width: height and width of the tensor in samples.
        tile_rows, tile_cols: rows and columns of the tile grid, 1..255 each, with room for every channel.
        clip_low, clip_high: the clip range of the tensor as the layout arranges it, float32.
        bits: sample bit depth, 1..8.
        split: the last layer of the front-end, 0..4.
        fingerprint: 8 bytes that name detector, bottleneck and layout (`featcodec.fingerprints`).
        qp: quantization parameter, 0..63 in VVC, 0..51 in HEVC, or `RAW_QP`.
        encoder_tag: 16 bits that tell apart encoder settings (video codec, preset, parameters) and letterboxed pixels;
            0..65535. Decoders ignore the tag. A resumed run uses the tag to see whether it wrote a file itself.
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

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Height and width of the frame in samples."""
        return self.tile_rows * self.feature_height, self.tile_cols * self.feature_width

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
            if feature < 1 or letterboxed % feature or letterboxed // feature not in (1, 2, 4, 8, 16, 32):
                raise BitstreamError(f"{letterboxed} letterboxed pixels cannot make {feature} feature samples")
        height, width = self.frame_shape
        if height * width > MAX_FRAME_SAMPLES:
            raise BitstreamError(f"a frame of {width}x{height} samples is over the limit of {MAX_FRAME_SAMPLES}")


def newest_version(side_info: SideInfo) -> int:
    """The newest version that the side info fits: 2 for everything that featcodec's letterbox makes, else 1.

    Args:
        side_info: side info that passes `SideInfo.check`.
    """
    sides = (side_info.letterboxed_width, side_info.letterboxed_height)
    strides = {
        side_info.letterboxed_width // side_info.feature_width,
        side_info.letterboxed_height // side_info.feature_height,
    }
    fits = len(strides) == 1 and all(side % _UNIT == 0 and side // _UNIT <= 0xFF for side in sides)
    return 2 if fits else 1


def write_fields(side_info: SideInfo, version: int) -> bytes:
    """The fields as bytes, the version byte first.

    Args:
        side_info: side info that passes `SideInfo.check`.
        version: version of the format, 1 or 2.

    Raises:
        BitstreamError: the side info does not fit that version, or that version does not exist.
    """
    if version == 1:
        return _write_version_1(side_info)
    if version != VERSION:
        raise BitstreamError(f"there is no format version {version}; use 1..{VERSION}")
    if newest_version(side_info) < version:
        raise BitstreamError(
            f"format version {version} needs letterboxed sides that are multiples of {_UNIT} up to {0xFF * _UNIT}, and "
            "the same stride for both sides; use version 1"
        )
    return _write_version_2(side_info)


def read_fields(fields: bytes) -> SideInfo:
    """Read and check the side info from the bytes that `write_fields` wrote.

    Args:
        fields: at least the version byte, which is 1 or 2.

    Raises:
        BitstreamError: the fields do not have the length that they claim, or hold values that featcodec never writes.
    """
    side_info = _read_version_1(fields) if fields[0] == 1 else _read_version_2(fields)
    side_info.check()
    return side_info


def _write_version_1(side_info: SideInfo) -> bytes:
    # The fields of SideInfo are in the same order as the table of version 1.
    return _VERSION_1.pack(1, *astuple(side_info))


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
        raise BitstreamError("its side info holds values that format version 2 does not use; encode the image again")
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
