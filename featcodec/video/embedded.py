"""The embedded decoder: PyAV decodes VVC and HEVC pictures in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.plane import VideoPlane

from featcodec.bitstream import HEVC, VVC, Standard, nal
from featcodec.errors import BitstreamError
from featcodec.packing.frames import Frame
from featcodec.video.base import coded_shape, from_10_bits

# ffmpeg allocates frames in multiples of 64 columns and 32 rows (more on other CPUs), and `max_pixels` counts them so.
_ALLOCATION_BLOCK = 128
_DECODERS: Mapping[Standard, str] = {VVC: "vvc", HEVC: "hevc"}
_FORMATS: Mapping[Standard, tuple[str, ...]] = {
    VVC: ("yuv420p10le", "gray10le"),
    HEVC: ("gray", "yuv420p", "yuvj420p"),
}


def decode_frame(stream: bytes, shape: tuple[int, int]) -> Frame:
    """The frame of a VVC or HEVC stream, see `VideoCodec.decode`."""
    standard = nal.standard_of(nal.split_units(stream)[0])
    picture = decode_picture(stream, (coded_shape(shape), coded_shape(shape, doubled=True)))
    if picture.format.name not in _FORMATS[standard]:
        bits = 10 if standard is VVC else 8
        raise BitstreamError(
            f"its {standard.name} picture has the format {picture.format.name}, not {bits}-bit 4:2:0 or gray"
        )
    if standard is VVC:
        return from_10_bits(plane_samples(picture.planes[0]), shape)
    luma = picture.planes[0]
    lines = np.frombuffer(memoryview(luma), np.uint8).reshape(-1, luma.line_size)
    samples: Frame = lines[: shape[0], : shape[1]].copy()
    return samples


def decode_picture(stream: bytes, shapes: Sequence[tuple[int, int]]) -> av.VideoFrame:
    """The one picture of a stream, decoded by PyAV.

    Args:
        stream: Annex B bytes.
        shapes: the allowed coded (height, width) pairs, largest last; memory is allocated only up to the largest.

    Raises:
        BitstreamError: the stream does not decode to exactly one picture of one of these shapes.
    """
    (height, width), (most_rows, most_columns) = shapes[0], shapes[-1]
    standard = nal.standard_of_stream(stream)
    context = cast("VideoCodecContext", av.CodecContext.create(_DECODERS[standard], "r"))
    context.thread_count = 1
    # The decoder refuses larger pictures before it allocates them.
    context.options = {"max_pixels": str(_round_up(most_rows) * _round_up(most_columns)), "err_detect": "explode"}
    try:
        packets = [*context.parse(stream), *context.parse()]
        pictures = [picture for packet in (*packets, None) for picture in context.decode(packet)]
    except (av.error.FFmpegError, ValueError, EOFError) as error:
        raise BitstreamError(f"its {standard.name} picture does not decode ({error}); encode the image again") from None
    if len(pictures) != 1 or (pictures[0].height, pictures[0].width) not in shapes:
        sizes = ", ".join(f"{picture.width}x{picture.height}" for picture in pictures) or "nothing"
        raise BitstreamError(f"its {standard.name} stream decodes to {sizes}, not to one {width}x{height} picture")
    return pictures[0]


def plane_samples(plane: VideoPlane) -> npt.NDArray[np.uint16]:
    """The 16-bit samples of a plane, with the padding at the end of its lines."""
    return np.frombuffer(memoryview(plane), "<u2").reshape(-1, plane.line_size // 2)


def _round_up(side: int) -> int:
    return -(-side // _ALLOCATION_BLOCK) * _ALLOCATION_BLOCK
