"""Encoding after the networks, without torch: from a frame to its file, and what is said of an image.

A machine that only codes frames (`featcodec.cluster`) needs this module and no networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from featcodec import bitstream
from featcodec.bitstream import VVC, SideInfo, Standard
from featcodec.errors import BitstreamError, EncoderError, FeatcodecError, OutputError, one_line
from featcodec.images.letterbox import Fitting, Letterboxed
from featcodec.images.reading import reading
from featcodec.packing.frames import Frame
from featcodec.system.files import ExistsError, write_atomically
from featcodec.system.paths import Source
from featcodec.video import VideoCodec
from featcodec.video.process import owned_by

CODED_SAMPLES = 16 << 20
"""Samples that one encoder process gets at once, unless a single frame has more."""


_Stream: TypeAlias = bytes


@dataclass(frozen=True)
class Encoded:
    """The outcome of one image.

    Attributes:
        source: the image.
        output: the bitstream file.
        bytes: size of the file, 0 after a failure.
        pixels: width * height of the original image, 0 after a failure.
        skipped: whether the file already existed, made from the same image with the same settings.
        error: one line that says what went wrong, or None.
        coding_seconds: the share of this image in the run time of its encoder process.
        unwritten: whether only its file could not be written, for example on a full disk.
        data: the bitstream, in a run that writes no files.
    """

    source: Source
    output: Path
    bytes: int = 0
    pixels: int = 0
    skipped: bool = False
    error: str | None = None
    coding_seconds: float = 0.0
    unwritten: bool = False
    data: _Stream | None = None


class BatchEdge(Protocol):
    """The half of a codec at the edge, for many images: `FeatureCodec`, or `EdgeEncoder` without torch.

    Attributes:
        video_codec: codes the frames.
        fitting: how images are fitted into the detector's input.
        image_size: pixels of the letterboxed image's longer side.
        device_type: where the networks are: cpu, cuda or mps.
    """

    @property
    def video_codec(self) -> VideoCodec: ...
    @property
    def fitting(self) -> Fitting: ...
    @property
    def image_size(self) -> int: ...
    @property
    def device_type(self) -> str: ...

    def front_end(self, batch: Sequence[Letterboxed], qp: int) -> Sequence[tuple[SideInfo, Frame]]:
        """The side info and the frame of each image; the images have one letterboxed shape."""
        ...

    def matches(self, side_info: SideInfo, image: Letterboxed, qp: int) -> bool:
        """Whether a bitstream with this side info was made from that image, with these settings, at that QP."""
        ...


@dataclass(frozen=True)
class ImageJob:
    """An image on its way to its file."""

    source: Source
    output: Path
    image: Letterboxed


@dataclass(frozen=True)
class FrameJob:
    """A frame on its way to its file."""

    source: Source
    output: Path
    side_info: SideInfo
    frame: Frame


def output_path(source: Source, folder: Path | None, standard: Standard = VVC) -> Path:
    """Return the path for the bitstream of an image: its relative path below a folder, with the standard's suffix."""
    return (folder or Path()) / source.relative.with_suffix(standard.suffix)


def read_image_job(source: Source, output: Path, fitting: Fitting, *, ignore_exif: bool) -> ImageJob | Encoded:
    """Read an image and fit it into the detector's input. If that fails, return the failure."""
    try:
        with reading(source.path, ignore_exif=ignore_exif) as pixels:
            return ImageJob(source, output, fitting.apply(pixels))
    except (FeatcodecError, OSError) as error:
        return Encoded(source, output, error=one_line(error, source.path))


def existing(source: Source, output: Path, matches: Callable[[SideInfo], bool]) -> Encoded:
    """The outcome for an image whose file is already there.

    Raises:
        ExistsError: the file is not what this run would write.
    """
    try:
        data = bitstream.read_file(output)
        side_info, _ = bitstream.unpack(data)
    except BitstreamError as error:
        raise ExistsError(f"{output}: exists and is not an intact bitstream ({error}); use `overwrite`") from None
    if not matches(side_info):
        raise ExistsError(
            f"{output}: exists, but was made from another image or with other weights or settings; use `overwrite` "
            "or another `output`"
        )
    return Encoded(source, output, len(data), side_info.original_width * side_info.original_height, skipped=True)


def code_frames(
    video_codec: VideoCodec,
    group: Sequence[FrameJob],
    qp: int,
    owner: object,
    *,
    overwrite: bool,
    keep: bool = False,
) -> list[Encoded]:
    """Code frames of one shape in one encoder process and write their files.

    Args:
        video_codec: the encoder.
        group: the frames.
        qp: quantization parameter, 0..63.
        owner: what the encoder process belongs to (`video.process.owned_by`).
        overwrite: replace files that exist.
        keep: write no files; the outcomes have the bitstreams.

    Returns:
        one outcome per frame. Only the image that causes an error fails.
    """
    started = time.perf_counter()
    try:
        with owned_by(owner):
            streams = video_codec.encode([job.frame for job in group], qp)
    except EncoderError as error:
        if len(group) > 1:
            # Only the image that causes the error should fail.
            return [
                outcome
                for job in group
                for outcome in code_frames(video_codec, [job], qp, owner, overwrite=overwrite, keep=keep)
            ]
        return [Encoded(group[0].source, group[0].output, error=one_line(error, group[0].source.path))]
    seconds = (time.perf_counter() - started) / len(group)
    return [
        _write(job, stream, seconds, overwrite=overwrite, keep=keep) for job, stream in zip(group, streams, strict=True)
    ]


def _write(job: FrameJob, stream: bytes, seconds: float, *, overwrite: bool, keep: bool) -> Encoded:
    pixels = job.side_info.original_width * job.side_info.original_height
    try:
        data = bitstream.pack(job.side_info, stream)
        if keep:
            return Encoded(job.source, job.output, len(data), pixels, coding_seconds=seconds, data=data)
        try:
            write_atomically(job.output, data, overwrite=overwrite)
        except ExistsError:  # another run wrote it meanwhile
            return existing(job.source, job.output, lambda found: found == job.side_info)
    except FeatcodecError as error:
        unwritten = isinstance(error, OutputError) and not isinstance(error, ExistsError)
        return Encoded(job.source, job.output, error=one_line(error, job.source.path), unwritten=unwritten)
    return Encoded(job.source, job.output, len(data), pixels, coding_seconds=seconds)
