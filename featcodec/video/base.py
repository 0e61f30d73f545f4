"""The protocol of a video codec, and the pictures that carry a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featcodec.bitstream import VVC, Standard, check_qp, nal
from featcodec.errors import BitstreamError, EncoderError, InputError
from featcodec.packing.frames import Frame

MIN_LUMA_SAMPLES = 32
"""Smaller frames are padded to this many rows and columns. VVenC does not code a picture whose longer side is below 16.
In ffmpeg's libvvenc, the output buffer of a picture with fewer than some hundred samples is too small for the parameter
sets."""

_CHROMA_MIDDLE = 512


class VideoCodec(Protocol):
    """Codes gray frames. `featcodec.video` states its contract."""

    @property
    def name(self) -> str:
        """The name of the video codec, one of `featcodec.video.CODECS`."""

    @property
    def standard(self) -> Standard:
        """The standard of the streams that it makes; `none` counts as VVC."""

    @property
    def tag(self) -> int:
        """16 bits that differ when the encoder settings differ (the encoder tag of docs/bitstream.md)."""

    def encode(self, frames: Sequence[Frame], qp: int, *, threads: int = 1) -> list[bytes]:
        """One standalone Annex B stream per frame, in order.

        Args:
            frames: at least one frame, all of one shape.
            qp: quantization parameter, 0 (finest) to `standard.max_qp`.
            threads: encoder threads; they change the time, not the bytes. With 0, the encoder chooses the number.
                `hevc` always uses one.

        Raises:
            InputError: the frames differ in shape, or the QP is out of range.
            EncoderError: the encoder failed, was killed, or returned another number of pictures.
        """

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Frame:
        """The frame of a stream.

        Args:
            stream: Annex B bytes of one picture, of either standard.
            shape: the (height, width) that the caller expects; memory is allocated only up to this size.

        Raises:
            BitstreamError: the stream does not decode to exactly one frame of that shape.
        """


def check_frames(frames: Sequence[Frame], qp: int, standard: Standard = VVC) -> tuple[int, int]:
    """The one shape of all frames.

    Args:
        frames: at least one frame.
        qp: quantization parameter.
        standard: whose QPs it must be one of.

    Raises:
        InputError: there are no frames, their shapes differ, or the QP is out of range.
    """
    shapes = {frame.shape for frame in frames}
    if len(shapes) != 1:
        raise InputError(f"a batch needs frames of one shape, not {sorted(shapes)}")
    check_qp(qp, most=standard.max_qp)
    height, width = shapes.pop()
    return height, width


def coded_shape(shape: tuple[int, int], *, doubled: bool = False) -> tuple[int, int]:
    """The (height, width) of the picture that carries a frame. Both are even, as 4:2:0 needs, and not too small.

    Args:
        shape: the (height, width) of the frame.
        doubled: make the picture twice as high, with an empty lower half. The size of an encoder's output buffer
            depends on the size of the picture. The buffer of a normal picture can be too small for a noisy frame at
            a low QP.
    """
    height, width = (max(side + side % 2, MIN_LUMA_SAMPLES) for side in shape)
    return 2 * height if doubled else height, width


def padded_to_coded(frame: Frame) -> Frame:
    """The frame in its `coded_shape`: its edge samples are repeated at the right and at the bottom."""
    height, width = coded_shape((frame.shape[0], frame.shape[1]))
    return np.pad(frame, ((0, height - frame.shape[0]), (0, width - frame.shape[1])), mode="edge")


def to_gray10(frame: Frame, *, doubled: bool = False) -> bytes:
    """One picture of raw gray10le: samples << 2 of the padded frame. The lower half of a doubled picture is 0."""
    padded = padded_to_coded(frame)
    height = padded.shape[0]
    if doubled:
        padded = np.pad(padded, ((0, height), (0, 0)))
    return (padded.astype("<u2") << 2).tobytes()


def to_yuv420p10(frame: Frame, *, doubled: bool = False) -> bytes:
    """One picture of raw yuv420p10le: `to_gray10` as luma, and flat chroma."""
    luma = to_gray10(frame, doubled=doubled)
    return luma + np.full(len(luma) // 4, _CHROMA_MIDDLE, dtype="<u2").tobytes()


def from_10_bits(luma: npt.NDArray[np.uint16], shape: tuple[int, int]) -> Frame:
    """Undo `to_yuv420p10` on decoded luma: round to 8 bits and drop the padding."""
    cropped = luma[: shape[0], : shape[1]]
    rounded: Frame = np.minimum((cropped + 2) >> 2, 255).astype(np.uint8)
    return rounded


def split_batch(stream: bytes, count: int, encoder: str) -> list[bytes]:
    """The standalone stream of each picture of a batch.

    Args:
        stream: an encoder's output for `count` pictures, each with its own parameter sets.
        count: the number of pictures that the encoder was given.
        encoder: the encoder's name, for the message.

    Raises:
        EncoderError: the stream holds another number of pictures. VVenC can lose a batch and still exit with 0.
    """
    pictures = nal.split_pictures(nal.split_units(stream)) if stream else []
    coded = sum(nal.is_slice(unit) for unit in nal.split_units(stream)) if stream else 0
    if len(pictures) != count or coded != count:
        raise EncoderError(
            f"{encoder} delivered {coded} of {count} pictures and gave no reason; "
            "try again, or give it fewer pictures at once (`batch` 1)"
        )
    return [
        nal.join_units([nal.number_as_first_picture(unit, position) for unit in picture])
        for position, picture in enumerate(pictures)
    ]


def prove_decodable(codec: VideoCodec, streams: Sequence[bytes], shape: tuple[int, int]) -> None:
    """Decode streams that were coded with the user's own encoder parameters. Some parameters make undecodable streams.

    Raises:
        EncoderError: a stream does not decode.
    """
    for stream in streams:
        try:
            codec.decode(stream, shape)
        except BitstreamError as error:
            raise EncoderError(f"these encoder parameters make a stream that does not decode: {error}") from None
