"""Decoding many bitstreams.

Each thread takes whole steps (VVC, then networks) with one CPU thread of torch's: threads that work together on one
convolution would wait for each other, and many times longer on cores that others use too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from featcodec import bitstream
from featcodec.bitstream import Header
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.errors import FeatcodecError
from featcodec.pipeline.common import WAITING_IMAGES, network_batch, one_bad_apart, one_line
from featcodec.system.batching import Batcher, cores, in_order, read_ahead
from featcodec.system.devices import beside_other_work
from featcodec.system.paths import Source
from featcodec.video import Frame


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

    number: int
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
    workers = workers or cores()
    pool = ThreadPoolExecutor(workers)
    try:
        with beside_other_work(threads=1):
            yield from in_order(_results(codec, sources, pool, workers))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _results(
    codec: FeatureCodec, sources: Sequence[Source], pool: ThreadPoolExecutor, workers: int
) -> Iterator[tuple[int, Decoded]]:
    """Numbered outcomes, roughly in order."""
    mosaics: Batcher[_Mosaic] = Batcher(network_batch(codec), WAITING_IMAGES)
    running: deque[Future[list[tuple[int, Decoded]]]] = deque()

    def finished(at_most: int) -> Iterator[tuple[int, Decoded]]:
        while running and (len(running) > at_most or running[0].done()):
            yield from running.popleft().result()

    for item in read_ahead(pool, partial(_read, codec), enumerate(sources), 2 * workers + mosaics.size):
        if isinstance(item, _Mosaic):
            header = item.header
            size = (header.letterboxed_width, header.letterboxed_height, header.split)
            running.extend(pool.submit(_back, codec, group) for group in mosaics.add(size, item))
        else:
            yield item
        yield from finished(2 * workers)
    running.extend(pool.submit(_back, codec, group) for group in mosaics.rest())
    yield from finished(0)


def _read(codec: FeatureCodec, numbered: tuple[int, Source]) -> tuple[int, Decoded] | _Mosaic:
    number, source = numbered
    try:
        data = bitstream.read_file(source.path)
        header, frame = codec.decode_frame(data)
    except (FeatcodecError, MemoryError) as error:
        return number, Decoded(source, error=one_line(error, source.path))
    return _Mosaic(number, source, header, frame, len(data))


def _back(codec: FeatureCodec, group: list[_Mosaic]) -> list[tuple[int, Decoded]]:
    def run(mosaics: list[_Mosaic]) -> list[Detections]:
        return codec.back_end([(mosaic.header, mosaic.frame) for mosaic in mosaics])

    pixels = max(mosaic.header.letterboxed_width * mosaic.header.letterboxed_height for mosaic in group)
    outcomes = []
    for mosaic, result in one_bad_apart(run, group, pixels):
        if isinstance(result, str):
            failure = one_line(result, mosaic.source.path)
            outcomes.append((mosaic.number, Decoded(mosaic.source, bytes=mosaic.bytes, error=failure)))
        else:
            outcomes.append((mosaic.number, Decoded(mosaic.source, result, mosaic.bytes)))
    return outcomes
