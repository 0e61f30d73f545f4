"""The side info of a stream: what a decoder needs besides the picture, checked (docs/bitstream.md).

`fields` turns it into bytes and back, in every version of the format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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

UNIT = 32
"""Versions 2 and 3 hold the letterboxed sides in units of so many pixels."""

# What versions 1 and 2 can hold. Their readers refuse more.
_OLD_MAX_SPLIT = 4
_OLD_MAX_STRIDE = 32
STRIDES = (1, 2, 4, 8, 16, 32, 64)

ONLY_VERSION_3 = (
    f"only format version 3 holds several tensors, a split over {_OLD_MAX_SPLIT}, or a stride over {_OLD_MAX_STRIDE}"
)
VERSION_3_NEEDS = (
    f"it needs letterboxed sides that are multiples of {UNIT} up to {0xFF * UNIT}, one stride for both sides, and no "
    "empty rows of tiles"
)


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
        if needs_version_3(self) and not fits_version_3(self):
            raise BitstreamError(f"{ONLY_VERSION_3}; {VERSION_3_NEEDS}")

    def _check_sizes(self) -> None:
        for name in ("original_width", "original_height", "letterboxed_width", "letterboxed_height"):
            if not 1 <= getattr(self, name) <= 0xFFFF:
                raise BitstreamError(f"{name.replace('_', ' ')} {getattr(self, name)} is outside 1..65535 pixels")
        check_channels(self.channels)
        if not (1 <= self.tile_rows <= 255 and 1 <= self.tile_cols <= 255):
            raise BitstreamError(f"a grid of {self.tile_rows}x{self.tile_cols} tiles is outside 1..255")
        if self.tile_rows * self.tile_cols < self.channels:
            raise BitstreamError(f"{self.tile_rows}x{self.tile_cols} tiles have no room for {self.channels} channels")
        for letterboxed, feature in (
            (self.letterboxed_width, self.feature_width),
            (self.letterboxed_height, self.feature_height),
        ):
            if feature < 1 or letterboxed % feature or letterboxed // feature not in STRIDES:
                raise BitstreamError(f"{letterboxed} letterboxed pixels cannot make {feature} feature samples")

    def _check_further(self) -> None:
        if len(self.tensors) > MAX_TENSORS:
            raise BitstreamError(f"{len(self.tensors)} tensors are over the limit of {MAX_TENSORS}")
        last = 1
        for channels, height, width in self.further:
            check_channels(channels)
            divisor = self.feature_width // width if width > 0 else 0
            is_whole = (height * divisor, width * divisor) == (self.feature_height, self.feature_width)
            if not is_whole or divisor not in STRIDES:
                raise BitstreamError(
                    f"a tensor of {width}x{height} samples does not go with one of "
                    f"{self.feature_width}x{self.feature_height}; its sides are not those divided by a power of two"
                )
            if max(self.letterboxed_width // width, self.letterboxed_height // height) > STRIDES[-1]:
                raise BitstreamError(f"a tensor of {width}x{height} samples has a stride over {STRIDES[-1]}")
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
    if needs_version_3(side_info):
        return 3
    return 2 if fits_version_2(side_info) else 1


def _strides(side_info: SideInfo) -> tuple[int, int]:
    """How many pixels wide and how many pixels high a sample of the finest tensor is."""
    return (
        side_info.letterboxed_width // side_info.feature_width,
        side_info.letterboxed_height // side_info.feature_height,
    )


def needs_version_3(side_info: SideInfo) -> bool:
    """Whether earlier versions cannot hold it."""
    has_wide_stride = max(_strides(side_info)) > _OLD_MAX_STRIDE
    return bool(side_info.further) or side_info.split > _OLD_MAX_SPLIT or has_wide_stride


def fits_version_2(side_info: SideInfo) -> bool:
    """Whether version 2 can hold it."""
    return _has_compact_sides(side_info) and not needs_version_3(side_info)


def fits_version_3(side_info: SideInfo) -> bool:
    """Whether version 3 can hold it."""
    # The number of rows is not in the fields: it follows from the number of columns.
    has_full_rows = side_info.tile_rows == -(-side_info.channels // side_info.tile_cols)
    return _has_compact_sides(side_info) and has_full_rows


def _has_compact_sides(side_info: SideInfo) -> bool:
    sides = (side_info.letterboxed_width, side_info.letterboxed_height)
    is_in_units = all(side % UNIT == 0 and side // UNIT <= 0xFF for side in sides)
    return is_in_units and len(set(_strides(side_info))) == 1


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


def check_channels(channels: int) -> None:
    """Refuse a number of channels that no tensor has."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise BitstreamError(f"{channels} channels are outside 1..{MAX_CHANNELS}")
