"""Codes colour pictures as VVC for the input anchor, with the same encoder and the same settings as the frames.

RGB becomes 10-bit Y'CbCr 4:2:0 in the limited range, by BT.709's matrix (Rec. ITU-R BT.709-6, items 3.2 to 3.5 and
4.6). Every decoder shows a limited-range picture correctly without a flag in the stream. libvvenc takes only 10 bits.
With 10 bits, the limited range loses no more than the full range: on photographs, both come back at 36 to 46 dB, and
they differ by at most 0.01 dB. This loss is the cost of 4:2:0. Chroma is the mean of 2x2 pixels. It is scaled back
bilinearly around the same centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from featcodec.bitstream import check_qp
from featcodec.errors import BitstreamError, InputError
from featcodec.video.base import MIN_LUMA_SAMPLES
from featcodec.video.embedded import decode_picture, plane_samples
from featcodec.video.ffmpeg import FfmpegCodec

ColourPicture: TypeAlias = npt.NDArray[np.uint8]
"""(height, width, 3) uint8 RGB; both sides even and at least 32, as letterboxed images have them."""

_RED, _BLUE = 0.2126, 0.0722
_LUMA = np.array([_RED, 1 - _RED - _BLUE, _BLUE], np.float32)
_BLACK, _LUMA_RANGE = 64, 876
_CHROMA_MIDDLE, _CHROMA_RANGE = 512, 896
_MOST = 1023


class ColourCodec:
    """Codes RGB pictures with the encoder of an `FfmpegCodec`.

    Args:
        codec: the video codec whose program and settings are used.
    """

    def __init__(self, codec: FfmpegCodec) -> None:
        self.codec = codec

    def encode(self, pictures: Sequence[ColourPicture], qp: int, *, threads: int = 1) -> list[bytes]:
        """One standalone Annex B stream per picture, in order; see `VideoCodec.encode`.

        Args:
            pictures: at least one picture, all of one shape.
            qp: quantization parameter, 0 (finest) to 63.
            threads: encoder threads.

        Raises:
            InputError: there are no pictures, their shapes differ, they cannot be 4:2:0, or the QP is out of range.
            EncoderError: the encoder failed, was killed, or returned another number of pictures.
        """
        shapes = {picture.shape for picture in pictures}
        if len(shapes) != 1:
            raise InputError(f"a batch needs pictures of one shape, not {sorted(shapes)}")
        height, width, *channels = shapes.pop()
        if channels != [3] or height % 2 or width % 2 or min(height, width) < MIN_LUMA_SAMPLES:
            raise InputError(
                f"{width}x{height} pixels cannot be coded as 4:2:0; use RGB with even sides of at least "
                f"{MIN_LUMA_SAMPLES} pixels"
            )
        check_qp(qp)
        return self.codec.encode_raw([_join(to_yuv(picture)) for picture in pictures], (height, width), qp, threads)

    def decode(self, stream: bytes, shape: tuple[int, int]) -> ColourPicture:
        """The picture of a stream; see `VideoCodec.decode`.

        Args:
            stream: Annex B bytes of one picture.
            shape: the (height, width) that the caller expects; memory is allocated only up to this size.

        Raises:
            BitstreamError: the stream does not decode to exactly one 4:2:0 picture of that shape.
        """
        picture = decode_picture(stream, [shape])
        if picture.format.name != "yuv420p10le":
            raise BitstreamError(f"its VVC picture has the format {picture.format.name}, not 10-bit 4:2:0")
        luma, blue, red = (
            plane_samples(plane)[: plane.height, : plane.width] for plane in (picture.planes[i] for i in range(3))
        )
        return to_rgb(luma, blue, red)


Planes: TypeAlias = tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.uint16]]


def to_yuv(picture: ColourPicture) -> Planes:
    """(H, W, 3) uint8 RGB to Y' (H, W), Cb and Cr (H / 2, W / 2 each), 10 bits, limited range."""
    rgb = picture.astype(np.float32) / 255
    luma = rgb @ _LUMA
    blue = (rgb[:, :, 2] - luma) / (2 * (1 - _BLUE))
    red = (rgb[:, :, 0] - luma) / (2 * (1 - _RED))
    half = (picture.shape[1] // 2, picture.shape[0] // 2)
    chroma = [cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (blue, red)]
    first, second = (_to_10_bits(plane, _CHROMA_MIDDLE, _CHROMA_RANGE) for plane in chroma)
    return _to_10_bits(luma, _BLACK, _LUMA_RANGE), first, second


def to_rgb(luma: npt.NDArray[np.uint16], blue: npt.NDArray[np.uint16], red: npt.NDArray[np.uint16]) -> ColourPicture:
    """Undo `to_yuv`. Values outside [0, 255] are clipped."""
    size = luma.shape[1], luma.shape[0]
    y = (luma.astype(np.float32) - _BLACK) / _LUMA_RANGE
    cb, cr = (
        cv2.resize((plane.astype(np.float32) - _CHROMA_MIDDLE) / _CHROMA_RANGE, size, interpolation=cv2.INTER_LINEAR)
        for plane in (blue, red)
    )
    r = y + 2 * (1 - _RED) * cr
    b = y + 2 * (1 - _BLUE) * cb
    g = (y - _RED * r - _BLUE * b) / (1 - _RED - _BLUE)
    rgb: ColourPicture = np.clip(np.rint(np.stack([r, g, b], axis=-1) * 255), 0, 255).astype(np.uint8)
    return rgb


def _to_10_bits(plane: npt.NDArray[Any], offset: int, scale: int) -> npt.NDArray[np.uint16]:
    samples: npt.NDArray[np.uint16] = np.clip(np.rint(plane * scale + offset), 0, _MOST).astype("<u2")
    return samples


def _join(planes: Planes) -> bytes:
    return b"".join(plane.tobytes() for plane in planes)
