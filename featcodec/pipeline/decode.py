"""Decoding of many bitstreams: each thread does whole steps, VVC or the networks (`common.batched_outcomes`)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.errors import FeatcodecError, one_line
from featcodec.packing.frames import Frame
from featcodec.pipeline.common import (
    batched_outcomes,
    file_size,
    network_batch,
    network_parts,
    one_bad_apart,
)
from featcodec.system.paths import Source
from featcodec.video.isolated import IsolatedCodec


@dataclass(frozen=True)
class Decoded:
    """The outcome of one bitstream.

    Attributes:
        source: the bitstream file.
        detections: the boxes, or None after a failure.
        bytes: size of the file.
        error: one line that says what went wrong, or None.
    """

    source: Source
    detections: Detections | None = None
    bytes: int = 0
    error: str | None = None


@dataclass(frozen=True)
class _Stream:
    """A bitstream on its way to the back-end. It waits as it is, because it is smaller than its frame."""

    source: Source
    side_info: SideInfo
    data: bytes


def decode_files(
    codec: FeatureCodec, sources: Sequence[Source], *, workers: int | None = None
) -> Generator[Decoded, None, None]:
    """Decode bitstream files. Yields one outcome per file, in the order of the sources.

    Args:
        codec: the codec, with the same weights that encoded the files.
        sources: the bitstream files.
        workers: number of threads; None means one per core.
    """
    return batched_outcomes(
        sources,
        partial(_read, codec),
        _kind,
        partial(_back, codec),
        lambda source, error: Decoded(source, error=one_line(error, source.path)),
        size=file_size,
        batch=network_batch(codec.device_type),
        workers=workers,
        interrupt=codec.video_codec.close if isinstance(codec.video_codec, IsolatedCodec) else lambda: None,
    )


def _kind(stream: _Stream) -> tuple[tuple[int, int, int], int, int]:
    """Return what must be equal in a batch, the bytes and the letterboxed pixels."""
    side_info = stream.side_info
    width, height = side_info.letterboxed_width, side_info.letterboxed_height
    return (width, height, side_info.split), len(stream.data), width * height


def _read(codec: FeatureCodec, source: Source) -> _Stream:
    data = bitstream.read_file(source.path)
    return _Stream(source, codec.check_stream(data), data)


def _back(codec: FeatureCodec, group: Sequence[_Stream]) -> list[Decoded]:
    pixels = _kind(group[0])[2]
    return [outcome for part in network_parts(group, pixels) for outcome in _decoded(codec, part, pixels)]


def _decoded(codec: FeatureCodec, streams: Sequence[_Stream], pixels: int) -> Iterator[Decoded]:
    """Decode streams that the networks can take at once. Each picture is decoded once, even beside a bad one."""
    frames = [_frame(codec, stream) for stream in streams]
    found = one_bad_apart(codec.back_end, [frame for frame in frames if not isinstance(frame, str)], pixels)
    for stream, frame in zip(streams, frames, strict=True):
        result = frame if isinstance(frame, str) else next(found)[1]
        if isinstance(result, str):
            failure = one_line(result, stream.source.path)
            yield Decoded(stream.source, bytes=len(stream.data), error=failure)
        else:
            yield Decoded(stream.source, result, len(stream.data))


def _frame(codec: FeatureCodec, stream: _Stream) -> tuple[SideInfo, Frame] | str:
    try:
        return codec.decode_frame(stream.data)
    except (FeatcodecError, RuntimeError, MemoryError) as error:
        return one_line(error, stream.source.path)
