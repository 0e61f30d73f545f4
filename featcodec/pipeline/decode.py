"""Decoding many bitstreams: threads take whole steps, VVC and then the networks (`common.batched_outcomes`)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

from featcodec import bitstream
from featcodec.bitstream import Header
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.packing.frames import Frame
from featcodec.pipeline.common import batched_outcomes, network_batch, one_bad_apart, one_line
from featcodec.system.paths import Source


@dataclass(frozen=True)
class Decoded:
    """What became of one bitstream.

    Attributes:
        source: the bitstream file.
        detections: its boxes, or None after a failure.
        bytes: size of the file.
        error: one line on what went wrong, or None.
    """

    source: Source
    detections: Detections | None = None
    bytes: int = 0
    error: str | None = None


@dataclass(frozen=True)
class _Mosaic:
    """A decoded mosaic on its way to the back-end."""

    source: Source
    header: Header
    frame: Frame
    bytes: int


def decode_files(
    codec: FeatureCodec, sources: Sequence[Source], *, workers: int | None = None
) -> Generator[Decoded, None, None]:
    """Decode bitstream files; yields one outcome a file, in the order of the sources.

    Args:
        codec: the codec, with the weights that the files were made with.
        sources: the bitstream files.
        workers: threads; None means one a core.
    """
    return batched_outcomes(
        sources,
        partial(_read, codec),
        lambda mosaic: (mosaic.header.letterboxed_width, mosaic.header.letterboxed_height, mosaic.header.split),
        partial(_back, codec),
        lambda source, error: Decoded(source, error=one_line(error, source.path)),
        batch=network_batch(codec),
        workers=workers,
    )


def _read(codec: FeatureCodec, source: Source) -> _Mosaic:
    data = bitstream.read_file(source.path)
    header, frame = codec.decode_frame(data)
    return _Mosaic(source, header, frame, len(data))


def _back(codec: FeatureCodec, group: Sequence[_Mosaic]) -> list[Decoded]:
    def run(mosaics: Sequence[_Mosaic]) -> list[Detections]:
        return codec.back_end([(mosaic.header, mosaic.frame) for mosaic in mosaics])

    pixels = max(mosaic.header.letterboxed_width * mosaic.header.letterboxed_height for mosaic in group)
    outcomes = []
    for mosaic, result in one_bad_apart(run, group, pixels):
        if isinstance(result, str):
            failure = one_line(result, mosaic.source.path)
            outcomes.append(Decoded(mosaic.source, bytes=mosaic.bytes, error=failure))
        else:
            outcomes.append(Decoded(mosaic.source, result, mosaic.bytes))
    return outcomes
