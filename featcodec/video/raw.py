"""The video codec `none`: raw samples in a NAL unit of the unspecified type 28, to measure the cost of VVC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featcodec.bitstream import VVC, nal
from featcodec.errors import BitstreamError
from featcodec.packing.frames import Frame
from featcodec.video.base import check_frames

_HEADER = bytes([0, nal.UNSPECIFIED_28 << 3 | 1])
_TRAILING = b"\x80"


class RawCodec:
    """Stores the samples as they are, and ignores `qp` and `threads`."""

    name = "none"
    standard = VVC
    tag = 0

    def encode(self, frames: Sequence[Frame], qp: int = 0, *, threads: int = 1) -> list[bytes]:
        """See `VideoCodec.encode`."""
        check_frames(frames, 0)
        return [nal.join_units([_HEADER + nal.escape(frame.tobytes() + _TRAILING)]) for frame in frames]

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Frame:
        """See `VideoCodec.decode`."""
        units = nal.split_units(stream)
        if len(units) != 1 or not nal.is_raw(units[0]):
            raise BitstreamError("does not hold raw samples; decode it with the video codec that made it")
        samples = nal.unescape(units[0][2:])
        if len(samples) != shape[0] * shape[1] + 1 or samples[-1:] != _TRAILING:
            raise BitstreamError(f"holds {len(samples) - 1} raw samples, not {shape[1]}x{shape[0]}")
        return np.frombuffer(samples, np.uint8, count=shape[0] * shape[1]).reshape(shape)
