"""Many pictures: bounded, parallel encoding and decoding over FeatureCodec.

    encode:  load + letterbox (threads) -> front-end in batches -> VVC in parallel processes -> files
    decode:  read + VVC (threads) -> back-end in batches -> detections, in the order of the sources

Encoding is bound by VVC, so the aim is that every core always has an encoder process to run: full batches while the
encoders are busy, and whatever is there as soon as one would be idle. One bad file costs one outcome, not the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from featcodec import bitstream
from featcodec.batching import Batcher, in_order, read_ahead
from featcodec.bitstream import Header
from featcodec.codec import FeatureCodec, Letterboxed
from featcodec.data.images import read_image
from featcodec.detections import Detections
from featcodec.devices import beside_other_work
from featcodec.errors import BitstreamError, EncoderError, FeatcodecError, OutputError
from featcodec.files import write_atomically
from featcodec.paths import Source
from featcodec.vvc import Frame
from featcodec.vvc.process import kill_all

STREAM_SUFFIX = ".266"
DEFAULT_BATCH = 8
_READERS = 2
_NETWORK_BATCH = {"cpu": 4, "mps": 8, "cuda": 16}
_WAITING_PICTURES = 32
_WAITING_FRAMES = 64

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """What became of one picture.

    Attributes:
        source: the picture.
        output: its bitstream file.
        bytes: size of the file, 0 after a failure.
        pixels: width * height of the original picture, 0 after a failure.
        skipped: whether the file was there already, made with the same settings.
        error: one line on what went wrong, or None.
        coding_seconds: its share of an encoder process's life.
    """

    source: Source
    output: Path
    bytes: int = 0
    pixels: int = 0
    skipped: bool = False
    error: str | None = None
    coding_seconds: float = 0.0


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
class _Job:
    """A picture on its way to its file."""

    source: Source
    output: Path
    picture: Letterboxed


@dataclass(frozen=True)
class _FrameJob:
    """A mosaic on its way to its file."""

    source: Source
    output: Path
    header: Header
    frame: Frame


def output_path(source: Source, folder: Path) -> Path:
    """Where the bitstream of a picture goes: the same relative path, ending in .266."""
    return folder / source.relative.with_suffix(STREAM_SUFFIX)


def encode_files(
    codec: FeatureCodec,
    sources: Sequence[Source],
    folder: Path,
    qp: int,
    *,
    workers: int | None = None,
    batch: int = DEFAULT_BATCH,
    overwrite: bool = False,
) -> Generator[Encoded, None, None]:
    """Encode pictures into bitstream files; yields one outcome a picture, as they come.

    Files that exist are skipped when they were made with the same settings and are failures otherwise, so that an
    interrupted run resumes and nothing is overwritten unasked.

    Args:
        codec: the codec.
        sources: the pictures.
        folder: where the bitstreams go.
        qp: quantization parameter, 0..63.
        workers: encoder processes at a time; None means one a core.
        batch: most pictures an encoder process codes in its life.
        overwrite: replace files that exist.
    """
    workers = workers or os.cpu_count() or 1
    pictures: Batcher[_Job] = Batcher(_NETWORK_BATCH[codec.detector.device.type], _WAITING_PICTURES)
    frames: Batcher[_FrameJob] = Batcher(batch, _WAITING_FRAMES)
    running: set[Future[list[Encoded]]] = set()

    def load(source: Source) -> _Job | Encoded:
        return _load(codec, source, output_path(source, folder), qp, overwrite=overwrite)

    def front(group: list[_Job]) -> Iterator[Encoded]:
        for job in _front(codec, group, qp):
            if isinstance(job, Encoded):
                yield job
            else:
                yield from submit(frames.add(job.frame.shape, job))

    def submit(group: list[_FrameJob]) -> Iterator[Encoded]:
        if group:
            running.add(coders.submit(_code, codec, group, qp))
            yield from collect(2 * workers)

    def collect(at_most: int) -> Iterator[Encoded]:
        """Yield what is done, and wait until no more than `at_most` batches run or wait to run."""
        while True:
            done, _ = wait(running, timeout=0 if len(running) <= at_most else None, return_when=FIRST_COMPLETED)
            running.difference_update(done)
            yield from chain.from_iterable(future.result() for future in done)
            if len(running) <= at_most:
                return

    readers, coders = ThreadPoolExecutor(_READERS), ThreadPoolExecutor(workers)
    try:
        for loaded in read_ahead(readers, load, sources, 2 * _READERS + pictures.size):
            if isinstance(loaded, Encoded):
                yield loaded
                continue
            if group := pictures.add(loaded.picture.pixels.shape, loaded):
                yield from front(group)
            yield from collect(2 * workers)
            if len(running) < workers:
                yield from front(pictures.largest())
                yield from submit(frames.largest())
        for group in pictures.rest():
            yield from front(group)
        for last in frames.rest():
            for part in _parts(last, workers if len(running) < workers else 1):
                yield from submit(part)
        yield from collect(0)
    finally:
        _stop(readers, coders, running)


def decode_files(
    codec: FeatureCodec, sources: Sequence[Source], *, workers: int | None = None
) -> Generator[Decoded, None, None]:
    """Decode bitstream files; yields one outcome a file, in the order of the sources.

    Args:
        codec: the codec, with the weights that the files were made with.
        sources: the bitstream files.
        workers: decoder threads; None means one a core.
    """
    workers = workers or os.cpu_count() or 1
    mosaics: Batcher[_Mosaic] = Batcher(_NETWORK_BATCH[codec.detector.device.type], _WAITING_PICTURES)

    def results() -> Iterator[tuple[int, Decoded]]:
        for item in read_ahead(pool, partial(_read, codec), enumerate(sources), 2 * workers + mosaics.size):
            if isinstance(item, _Mosaic):
                header = item.header
                size = (header.letterboxed_width, header.letterboxed_height, header.split, header.channels)
                yield from _back(codec, mosaics.add((*size, header.feature_width, header.feature_height), item))
            else:
                yield item
        for group in mosaics.rest():
            yield from _back(codec, group)

    pool = ThreadPoolExecutor(workers)
    try:
        yield from in_order(results())
    finally:
        _stop(pool, pool, set())


def _load(codec: FeatureCodec, source: Source, output: Path, qp: int, *, overwrite: bool) -> _Job | Encoded:
    try:
        if output.exists() and not overwrite:
            return _existing(codec, source, output, qp)
        return _Job(source, output, codec.letterbox(read_image(source.path)))
    except FeatcodecError as error:
        return Encoded(source, output, error=_one_line(error, source.path))


def _existing(codec: FeatureCodec, source: Source, output: Path, qp: int) -> Encoded:
    try:
        data = bitstream.read_file(output)
        header, _ = bitstream.unpack(data)
    except BitstreamError as error:
        raise OutputError(f"{output}: exists and is no intact bitstream ({error}); use --overwrite") from None
    if not codec.matches(header, qp):
        raise OutputError(f"{output}: exists, made with other weights or settings; use --overwrite or another -o")
    return Encoded(source, output, len(data), header.original_width * header.original_height, skipped=True)


def _front(codec: FeatureCodec, group: list[_Job], qp: int) -> Iterator[_FrameJob | Encoded]:
    if not group:
        return
    try:
        with beside_other_work():
            results = codec.front_end([job.picture for job in group], qp)
    except FeatcodecError as error:
        if len(group) > 1:
            for job in group:
                yield from _front(codec, [job], qp)
        else:
            yield Encoded(group[0].source, group[0].output, error=_one_line(error, group[0].source.path))
        return
    for job, (header, frame) in zip(group, results, strict=True):
        yield _FrameJob(job.source, job.output, header, frame)


def _code(codec: FeatureCodec, group: list[_FrameJob], qp: int) -> list[Encoded]:
    started = time.perf_counter()
    try:
        streams = codec.vvc.encode([job.frame for job in group], qp)
    except EncoderError as error:
        if len(group) > 1:
            # Only the guilty picture shall fail.
            return [outcome for job in group for outcome in _code(codec, [job], qp)]
        return [Encoded(group[0].source, group[0].output, error=_one_line(error, group[0].source.path))]
    seconds = (time.perf_counter() - started) / len(group)
    return [_write(job, stream, seconds) for job, stream in zip(group, streams, strict=True)]


def _write(job: _FrameJob, stream: bytes, seconds: float) -> Encoded:
    try:
        data = bitstream.pack(job.header, stream)
        write_atomically(job.output, data)
    except FeatcodecError as error:
        return Encoded(job.source, job.output, error=_one_line(error, job.source.path))
    pixels = job.header.original_width * job.header.original_height
    return Encoded(job.source, job.output, len(data), pixels, coding_seconds=seconds)


@dataclass(frozen=True)
class _Mosaic:
    """A decoded mosaic on its way to the back-end."""

    number: int
    source: Source
    header: Header
    frame: Frame
    bytes: int


def _read(codec: FeatureCodec, numbered: tuple[int, Source]) -> tuple[int, Decoded] | _Mosaic:
    number, source = numbered
    try:
        data = bitstream.read_file(source.path)
        header, frame = codec.decode_frame(data)
    except FeatcodecError as error:
        return number, Decoded(source, error=_one_line(error, source.path))
    return _Mosaic(number, source, header, frame, len(data))


def _back(codec: FeatureCodec, group: list[_Mosaic]) -> Iterator[tuple[int, Decoded]]:
    if group:
        results = codec.back_end([(mosaic.header, mosaic.frame) for mosaic in group])
        for mosaic, detections in zip(group, results, strict=True):
            yield mosaic.number, Decoded(mosaic.source, detections, mosaic.bytes)


def _stop(readers: ThreadPoolExecutor, coders: ThreadPoolExecutor, running: set[Future[list[Encoded]]]) -> None:
    """End the pools; after an interruption at once, with no encoder process left behind."""
    readers.shutdown(wait=False, cancel_futures=True)
    coders.shutdown(wait=False, cancel_futures=True)
    while any(not future.done() for future in running):
        kill_all()
        time.sleep(0.01)
    readers.shutdown(wait=True)
    coders.shutdown(wait=True)


def _parts(group: list[T], count: int) -> Iterator[list[T]]:
    """The group in `count` parts of nearly equal size."""
    size = -(-len(group) // count)
    return (group[start : start + size] for start in range(0, len(group), size))


def _one_line(error: Exception, path: Path) -> str:
    text = " ".join(str(error).split())
    return text if str(path) in text else f"{path}: {text}"
