"""Encoding of many images.

VVC takes most of the time, so every core should always have an encoder process to run. While all encoders are busy,
only full batches start. When an encoder would be idle, the largest waiting batch starts, even if it is not full.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from featcodec import bitstream
from featcodec.bitstream import STREAM_SUFFIX, SideInfo
from featcodec.codec import FeatureCodec
from featcodec.errors import BitstreamError, EncoderError, FeatcodecError
from featcodec.images.letterbox import Letterboxed
from featcodec.images.reading import reading
from featcodec.packing.frames import Frame
from featcodec.pipeline.common import WAITING_IMAGES, network_batch, one_bad_apart, one_line
from featcodec.system.batching import Batcher, Budget, cores, parts, read_ahead
from featcodec.system.devices import beside_other_work
from featcodec.system.files import ExistsError, write_atomically
from featcodec.system.paths import Source
from featcodec.video.process import kill_owned_by, owned_by

DEFAULT_BATCH = 8
_READERS = 2
_CORES_PER_NETWORK_THREAD = 8
_WAITING_FRAMES = 64
_CODED_SAMPLES = 16 << 20
"""Samples that one encoder process gets at once, unless a single frame has more."""


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
    """

    source: Source
    output: Path
    bytes: int = 0
    pixels: int = 0
    skipped: bool = False
    error: str | None = None
    coding_seconds: float = 0.0


@dataclass(frozen=True)
class _Job:
    """An image on its way to its file."""

    source: Source
    output: Path
    image: Letterboxed


@dataclass(frozen=True)
class _FrameJob:
    """A frame on its way to its file."""

    source: Source
    output: Path
    side_info: SideInfo
    frame: Frame


def output_path(source: Source, folder: Path) -> Path:
    """Return the path for the bitstream of an image: its relative path, with the suffix .266."""
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
    ignore_exif: bool = False,
) -> Generator[Encoded, None, None]:
    """Encode images into bitstream files. Yields one outcome per image as soon as the image is done.

    A file that exists is skipped if it was made from the same image with the same settings. Otherwise the file counts
    as a failure. So an interrupted run can continue, and no file is overwritten by accident, not even one that another
    run writes at the same time.

    Args:
        codec: the codec.
        sources: the images.
        folder: where the bitstreams go.
        qp: quantization parameter, 0..63.
        workers: encoder processes at a time; None means one per core.
        batch: largest number of images that one encoder process codes.
        overwrite: replace files that exist.
        ignore_exif: take the pixels of images as they are stored; see `read_image`.
    """
    workers = workers or cores()
    owner = object()
    images: Batcher[_Job] = Batcher(network_batch(codec), WAITING_IMAGES)
    frames: Batcher[_FrameJob] = Batcher(batch, _WAITING_FRAMES)
    running: set[Future[list[Encoded]]] = set()
    coding = Budget(workers * _CODED_SAMPLES)
    largest = 3 * codec.image_size**2

    def load(source: Source) -> _Job | Encoded:
        output = output_path(source, folder)
        return _load(codec, source, output, qp, overwrite=overwrite, ignore_exif=ignore_exif)

    def front(group: list[_Job]) -> Iterator[Encoded]:
        for job in _front(codec, group, qp):
            if isinstance(job, Encoded):
                yield job
            else:
                for ready in frames.add(job.frame.shape, job, job.frame.nbytes):
                    yield from submit(ready)

    def submit(group: Sequence[_FrameJob]) -> Iterator[Encoded]:
        for part in parts(group, max(1, _CODED_SAMPLES // max(job.frame.size for job in group))) if group else ():
            running.add(coders.submit(code, part))
            yield from collect(2 * workers)

    def code(group: Sequence[_FrameJob]) -> list[Encoded]:
        with coding.holding(sum(job.frame.size for job in group)):
            return _code(codec, group, qp, owner, overwrite=overwrite)

    def collect(at_most: int) -> Iterator[Encoded]:
        """Yield finished outcomes, and wait until no more than `at_most` batches run or wait to run."""
        while True:
            done, _ = wait(running, timeout=0 if len(running) <= at_most else None, return_when=FIRST_COMPLETED)
            running.difference_update(done)
            yield from chain.from_iterable(future.result() for future in done)
            if len(running) <= at_most:
                return

    readers, coders = ThreadPoolExecutor(_READERS), ThreadPoolExecutor(workers)
    try:
        for loaded in read_ahead(readers, load, sources, 2 * _READERS + images.size, lambda source: largest):
            if isinstance(loaded, Encoded):
                yield loaded
                continue
            for group in images.add(loaded.image.pixels.shape, loaded, loaded.image.pixels.nbytes):
                yield from front(group)
            yield from collect(2 * workers)
            if len(running) < workers:
                yield from front(images.largest())
                yield from submit(frames.largest())
        for group in images.rest():
            yield from front(group)
        for last in frames.rest():
            share = -(-len(last) // (workers if len(running) < workers else 1))
            for part in parts(last, share):
                yield from submit(part)
        yield from collect(0)
    finally:
        _stop(readers, coders, running, owner)


def _load(
    codec: FeatureCodec, source: Source, output: Path, qp: int, *, overwrite: bool, ignore_exif: bool
) -> _Job | Encoded:
    try:
        with reading(source.path, ignore_exif=ignore_exif) as pixels:
            image = codec.letterbox(pixels)
        del pixels
        if output.exists() and not overwrite:
            return _existing(source, output, lambda found: codec.matches(found, image, qp))
        return _Job(source, output, image)
    except (FeatcodecError, OSError) as error:
        return Encoded(source, output, error=one_line(error, source.path))


def _existing(source: Source, output: Path, matches: Callable[[SideInfo], bool]) -> Encoded:
    """The outcome for an image whose file is already there."""
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


def _front(codec: FeatureCodec, group: list[_Job], qp: int) -> Iterator[_FrameJob | Encoded]:
    def run(jobs: Sequence[_Job]) -> list[tuple[SideInfo, Frame]]:
        with beside_other_work(max(1, cores() // _CORES_PER_NETWORK_THREAD)):
            return codec.front_end([job.image for job in jobs], qp)

    sizes = [job.image.pixels.shape[0] * job.image.pixels.shape[1] for job in group]
    for job, result in one_bad_apart(run, group, max(sizes, default=1)):
        if isinstance(result, str):
            yield Encoded(job.source, job.output, error=one_line(result, job.source.path))
        else:
            yield _FrameJob(job.source, job.output, *result)


def _code(codec: FeatureCodec, group: Sequence[_FrameJob], qp: int, owner: object, *, overwrite: bool) -> list[Encoded]:
    started = time.perf_counter()
    try:
        with owned_by(owner):
            streams = codec.video_codec.encode([job.frame for job in group], qp)
    except EncoderError as error:
        if len(group) > 1:
            # Only the image that causes the error should fail.
            return [outcome for job in group for outcome in _code(codec, [job], qp, owner, overwrite=overwrite)]
        return [Encoded(group[0].source, group[0].output, error=one_line(error, group[0].source.path))]
    seconds = (time.perf_counter() - started) / len(group)
    return [_write(job, stream, seconds, overwrite=overwrite) for job, stream in zip(group, streams, strict=True)]


def _write(job: _FrameJob, stream: bytes, seconds: float, *, overwrite: bool) -> Encoded:
    try:
        data = bitstream.pack(job.side_info, stream)
        try:
            write_atomically(job.output, data, overwrite=overwrite)
        except ExistsError:  # another run wrote it meanwhile
            return _existing(job.source, job.output, lambda found: found == job.side_info)
    except FeatcodecError as error:
        return Encoded(job.source, job.output, error=one_line(error, job.source.path))
    pixels = job.side_info.original_width * job.side_info.original_height
    return Encoded(job.source, job.output, len(data), pixels, coding_seconds=seconds)


def _stop(
    readers: ThreadPoolExecutor, coders: ThreadPoolExecutor, running: set[Future[list[Encoded]]], owner: object
) -> None:
    """End the pools. After an interruption they end at once, and no encoder process is left."""
    readers.shutdown(wait=False, cancel_futures=True)
    coders.shutdown(wait=False, cancel_futures=True)
    while any(not future.done() for future in running):
        kill_owned_by(owner)
        time.sleep(0.01)
    readers.shutdown(wait=True)
    coders.shutdown(wait=True)
