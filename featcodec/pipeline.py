"""Many images: bounded, parallel encoding and decoding over FeatureCodec.

    encode:  load + letterbox (threads) -> front-end in batches -> VVC in parallel processes -> files
    decode:  read + VVC (threads) -> back-end in batches -> detections, in the order of the sources

Encoding is bound by VVC, so the aim is that every core always has an encoder process to run: full batches while the
encoders are busy, and whatever is there as soon as one would be idle. One bad file costs one outcome, not the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
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
from featcodec.devices import beside_other_work, cores
from featcodec.errors import BitstreamError, EncoderError, FeatcodecError, OutputError
from featcodec.files import write_atomically
from featcodec.paths import Source
from featcodec.vvc import Frame
from featcodec.vvc.process import kill_owned_by, owned_by

STREAM_SUFFIX = ".266"
DEFAULT_BATCH = 8
_READERS = 2
_NETWORK_BATCH = {"cpu": 4, "mps": 8, "cuda": 16}
_NETWORK_PIXELS = 4 << 20
"""Most pixels in a batch of the networks: four images of 1024x1024."""
_WAITING_IMAGES = 32
_WAITING_FRAMES = 64

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Encoded:
    """What became of one image.

    Attributes:
        source: the image.
        output: its bitstream file.
        bytes: size of the file, 0 after a failure.
        pixels: width * height of the original image, 0 after a failure.
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
    """An image on its way to its file."""

    source: Source
    output: Path
    image: Letterboxed


@dataclass(frozen=True)
class _FrameJob:
    """A mosaic on its way to its file."""

    source: Source
    output: Path
    header: Header
    frame: Frame


def output_path(source: Source, folder: Path) -> Path:
    """Where the bitstream of an image goes: the same relative path, ending in .266."""
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
    """Encode images into bitstream files; yields one outcome an image, as they come.

    Files that exist are skipped when they were made with the same settings and are failures otherwise, so that an
    interrupted run resumes and nothing is overwritten unasked.

    Args:
        codec: the codec.
        sources: the images.
        folder: where the bitstreams go.
        qp: quantization parameter, 0..63.
        workers: encoder processes at a time; None means one a core.
        batch: most images an encoder process codes in its life.
        overwrite: replace files that exist.
    """
    workers = workers or cores()
    owner = object()
    images: Batcher[_Job] = Batcher(_NETWORK_BATCH[codec.detector.device.type], _WAITING_IMAGES)
    frames: Batcher[_FrameJob] = Batcher(batch, _WAITING_FRAMES)
    running: set[Future[list[Encoded]]] = set()

    def load(source: Source) -> _Job | Encoded:
        return _load(codec, source, output_path(source, folder), qp, overwrite=overwrite)

    def front(group: list[_Job]) -> Iterator[Encoded]:
        for job in _front(codec, group, qp):
            if isinstance(job, Encoded):
                yield job
            else:
                for ready in frames.add(job.frame.shape, job):
                    yield from submit(ready)

    def submit(group: list[_FrameJob]) -> Iterator[Encoded]:
        if group:
            running.add(coders.submit(_code, codec, group, qp, owner))
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
        for loaded in read_ahead(readers, load, sources, 2 * _READERS + images.size):
            if isinstance(loaded, Encoded):
                yield loaded
                continue
            for group in images.add(loaded.image.pixels.shape, loaded):
                yield from front(group)
            yield from collect(2 * workers)
            if len(running) < workers:
                yield from front(images.largest())
                yield from submit(frames.largest())
        for group in images.rest():
            yield from front(group)
        for last in frames.rest():
            for part in _parts(last, workers if len(running) < workers else 1):
                yield from submit(part)
        yield from collect(0)
    finally:
        _stop(readers, coders, running, owner)


def decode_files(
    codec: FeatureCodec, sources: Sequence[Source], *, workers: int | None = None
) -> Generator[Decoded, None, None]:
    """Decode bitstream files; yields one outcome a file, in the order of the sources.

    Args:
        codec: the codec, with the weights that the files were made with.
        sources: the bitstream files.
        workers: decoder threads; None means one a core.
    """
    workers = workers or cores()
    mosaics: Batcher[_Mosaic] = Batcher(_NETWORK_BATCH[codec.detector.device.type], _WAITING_IMAGES)

    def results() -> Iterator[tuple[int, Decoded]]:
        for item in read_ahead(pool, partial(_read, codec), enumerate(sources), 2 * workers + mosaics.size):
            if isinstance(item, _Mosaic):
                header = item.header
                size = (header.letterboxed_width, header.letterboxed_height, header.split)
                for group in mosaics.add(size, item):
                    yield from _back(codec, group)
            else:
                yield item
        for group in mosaics.rest():
            yield from _back(codec, group)

    pool = ThreadPoolExecutor(workers)
    try:
        yield from in_order(results())
    finally:
        _stop(pool, pool, set(), None)


def _load(codec: FeatureCodec, source: Source, output: Path, qp: int, *, overwrite: bool) -> _Job | Encoded:
    try:
        image = codec.letterbox(read_image(source.path))
        if output.exists() and not overwrite:
            return _existing(codec, source, output, image, qp)
        return _Job(source, output, image)
    except (FeatcodecError, OSError) as error:
        return Encoded(source, output, error=_one_line(error, source.path))


def _existing(codec: FeatureCodec, source: Source, output: Path, image: Letterboxed, qp: int) -> Encoded:
    try:
        data = bitstream.read_file(output)
        header, _ = bitstream.unpack(data)
    except BitstreamError as error:
        raise OutputError(f"{output}: exists and is no intact bitstream ({error}); use --overwrite") from None
    if not codec.matches(header, image, qp):
        raise OutputError(
            f"{output}: exists, made of another image or with other weights or settings; use --overwrite or another -o"
        )
    return Encoded(source, output, len(data), header.original_width * header.original_height, skipped=True)


def _front(codec: FeatureCodec, group: list[_Job], qp: int) -> Iterator[_FrameJob | Encoded]:
    def run(jobs: list[_Job]) -> list[tuple[Header, Frame]]:
        with beside_other_work():
            return codec.front_end([job.image for job in jobs], qp)

    sizes = [job.image.pixels.shape[0] * job.image.pixels.shape[1] for job in group]
    for job, result in _one_bad_apart(run, group, max(sizes, default=1)):
        if isinstance(result, str):
            yield Encoded(job.source, job.output, error=_one_line(result, job.source.path))
        else:
            yield _FrameJob(job.source, job.output, *result)


def _one_bad_apart(run: Callable[[list[T]], Sequence[R]], group: list[T], pixels: int) -> Iterator[tuple[T, R | str]]:
    """Run networks on a group in batches that memory can bear; where a batch fails, on each item alone.

    Args:
        run: takes items and gives a result for each.
        group: items of equal shape.
        pixels: letterboxed pixels of the largest.

    Yields:
        each item with its result, or with one line on what went wrong.
    """
    size = max(1, _NETWORK_PIXELS // pixels)
    for start in range(0, len(group), size):
        batch = group[start : start + size]
        try:
            yield from zip(batch, run(batch), strict=True)
        except (FeatcodecError, RuntimeError, MemoryError) as error:  # torch's allocators raise RuntimeError
            if len(batch) > 1:
                for item in batch:
                    yield from _one_bad_apart(run, [item], pixels)
            elif isinstance(error, FeatcodecError):
                yield batch[0], str(error)
            else:
                reason = (str(error).splitlines() or ["out of memory"])[0]
                yield batch[0], f"the networks failed on it ({reason}); use a smaller --image-size or another --device"


def _code(codec: FeatureCodec, group: list[_FrameJob], qp: int, owner: object) -> list[Encoded]:
    started = time.perf_counter()
    try:
        with owned_by(owner):
            streams = codec.vvc.encode([job.frame for job in group], qp)
    except EncoderError as error:
        if len(group) > 1:
            # Only the guilty image shall fail.
            return [outcome for job in group for outcome in _code(codec, [job], qp, owner)]
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
    except (FeatcodecError, MemoryError) as error:
        return number, Decoded(source, error=_one_line(error, source.path))
    return _Mosaic(number, source, header, frame, len(data))


def _back(codec: FeatureCodec, group: list[_Mosaic]) -> Iterator[tuple[int, Decoded]]:
    def run(mosaics: list[_Mosaic]) -> list[Detections]:
        return codec.back_end([(mosaic.header, mosaic.frame) for mosaic in mosaics])

    pixels = max(mosaic.header.letterboxed_width * mosaic.header.letterboxed_height for mosaic in group)
    for mosaic, result in _one_bad_apart(run, group, pixels):
        if isinstance(result, str):
            yield mosaic.number, Decoded(mosaic.source, bytes=mosaic.bytes, error=_one_line(result, mosaic.source.path))
        else:
            yield mosaic.number, Decoded(mosaic.source, result, mosaic.bytes)


def _stop(
    readers: ThreadPoolExecutor, coders: ThreadPoolExecutor, running: set[Future[list[Encoded]]], owner: object
) -> None:
    """End the pools; after an interruption at once, with no encoder process left behind."""
    readers.shutdown(wait=False, cancel_futures=True)
    coders.shutdown(wait=False, cancel_futures=True)
    while any(not future.done() for future in running):
        kill_owned_by(owner)
        time.sleep(0.01)
    readers.shutdown(wait=True)
    coders.shutdown(wait=True)


def _parts(group: list[T], count: int) -> Iterator[list[T]]:
    """The group in `count` parts of nearly equal size."""
    size = -(-len(group) // count)
    return (group[start : start + size] for start in range(0, len(group), size))


def _one_line(error: Exception | str, path: Path) -> str:
    text = " ".join(str(error).split())
    return text if str(path) in text else f"{path}: {text}"
