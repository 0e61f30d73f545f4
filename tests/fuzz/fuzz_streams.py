"""Damaged and forged bitstreams.

Of ten cases, seven are damage that the checksum must notice: whatever is accepted must decode to the original's side
info and samples. In the others the checksum is right, as a forger makes it: whatever is accepted must decode to a frame
of the size that the side info says.
"""

from __future__ import annotations

import random
import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from make_frames import make_frame
from mutate import damage_bytes
from targets import READ, REFUSED, SAME, WrongError, refused_or

from featcodec import bitstream
from featcodec.bitstream import SideInfo, nal
from featcodec.video import open_video_codec
from featcodec.wire import packing_of

_GOLDEN = Path(__file__).parents[1] / "golden"
_UUID = uuid.UUID("5f6c3da8-8936-582b-a12b-b97cf95638ba").bytes  # docs/bitstream.md


@dataclass(frozen=True)
class _Original:
    data: bytes
    side_info: SideInfo
    frame: npt.NDArray[np.uint8]


class Streams:
    """See `targets.Target`."""

    def __init__(self) -> None:
        self._ffmpeg = open_video_codec("ffmpeg")
        self._raw = open_video_codec("none")
        made = [path.read_bytes() for path in sorted(_GOLDEN.glob("*.26[56]"))] + _made_now()
        self._originals = [_Original(data, *self._decode(data)) for data in made]

    def run(self, rng: random.Random) -> str:
        """See `targets.Target.run`."""
        original = rng.choice(self._originals)
        if rng.random() < 0.7:
            return self._damaged(rng, original)
        return self._forged(rng, original)

    def _damaged(self, rng: random.Random, original: _Original) -> str:
        damage = rng.choice((_damage_anywhere, _damage_anywhere, _damage_start_codes, _damage_units))
        data = damage(rng, original.data, rng.choice(self._originals).data)
        decoded = refused_or(lambda: self._decode(data))
        if decoded is None:
            return REFUSED
        # Parts of two originals may make up one of them.
        if not any(decoded[0] == each.side_info and np.array_equal(decoded[1], each.frame) for each in self._originals):
            raise WrongError("damage was accepted, and decodes to something else")
        return SAME

    def _forged(self, rng: random.Random, original: _Original) -> str:
        units = nal.split_units(original.data)
        sei = next(unit for unit in units if _UUID in unit)
        others = [unit for unit in units if unit is not sei]
        fields = nal.unescape(sei)[4 + len(_UUID) : -5]
        what = rng.random()
        if what < 0.45:
            others = _forge_pictures(rng, others)
        elif what < 0.9:
            fields = _forge_fields(rng, fields)
        else:
            fields, others = _forge_fields(rng, fields), _forge_pictures(rng, others)
        position = next((index for index, unit in enumerate(others) if nal.is_slice(unit)), len(others) - 1)
        data = nal.join_units([*others[:position], _sei(fields, others), *others[position:]])
        decoded = refused_or(lambda: self._decode(data))
        return READ if decoded else REFUSED

    def _decode(self, data: bytes) -> tuple[SideInfo, npt.NDArray[np.uint8]]:
        side_info, stream = bitstream.unpack(data)
        frame = (self._raw if side_info.is_raw else self._ffmpeg).decode(stream, side_info.frame_shape)
        if frame.shape != side_info.frame_shape or frame.dtype != np.uint8:
            raise WrongError(f"a frame of {frame.shape}, not {side_info.frame_shape}")
        if bitstream.breakdown(data).total != len(data):
            raise WrongError("the parts of the file do not add up")
        tensors = packing_of(side_info, None).to_tensors(frame)
        if [tensor.shape for tensor in tensors] != list(side_info.tensors):
            raise WrongError("the tensors are not those of the side info")
        if not all(np.isfinite(tensor).all() for tensor in tensors):
            raise WrongError("a tensor is not finite")
        return side_info, frame


def _made_now() -> list[bytes]:
    """Streams of today's encoder, beside the golden ones, in its usual profiles and sizes."""
    streams = []
    for shape, qp, name in (((64, 80), 38, "ffmpeg"), ((160, 96), 24, "ffmpeg"), ((64, 80), 34, "hevc")):
        (picture,) = open_video_codec(name).encode([make_frame(shape)], qp)
        side_info = SideInfo(640, 480, 128, 128, 20, 16, 16, 4, 5, -3.0, 3.0, 8, 4, bytes(8), qp, 7)
        if shape != side_info.frame_shape:
            side_info = SideInfo(640, 480, 256, 256, 15, 32, 32, 5, 3, -3.0, 3.0, 8, 4, bytes(8), qp, 7)
        streams.append(bitstream.pack(side_info, picture))
    further = ((9, 16, 16), (30, 8, 8))
    late = SideInfo(640, 480, 256, 256, 6, 32, 32, 2, 3, -0.5, 3.0, 8, 10, bytes(8), 34, 7, further)
    for name in ("ffmpeg", "hevc"):
        (picture,) = open_video_codec(name).encode([make_frame(late.frame_shape)], late.qp)
        streams.append(bitstream.pack(late, picture))
    return streams


def _damage_anywhere(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return damage_bytes(rng, data, other)


def _damage_start_codes(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    """Start codes come and go: the bytes between them stay."""
    starts = [place for place in range(len(data)) if data.startswith(b"\0\0\1", place)]
    if rng.random() < 0.5 and starts:
        place = rng.choice(starts)
        return data[:place] + rng.choice((b"", b"\0", b"\0\0", b"\0\0\0\0\1", b"\0\0\1\0\0\1")) + data[place + 3 :]
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice((b"\0\0\1", b"\0\0\0\1", b"\0", b"\0\0")) + data[place:]


def _damage_units(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Whole NAL units come, go and move."""
    return nal.join_units(_rearranged(rng, nal.split_units(data), nal.split_units(other)) or [b"\0\1\0"])


def _rearranged(rng: random.Random, units: list[bytes], others: list[bytes]) -> list[bytes]:
    units = list(units)
    place = rng.randrange(len(units))
    what = rng.random()
    if what < 0.25:
        units.insert(place, units[rng.randrange(len(units))])
    elif what < 0.5:
        units.insert(rng.randrange(len(units)), units.pop(place))
    elif what < 0.7:
        units.insert(place, rng.choice(others))
    elif what < 0.8:
        units[place] += units.pop(rng.randrange(len(units)))[2:] if len(units) > place + 1 else b"\1"
    elif what < 0.9:
        header = bytes([rng.randrange(64) << 1, 1]) if units[0][0] else bytes([0, rng.randrange(32) << 3 | 1])
        units.insert(place, header + rng.randbytes(rng.randrange(1, 20)) + b"\x80")
    else:
        del units[place]
    return units


def _forge_pictures(rng: random.Random, units: list[bytes]) -> list[bytes]:
    units = list(units)
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(units))
        payload = damage_bytes(rng, nal.unescape(units[place][2:])) or b"\1"
        units[place] = units[place][:2] + nal.escape(payload).rstrip(b"\0") + b"\x80"
    return _rearranged(rng, units, units) if rng.random() < 0.1 and len(units) > 1 else units


def _forge_fields(rng: random.Random, fields: bytes) -> bytes:
    out = bytearray(fields)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(out))
        length = rng.choice((1, 1, 2, 4))
        out[place : place + length] = rng.choice(
            (rng.randbytes(length), b"\0" * length, b"\xff" * length, struct.pack(">f", float("nan"))[:length])
        )
    return bytes(out) if rng.random() < 0.9 else bytes(out[: rng.randrange(1, len(out) + 1)])


def _sei(fields: bytes, others: list[bytes]) -> bytes:
    standard = nal.standard_of(others[0])
    crc = zlib.crc32(fields)
    for unit in others:
        crc = zlib.crc32(struct.pack(">I", len(unit)) * (standard is nal.HEVC) + unit, crc)
    payload = _UUID + fields + struct.pack(">I", crc)
    return standard.sei_header + nal.escape(bytes([5, len(payload) & 0xFF]) + payload + b"\x80")
