"""Decoding of many bitstreams: each thread does whole steps, VVC or the networks (`common.batched_outcomes`)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.packing.frames import Frame
from featcodec.pipeline.common import batched_outcomes, network_batch, one_bad_apart, one_line
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
class _DecodedFrame:
    """A decoded frame on its way to the back-end."""

    source: Source
    side_info: SideInfo
    frame: Frame
    bytes: int


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
        batch=network_batch(codec),
        workers=workers,
        interrupt=codec.video_codec.close if isinstance(codec.video_codec, IsolatedCodec) else lambda: None,
    )


def _kind(decoded: _DecodedFrame) -> tuple[int, int, int]:
    """Return what must be equal in a batch."""
    side_info = decoded.side_info
    return side_info.letterboxed_width, side_info.letterboxed_height, side_info.split


def _read(codec: FeatureCodec, source: Source) -> _DecodedFrame:
    data = bitstream.read_file(source.path)
    side_info, frame = codec.decode_frame(data)
    return _DecodedFrame(source, side_info, frame, len(data))


def _back(codec: FeatureCodec, group: Sequence[_DecodedFrame]) -> list[Decoded]:
    def run(frames: Sequence[_DecodedFrame]) -> list[Detections]:
        return codec.back_end([(each.side_info, each.frame) for each in frames])

    pixels = max(each.side_info.letterboxed_width * each.side_info.letterboxed_height for each in group)
    outcomes = []
    for decoded, result in one_bad_apart(run, group, pixels):
        if isinstance(result, str):
            failure = one_line(result, decoded.source.path)
            outcomes.append(Decoded(decoded.source, bytes=decoded.bytes, error=failure))
        else:
            outcomes.append(Decoded(decoded.source, result, decoded.bytes))
    return outcomes
