"""Encoding of many images.

VVC takes most of the time, so every core should always have an encoder process to run. While all encoders are busy,
only full batches start. When an encoder would be idle, the largest waiting batch starts, even if it is not full.

HEVC is coded in this process, in less time than the networks take. So there, each thread does all steps of an image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain
from pathlib import Path

from featcodec.bitstream import SideInfo
from featcodec.errors import FeatcodecError, one_line
from featcodec.packing.frames import Frame
from featcodec.pipeline.coding import (
    CODED_SAMPLES,
    BatchEdge,
    Encoded,
    FrameJob,
    ImageJob,
    code_frames,
    existing,
    output_path,
    read_image_job,
)
from featcodec.pipeline.common import WAITING_IMAGES, batched_outcomes, network_batch, one_bad_apart
from featcodec.system.addresses import presence_below
from featcodec.system.batching import REQUESTS, Batcher, Budget, cores, parts, read_ahead
from featcodec.system.elsewhere import Elsewhere
from featcodec.system.paths import Source
from featcodec.system.torch_threads import beside_other_work
from featcodec.video.hevc import HevcCodec
from featcodec.video.process import kill_owned_by

DEFAULT_BATCH = 8
_READERS = 2
_CORES_PER_NETWORK_THREAD = 8
_WAITING_FRAMES = 64


def network_threads(video_codec: str = "ffmpeg") -> int:
    """CPU threads that `encode_files` gives a network at a time, so that coding has the other cores."""
    return 1 if video_codec == "hevc" else max(1, cores() // _CORES_PER_NETWORK_THREAD)


def encode_files(
    codec: BatchEdge,
    sources: Sequence[Source],
    folder: Path | None,
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
        codec: a `FeatureCodec`, or an `EdgeEncoder`, which needs no torch.
        sources: the images.
        folder: where the bitstreams go; also the address of objects. With None, no files are written, and the outcomes
            have the bitstreams.
        qp: quantization parameter, 0..63.
        workers: encoder processes, or with HEVC threads, at a time; None means one per core.
        batch: largest number of images that one encoder process codes; HEVC has no such processes.
        overwrite: replace files that exist.
        ignore_exif: take the pixels of images as they are stored; see `read_image`.

    Raises:
        UnreachableError: the folder is an address that cannot be reached.
    """
    if isinstance(codec.video_codec, HevcCodec):
        coding_options = {"overwrite": overwrite, "ignore_exif": ignore_exif}
        yield from _encode_whole(codec, sources, folder, qp, workers=workers, **coding_options)
        return
    workers = workers or cores()
    owner = object()
    images: Batcher[ImageJob] = Batcher(network_batch(codec.device_type), WAITING_IMAGES)
    frames: Batcher[FrameJob] = Batcher(batch, _WAITING_FRAMES)
    running: set[Future[list[Encoded]]] = set()
    coding = Budget(workers * CODED_SAMPLES)
    largest = 3 * codec.image_size**2
    is_there = Path.exists if folder is None or overwrite else presence_below(folder)
    read_at_once = REQUESTS if any(isinstance(source.path, Elsewhere) for source in sources) else _READERS

    def load(source: Source) -> ImageJob | Encoded:
        output = output_path(source, folder, codec.video_codec.standard)
        job = read_image_job(source, output, codec.fitting, ignore_exif=ignore_exif)
        return job if folder is None else found_or_wanted(codec, job, qp, is_there, overwrite=overwrite)

    def front(group: list[ImageJob]) -> Iterator[Encoded]:
        for job in frames_of(codec, group, qp):
            if isinstance(job, Encoded):
                yield job
            else:
                for ready in frames.add(job.frame.shape, job, job.frame.nbytes):
                    yield from submit(ready)

    def submit(group: Sequence[FrameJob]) -> Iterator[Encoded]:
        for part in parts(group, max(1, CODED_SAMPLES // max(job.frame.size for job in group))) if group else ():
            running.add(coders.submit(code, part))
            yield from collect(2 * workers)

    def code(group: Sequence[FrameJob]) -> list[Encoded]:
        with coding.holding(sum(job.frame.size for job in group)):
            return code_frames(codec.video_codec, group, qp, owner, overwrite=overwrite, keep=folder is None)

    def collect(at_most: int) -> Iterator[Encoded]:
        """Yield finished outcomes, and wait until no more than `at_most` batches run or wait to run."""
        while True:
            done, _ = wait(running, timeout=0 if len(running) <= at_most else None, return_when=FIRST_COMPLETED)
            running.difference_update(done)
            yield from chain.from_iterable(future.result() for future in done)
            if len(running) <= at_most:
                return

    readers, coders = ThreadPoolExecutor(read_at_once), ThreadPoolExecutor(workers)
    try:
        for loaded in read_ahead(readers, load, sources, 2 * read_at_once + images.size, lambda source: largest):
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


def _encode_whole(
    codec: BatchEdge,
    sources: Sequence[Source],
    folder: Path | None,
    qp: int,
    *,
    workers: int | None,
    overwrite: bool,
    ignore_exif: bool,
) -> Generator[Encoded, None, None]:
    """Encode images in threads of which each does all steps. For the arguments see `encode_files`."""
    standard = codec.video_codec.standard
    is_there = Path.exists if folder is None or overwrite else presence_below(folder)

    def load(source: Source) -> ImageJob | Encoded:
        output = output_path(source, folder, standard)
        job = read_image_job(source, output, codec.fitting, ignore_exif=ignore_exif)
        return job if folder is None else found_or_wanted(codec, job, qp, is_there, overwrite=overwrite)

    def kind(job: ImageJob | Encoded) -> tuple[tuple[int, ...], int, int]:
        if isinstance(job, Encoded):
            return (), 0, 1
        pixels = job.image.pixels
        return pixels.shape, pixels.nbytes, pixels.shape[0] * pixels.shape[1]

    def code(group: Sequence[ImageJob | Encoded]) -> list[Encoded]:
        waiting = [job for job in group if isinstance(job, ImageJob)]
        outcomes = [job for job in group if isinstance(job, Encoded)]
        framed = list(frames_of(codec, waiting, qp))
        outcomes += [job for job in framed if isinstance(job, Encoded)]
        if frames := [job for job in framed if isinstance(job, FrameJob)]:
            outcomes += code_frames(codec.video_codec, frames, qp, None, overwrite=overwrite, keep=folder is None)
        of_source = {outcome.source: outcome for outcome in outcomes}
        return [of_source[job.source] for job in group]

    def failure(source: Source, error: Exception) -> Encoded:
        return Encoded(source, output_path(source, folder, standard), error=one_line(error, source.path))

    largest = 3 * codec.image_size**2
    yield from batched_outcomes(
        sources,
        load,
        kind,
        code,
        failure,
        size=lambda source: largest,
        batch=network_batch(codec.device_type),
        workers=workers,
    )


def found_or_wanted(
    codec: BatchEdge,
    job: ImageJob | Encoded,
    qp: int,
    is_there: Callable[[Path], bool],
    *,
    overwrite: bool,
) -> ImageJob | Encoded:
    """The outcome of an image whose file is there already; else the job as it is.

    Args:
        codec, qp, overwrite: as for `encode_files`.
        job: the image, or the outcome that it has already.
        is_there: says whether there is a file under a path.
    """
    if isinstance(job, Encoded):
        return job
    try:
        if not overwrite and is_there(job.output):
            return existing(job.source, job.output, lambda found: codec.matches(found, job.image, qp))
    except (FeatcodecError, OSError) as error:
        return Encoded(job.source, job.output, error=one_line(error, job.source.path))
    return job


def frames_of(codec: BatchEdge, group: Sequence[ImageJob], qp: int) -> Iterator[FrameJob | Encoded]:
    """The frames of images of one shape. A bad image fails alone."""

    def run(jobs: Sequence[ImageJob]) -> Sequence[tuple[SideInfo, Frame]]:
        with beside_other_work(network_threads()):
            return codec.front_end([job.image for job in jobs], qp)

    sizes = [job.image.pixels.shape[0] * job.image.pixels.shape[1] for job in group]
    for job, result in one_bad_apart(run, group, max(sizes, default=1)):
        if isinstance(result, str):
            yield Encoded(job.source, job.output, error=one_line(result, job.source.path))
        else:
            yield FrameJob(job.source, job.output, *result)


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
