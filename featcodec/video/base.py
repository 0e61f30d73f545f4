"""The protocol of a codec, and the sample format that every VVC codec shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featcodec.bitstream import check_qp, nal
from featcodec.errors import BitstreamError, EncoderError, InputError
from featcodec.packing.frames import Frame

MIN_LUMA_SAMPLES = 32
"""Smaller frames are padded to this many rows and columns: VVenC codes no picture whose longer side is below 16, and
ffmpeg's libvvenc has no room for the parameter sets of pictures of fewer than some hundred samples."""

_CHROMA_MIDDLE = 512


class VideoCodec(Protocol):
    """Codes gray frames; see the contract in `featcodec.video`."""

    @property
    def name(self) -> str:
        """The name it is chosen by, one of `featcodec.video.CODECS`."""

    @property
    def tag(self) -> int:
        """16 bits that differ wherever the encoder settings differ (the encoder tag of docs/bitstream.md)."""

    def encode(self, frames: Sequence[Frame], qp: int, *, threads: int = 1) -> list[bytes]:
        """One standalone Annex B stream per frame, in order.

        Args:
            frames: at least one frame, all of one shape.
            qp: quantization parameter, 0 (finest) to 63.
            threads: encoder threads; they change the time, not the bytes. 0 leaves the number to the encoder.

        Raises:
            InputError: the frames differ in shape, or the QP is out of range.
            EncoderError: the encoder failed, was killed, or delivered another number of pictures.
        """

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Frame:
        """The frame of a stream.

        Args:
            stream: Annex B bytes of one picture.
            shape: the (height, width) that the caller expects; nothing larger is allocated.

        Raises:
            BitstreamError: the stream does not decode to exactly one frame of that shape.
        """


def check_frames(frames: Sequence[Frame], qp: int) -> tuple[int, int]:
    """The shape that all frames have.

    Raises:
        InputError: there is none, they differ, or the QP is out of range.
    """
    shapes = {frame.shape for frame in frames}
    if len(shapes) != 1:
        raise InputError(f"a batch needs frames of one shape, not {sorted(shapes)}")
    check_qp(qp)
    height, width = shapes.pop()
    return height, width


def coded_shape(shape: tuple[int, int], *, doubled: bool = False) -> tuple[int, int]:
    """The (height, width) of the picture that carries a frame: even, as 4:2:0 demands, and not too small.

    Args:
        shape: of the frame.
        doubled: twice as high, with nothing in the lower half: a picture may be so where an encoder's output buffer,
            whose size goes by the picture's, would be too small for a noisy frame at a low QP.
    """
    height, width = (max(side + side % 2, MIN_LUMA_SAMPLES) for side in shape)
    return 2 * height if doubled else height, width


def to_yuv420p10(frame: Frame, *, doubled: bool = False) -> bytes:
    """One picture of raw yuv420p10le: samples << 2 as luma, flat chroma.

    The frame is padded to its `coded_shape` by repetition, and doubled with samples of 0.
    """
    height, width = coded_shape((frame.shape[0], frame.shape[1]))
    padded = np.pad(frame, ((0, height - frame.shape[0]), (0, width - frame.shape[1])), mode="edge")
    if doubled:
        padded = np.pad(padded, ((0, height), (0, 0)))
        height *= 2
    luma = padded.astype("<u2") << 2
    chroma = np.full(height * width // 2, _CHROMA_MIDDLE, dtype="<u2")
    return luma.tobytes() + chroma.tobytes()


def from_10_bits(luma: npt.NDArray[np.uint16], shape: tuple[int, int]) -> Frame:
    """Undo `to_yuv420p10` on decoded luma: round to 8 bits, drop the padding."""
    cropped = luma[: shape[0], : shape[1]]
    rounded: Frame = np.minimum((cropped + 2) >> 2, 255).astype(np.uint8)
    return rounded


def split_batch(stream: bytes, count: int, encoder: str) -> list[bytes]:
    """The standalone stream of each picture of a batch.

    Args:
        stream: what an encoder made of `count` pictures, each with its own parameter sets.
        count: how many pictures went in.
        encoder: the encoder's name, for the message.

    Raises:
        EncoderError: another number of pictures came out: VVenC can lose a batch and exit with 0.
    """
    pictures = nal.split_pictures(nal.split_units(stream)) if stream else []
    coded = sum(nal.is_slice(unit) for unit in nal.split_units(stream)) if stream else 0
    if len(pictures) != count or coded != count:
        raise EncoderError(
            f"{encoder} delivered {coded} of {count} pictures without saying why; "
            "try again, or give it fewer pictures at once (`batch` 1)"
        )
    return [
        nal.join_units([nal.number_as_first_picture(unit, position) for unit in picture])
        for position, picture in enumerate(pictures)
    ]


def prove_decodable(codec: VideoCodec, streams: Sequence[bytes], shape: tuple[int, int]) -> None:
    """Decode what was coded with the user's own encoder parameters: some make streams that no decoder of ours takes.

    Raises:
        EncoderError: a stream does not decode.
    """
    for stream in streams:
        try:
            codec.decode(stream, shape)
        except BitstreamError as error:
            raise EncoderError(f"these encoder parameters make a stream that does not decode: {error}") from None
