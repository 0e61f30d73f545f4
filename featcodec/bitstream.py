"""The byte format of a `.266` file: side info <-> SEI. The only reader and writer of it (docs/bitstream.md).

A file is a VVC Annex B byte stream of one intra picture, the tile mosaic. What a decoder needs besides rides in one
prefix SEI NAL unit, user_data_unregistered (Rec. ITU-T H.274 clause 8.3) under `UUID`, before the first slice.
Files of `--codec none` hold the mosaic's raw samples in a NAL unit of the unspecified type 28 instead of a picture.
"""

from __future__ import annotations

import math
import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

from featcodec import nal
from featcodec.errors import BitstreamError

UUID = uuid.UUID("5f6c3da8-8936-582b-a12b-b97cf95638ba")
VERSION = 1
RAW_QP = 255
"""The QP field of a file whose samples are not VVC coded."""

STREAM_SUFFIX = ".266"
MAX_FILE_BYTES = 64 << 20
MAX_MOSAIC_SAMPLES = 1 << 26
MAX_CHANNELS = 4096
_MAX_NAL_UNITS = 64
_MAX_SEI_BYTES = 128
_MAX_SPLIT = 4

# version, original w h, letterboxed w h, channels, feature h w, tile rows cols, clip low high, bits, split,
# fingerprint, QP, encoder tag
_FIELDS = struct.Struct(">B2H2H3H2B2f2B8sBH")
_CRC = struct.Struct(">I")
_SEI_HEADER = bytes([0, nal.PREFIX_SEI << 3 | 1])
_USER_DATA_UNREGISTERED = 5
_SEI_PREFIX = bytes([_USER_DATA_UNREGISTERED, 16 + _FIELDS.size + _CRC.size]) + UUID.bytes
_RBSP_TRAILING = b"\x80"


@dataclass(frozen=True)
class Header:
    """The side info of one picture. Every field is checked by `pack` and `unpack`; see docs/bitstream.md.

    Attributes:
        original_width, original_height: pixels of the image that was encoded, 1..65535, after EXIF rotation.
        letterboxed_width, letterboxed_height: pixels of the detector's input, at most 32 times the feature size.
        channels: channels of the coded tensor, 1..4096.
        feature_height, feature_width: its height and width in samples.
        tile_rows, tile_cols: the tile grid, 1..255 each, with room for every channel.
        clip_low, clip_high: the clip range in feature units, float32.
        bits: sample bit depth, 1..8.
        split: the detector layer whose output was coded, 0..4.
        fingerprint: 8 bytes that name detector and bottleneck weights (`featcodec.checkpoints`).
        qp: VVC quantization parameter 0..63, or `RAW_QP`.
        encoder_tag: 16 bits that tell apart encoder settings (codec, preset, parameters) and letterboxed pixels;
            0..65535. Decoders ignore it; a resumed run knows by it whether a file is its own.
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
    def mosaic_shape(self) -> tuple[int, int]:
        """Height and width of the tile mosaic in samples."""
        return self.tile_rows * self.feature_height, self.tile_cols * self.feature_width

    @property
    def is_raw(self) -> bool:
        """Whether the samples are stored as they are instead of VVC coded."""
        return self.qp == RAW_QP

    def check(self) -> None:
        """Refuse what no encoder of ours writes, before anything of the claimed size is allocated.

        Raises:
            BitstreamError: a field is out of range or two contradict each other.
        """
        self._check_sizes()
        if not (math.isfinite(self.clip_low) and math.isfinite(self.clip_high) and self.clip_low < self.clip_high):
            raise BitstreamError(f"clip range [{self.clip_low}, {self.clip_high}] is empty or not finite")
        if not 1 <= self.bits <= 8:
            raise BitstreamError(f"bit depth {self.bits} is outside 1..8")
        if not 0 <= self.split <= _MAX_SPLIT:
            raise BitstreamError(f"split layer {self.split} is outside 0..{_MAX_SPLIT}")
        if len(self.fingerprint) != 8:
            raise BitstreamError("a fingerprint has 8 bytes")
        if not (0 <= self.qp <= 63 or self.qp == RAW_QP):
            raise BitstreamError(f"QP {self.qp} is outside 0..63")
        if not 0 <= self.encoder_tag <= 0xFFFF:
            raise BitstreamError(f"encoder tag {self.encoder_tag} is outside 0..65535")

    def _check_sizes(self) -> None:
        for name in ("original_width", "original_height", "letterboxed_width", "letterboxed_height"):
            if not 1 <= getattr(self, name) <= 0xFFFF:
                raise BitstreamError(f"{name.replace('_', ' ')} {getattr(self, name)} is outside 1..65535 pixels")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise BitstreamError(f"{self.channels} channels are outside 1..{MAX_CHANNELS}")
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
        height, width = self.mosaic_shape
        if height * width > MAX_MOSAIC_SAMPLES:
            raise BitstreamError(f"a mosaic of {width}x{height} samples is over the limit of {MAX_MOSAIC_SAMPLES}")


@dataclass(frozen=True)
class Breakdown:
    """Where the bytes of a file go; the parts add up to the whole.

    Attributes:
        slice_data: coded picture data, or raw samples.
        parameter_sets: SPS, PPS, APS and whatever else the VVC encoder wrote.
        side_info: the SEI NAL unit with featcodec's header.
        start_codes: the start codes of all NAL units.
    """

    slice_data: int
    parameter_sets: int
    side_info: int
    start_codes: int

    @property
    def total(self) -> int:
        """Bytes of the whole file."""
        return self.slice_data + self.parameter_sets + self.side_info + self.start_codes


def pack(header: Header, vvc_stream: bytes) -> bytes:
    """Put the side info into a coded picture.

    Args:
        header: what the decoder needs.
        vvc_stream: Annex B bytes of one picture, as a codec of `featcodec.vvc` makes them.

    Raises:
        BitstreamError: the header is out of range, or the stream does not hold exactly one picture.
    """
    header.check()
    units = nal.split_units(vvc_stream)
    first = _picture_position(units, header)
    return nal.join_units([*units[:first], _write_sei(header, units), *units[first:]])


def unpack(data: bytes) -> tuple[Header, bytes]:
    """Read a file: its side info and the Annex B bytes of its picture without it.

    Every bit is checked: the CRC covers the side info and all other NAL units.

    Raises:
        BitstreamError: not a featcodec bitstream, truncated, damaged, of a later version, or with absurd sizes.
    """
    header, units, _ = _parse(data)
    return header, nal.join_units(units)


def breakdown(data: bytes) -> Breakdown:
    """Count the bytes of a file by what they are for.

    Raises:
        BitstreamError: as `unpack`.
    """
    _, units, sei = _parse(data)
    samples = sum(len(unit) for unit in units if nal.is_slice(unit) or nal.nal_type(unit) == nal.UNSPECIFIED_28)
    others = sum(map(len, units)) - samples
    return Breakdown(samples, others, len(sei), len(data) - samples - others - len(sei))


def read_file(path: Path) -> bytes:
    """The bytes of a `.266` file of bounded size.

    Raises:
        BitstreamError: it cannot be read, is empty, or is larger than any stream of ours (64 MiB).
    """
    try:
        if path.exists() and not path.is_file():
            raise BitstreamError(f"{path}: no regular file; give .266 files")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BitstreamError(
                f"{path}: over {MAX_FILE_BYTES >> 20} MiB, larger than any feature bitstream; check the path"
            )
        data = path.read_bytes()
    except OSError as error:
        raise BitstreamError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if not data:
        raise BitstreamError(f"{path}: empty file; encode the image again")
    return data


def _write_sei(header: Header, other_units: list[bytes]) -> bytes:
    fields = _FIELDS.pack(
        VERSION,
        header.original_width,
        header.original_height,
        header.letterboxed_width,
        header.letterboxed_height,
        header.channels,
        header.feature_height,
        header.feature_width,
        header.tile_rows,
        header.tile_cols,
        header.clip_low,
        header.clip_high,
        header.bits,
        header.split,
        header.fingerprint,
        header.qp,
        header.encoder_tag,
    )
    message = _SEI_PREFIX + fields + _CRC.pack(_checksum(fields, other_units)) + _RBSP_TRAILING
    return _SEI_HEADER + nal.escape(message)


def _checksum(fields: bytes, other_units: list[bytes]) -> int:
    crc = zlib.crc32(fields)
    for unit in other_units:
        crc = zlib.crc32(unit, crc)
    return crc


def _picture_position(units: list[bytes], header: Header) -> int:
    """The index of the one NAL unit with the picture's samples."""
    is_samples = (lambda unit: nal.nal_type(unit) == nal.UNSPECIFIED_28) if header.is_raw else nal.is_slice
    positions = [index for index, unit in enumerate(units) if is_samples(unit)]
    if len(positions) != 1:
        raise BitstreamError(f"holds {len(positions)} coded pictures where one belongs")
    return positions[0]


def _parse(data: bytes) -> tuple[Header, list[bytes], bytes]:
    """The header, the NAL units without the SEI, and the SEI NAL unit."""
    if data.count(b"\x00\x00\x01") > _MAX_NAL_UNITS:
        raise BitstreamError("not a featcodec bitstream: it holds more than one picture's NAL units")
    units = nal.split_units(data)
    candidates = [unit for unit in units if UUID.bytes in unit]
    if len(candidates) != 1:
        raise BitstreamError("not a featcodec bitstream, or damaged: it holds no side info of ours")
    sei = candidates[0]
    fields, crc = _read_sei(sei)
    units.remove(sei)
    if _checksum(fields, units) != crc:
        raise BitstreamError("damaged or truncated: its checksum does not match; transfer or encode it again")
    values = _FIELDS.unpack(fields)
    header = Header(*values[1:])
    header.check()
    _picture_position(units, header)
    return header, units, sei


def _read_sei(sei: bytes) -> tuple[bytes, int]:
    """The field bytes and the CRC of a side info NAL unit."""
    if len(sei) > _MAX_SEI_BYTES:
        raise BitstreamError("damaged: its side info is longer than any of ours; transfer or encode it again")
    message = nal.unescape(sei[2:])
    # Escaped again, because a superfluous emulation prevention byte would go unnoticed by the CRC.
    in_place = sei == _SEI_HEADER + nal.escape(message)
    if not in_place or not message.startswith(_SEI_PREFIX[:1]) or message[2:18] != UUID.bytes:
        raise BitstreamError("damaged: its side info is not where it belongs; transfer or encode it again")
    if len(message) < 19:
        raise BitstreamError("damaged or truncated inside its side info; transfer or encode it again")
    if message[18] > VERSION:
        raise BitstreamError(f"of format version {message[18]}, or damaged; this featcodec reads up to {VERSION}")
    body = message[len(_SEI_PREFIX) :]
    expected = _FIELDS.size + _CRC.size + 1
    if message[18] != VERSION or message[1] != _SEI_PREFIX[1] or len(body) != expected or body[-1:] != _RBSP_TRAILING:
        raise BitstreamError("damaged or truncated inside its side info; transfer or encode it again")
    return body[: _FIELDS.size], int(_CRC.unpack(body[_FIELDS.size : -1])[0])
