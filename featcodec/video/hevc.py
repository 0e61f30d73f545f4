"""The embedded HEVC codec: PyAV's x265 encodes and PyAV decodes, both in this process. Or a hardware encoder encodes.

x265 codes 4:0:0 in 8 bits. It starts no process and needs no file, and while it codes, other threads of Python go on.
Hardware encoders code 4:2:0 with flat chroma.

To open an encoder takes a fifth of the time of a small picture. So each thread keeps those that it used last. x265
looks at no other picture, so the bytes do not depend on what an encoder coded before.
"""

from __future__ import annotations

import math
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import cast

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext

from featcodec.bitstream import HEVC
from featcodec.errors import EncoderError, InputError
from featcodec.packing.frames import Frame
from featcodec.video.base import check_frames, padded_to_coded, prove_decodable, split_batch
from featcodec.video.embedded import decode_frame
from featcodec.video.settings import EncoderSettings

HARDWARE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        # A constant QP in every picture, and nothing between the pictures.
        "nvenc": {"rc": "constqp", "qp": "{qp}", "preset": "p7", "forced-idr": "1", "delay": "0"},
        "v4l2m2m": {},
        "qsv": {"forced_idr": "1", "async_depth": "1", "look_ahead": "0"},
    }
)
"""The hardware encoders of ffmpeg (hevc_NAME) and their options."""

_MIDDLE_OF_CHROMA = 128
_QP_SCALE = 118
"""ffmpeg's FF_QP2LAMBDA: what a QP is multiplied with in `global_quality`."""
_OPENING = threading.Lock()
"""x265 fills its tables of functions when it is first opened, and two threads must not do this at a time."""
_LEVEL_4_SAMPLES = 2_228_224
"""H.265, table A.8: levels up to 4.1 have pictures of at most so many samples, and no side over the root of 8 times it.
Above, the largest blocks have at least 32x32 samples (clause A.4.1), and x265 refuses less."""
_BLOCK = 16
_KEPT_SAMPLES = 4 << 20
_MOST_KEPT = 12
"""A thread keeps at most so many encoders, for pictures of at most so many samples together: some 100 MB."""


class _Kept(threading.local):
    """The encoders of a thread, the one that was used last at the end."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.process = os.getpid()
        self.encoders: OrderedDict[tuple[object, ...], _Encoder] = OrderedDict()


_kept = _Kept()
_lost: list[object] = []
"""Encoders of a process that forked. Their threads are not in this one, so to close them would wait without end."""


class HevcCodec:
    """HEVC through PyAV.

    Args:
        settings: encoder settings of x265. Hardware ignores them.
        hardware: a name in `HARDWARE`, or None for x265.

    Raises:
        InputError: there is no such hardware encoder.
    """

    name = "hevc"
    standard = HEVC

    def __init__(self, settings: EncoderSettings, hardware: str | None = None) -> None:
        if hardware is not None and hardware not in HARDWARE:
            raise InputError(f"unknown `hardware` {hardware!r}; choose one of {', '.join(HARDWARE)}")
        self.settings = settings
        self.hardware = hardware

    @property
    def tag(self) -> int:
        """See `VideoCodec.tag`."""
        if self.hardware is not None:
            return zlib.crc32(f"{self.name}:{self.hardware}".encode()) & 0xFFFF
        return self.settings.tag(self.name)

    def encode(self, frames: Sequence[Frame], qp: int, *, threads: int = 1) -> list[bytes]:
        """See `VideoCodec.encode`. One thread codes, whatever `threads` says."""
        shape = check_frames(frames, qp, HEVC)
        streams = [stream for frame in frames for stream in split_batch(self._encode(frame, int(qp)), 1, self.encoder)]
        if self.settings.parameters or self.hardware is not None:
            prove_decodable(self, streams, shape)
        return streams

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Frame:
        """See `VideoCodec.decode`."""
        return decode_frame(stream, shape)

    def _is_without_loop_filters(self, qp: int) -> bool:
        options = self.settings.options(qp)
        return options.get("no-deblock") == "1" and options.get("sao") == "0"

    @property
    def encoder(self) -> str:
        """The name of the encoder: x265, or ffmpeg's name of the hardware encoder."""
        return "x265" if self.hardware is None else f"hevc_{self.hardware}"

    def _encode(self, frame: Frame, qp: int) -> bytes:
        picture = padded_to_coded(frame)
        # With a loop filter, x265 numbers its pictures in a bit of their slice headers.
        is_kept = self.hardware is None and self._is_without_loop_filters(qp)
        height, width = picture.shape[0], picture.shape[1]
        try:
            if not is_kept:
                return _Encoder(self._open(height, width, qp)).last(self._picture(picture))
            key = height, width, qp, self.settings.preset, self.settings.chosen_text
            encoder = _take(key) or _Encoder(self._open(height, width, qp))
            data = encoder.next(self._picture(picture))
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            remedy = (
                "check `encoder_parameters` and `preset`"
                if self.hardware is None
                else "this machine may not have it; leave out `hardware`, and see `featcodec doctor`"
            )
            raise EncoderError(f"{self.encoder} does not encode these frames ({reason}); {remedy}") from None
        _keep(key, encoder)
        return data

    def _open(self, height: int, width: int, qp: int) -> VideoCodecContext:
        name = "libx265" if self.hardware is None else f"hevc_{self.hardware}"
        context = cast("VideoCodecContext", av.CodecContext.create(name, "w"))
        context.width, context.height = width, height
        context.time_base, context.framerate = Fraction(1), Fraction(1)
        context.thread_count = 1
        if self.hardware is None:
            options = {**_allowed(self.settings.options(qp), height, width), "qp": str(qp)}
            context.pix_fmt = "gray"
            context.options = {
                "preset": self.settings.preset,
                "x265-params": ":".join(f"{name}={value}" for name, value in options.items()),
            }
        else:
            context.pix_fmt = "nv12"
            context.gop_size = 1
            context.max_b_frames = 0
            context.qmin = context.qmax = qp
            given = {name: value.format(qp=qp) for name, value in HARDWARE[self.hardware].items()}
            if self.hardware == "qsv":
                given |= {"flags": "+qscale", "global_quality": str(_QP_SCALE * qp)}
            context.options = given
        with _OPENING:
            context.open()
        return context

    def _picture(self, samples: Frame) -> av.VideoFrame:
        if self.hardware is None:
            return av.VideoFrame.from_ndarray(samples, "gray")
        chroma = np.full((samples.shape[0] // 2, samples.shape[1]), _MIDDLE_OF_CHROMA, np.uint8)
        return av.VideoFrame.from_ndarray(np.concatenate([samples, chroma]), "nv12")


def _allowed(options: Mapping[str, str], height: int, width: int) -> dict[str, str]:
    """Options of x265 that the level of such a picture allows: the largest blocks of a large one have 32x32."""
    high, wide = (-(-side // _BLOCK) * _BLOCK for side in (height, width))  # x265 codes whole blocks
    is_large = high * wide > _LEVEL_4_SAMPLES or max(high, wide) > math.isqrt(8 * _LEVEL_4_SAMPLES)
    return {**options, "ctu": "32"} if is_large and options.get("ctu") == "16" else dict(options)


class _Encoder:
    """An open encoder."""

    def __init__(self, context: VideoCodecContext) -> None:
        self._context = context
        self._count = 0
        self.samples = context.width * context.height

    def next(self, picture: av.VideoFrame) -> bytes:
        """Code a picture. x265 gives it back at once, because it looks at no other picture."""
        picture.pts = self._count
        self._count += 1
        return b"".join(map(bytes, self._context.encode(picture)))

    def last(self, picture: av.VideoFrame) -> bytes:
        """Code a picture, and wait for it. Nothing can be coded afterwards."""
        return self.next(picture) + b"".join(map(bytes, self._context.encode(None)))


def _take(key: tuple[object, ...]) -> _Encoder | None:
    """Take an encoder that this thread keeps. Whoever takes it keeps it again, unless it failed."""
    if _kept.process != os.getpid():
        _lost.append(_kept.encoders)
        _kept.begin()
    return _kept.encoders.pop(key, None)


def _keep(key: tuple[object, ...], encoder: _Encoder) -> None:
    encoders = _kept.encoders
    encoders[key] = encoder
    while len(encoders) > _MOST_KEPT or (
        len(encoders) > 1 and sum(each.samples for each in encoders.values()) > _KEPT_SAMPLES
    ):
        encoders.popitem(last=False)
