"""Encoding on a cluster: the same files as `featcodec.pipeline.encode_files` writes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcodec.bitstream import Standard
from featcodec.cluster.manifest import Manifest
from featcodec.cluster.resources import Resources, images_in_block
from featcodec.cluster.rows import TRIES, Avoided, NodeFailure, Passed, Rows, StepOfRows, here, outcomes, with_step
from featcodec.images.letterbox import Fitting
from featcodec.pipeline.coding import (
    CODED_SAMPLES,
    Encoded,
    FrameJob,
    ImageJob,
    code_frames,
    output_path,
    read_image_job,
)
from featcodec.system.batching import parts, read_ahead
from featcodec.system.paths import Source
from featcodec.video import VideoCodec

if TYPE_CHECKING:
    from ray.data import Dataset

    from featcodec.codec import FeatureCodec


_READERS = 2
"""Threads that read images for a front-end: reading takes about half as long as the networks."""
DEFAULT_BATCH = 32
"""As many images of one shape as a block often has: to start an encoder process takes time, too."""


@dataclass(frozen=True)
class Encoding:
    """The settings of a run that its steps need.

    Attributes:
        folder: where the bitstreams go; every node must see it. With None, the outcomes have the bitstreams.
        qp: quantization parameter, 0..63.
        fitting: how images are fitted into the detector's input.
        batch: largest number of images that one encoder process codes.
        overwrite: replace files that exist.
        ignore_exif: take the pixels of images as they are stored.
        standard: that of the bitstreams.
    """

    folder: Path | None
    qp: int
    fitting: Fitting
    batch: int
    overwrite: bool
    ignore_exif: bool
    standard: Standard


def encode_on_cluster(
    codec: FeatureCodec,
    sources: Sequence[Source],
    folder: Path | None,
    qp: int,
    *,
    resources: Resources,
    batch: int = DEFAULT_BATCH,
    overwrite: bool = False,
    ignore_exif: bool = False,
) -> Generator[Encoded, None, None]:
    """Encode images into bitstream files on the cluster that is connected (`session.connected`).

    Yields one outcome per image as soon as the image is done. Arguments and files are those of `encode_files`. All
    nodes must see images and folder under the same paths or addresses. The manifest says what is done already.
    """
    import ray  # noqa: PLC0415

    standard = codec.video_codec.standard
    settings = Encoding(
        folder=folder,
        qp=qp,
        fitting=codec.fitting,
        batch=batch,
        overwrite=overwrite,
        ignore_exif=ignore_exif,
        standard=standard,
    )
    shared, video_codec, start = ray.put(codec), codec.video_codec, Path.cwd()

    def plan(rows: Dataset, avoided: Avoided) -> Dataset:
        networks, known = resources.of_front_ends(TRIES), (shared, settings, start, made_already)
        framed = with_step(rows, _FrontEnd, networks, avoided, fn_constructor_args=known)
        coding = StepOfRows(partial(_code, video_codec, settings), start)
        return with_step(framed, coding, resources.of_coders(TRIES), avoided)

    def lost(source: Source) -> Encoded:
        remedy = "leave the image out, or give the workers more memory"
        problem = f"{source.path}: its worker died at each of {2 * TRIES} tries; {remedy}"
        return Encoded(source, output_path(source, folder, standard), error=problem)

    largest = images_in_block(codec.image_size)
    made_already: Any = ray.put(frozenset())
    if folder is None:
        yield from (outcome for _, outcome in outcomes(sources, plan, lost, largest))
        return
    with Manifest(folder, _identity(codec, settings), overwrite=overwrite, standard=standard) as manifest:
        done, waiting = manifest.split(sources)
        yield from done
        made_already = ray.put(manifest.present(waiting))
        for _, outcome in outcomes(waiting, plan, lost, largest):
            manifest.add(outcome)
            yield outcome


def _identity(codec: FeatureCodec, settings: Encoding) -> dict[str, Any]:
    """What makes the bytes of a file, besides the image."""
    quantizer = codec.packing.quantizer
    return {
        "networks": codec.fingerprint.hex(),
        "split": codec.model.split,
        "video codec": [codec.video_codec.name, codec.video_codec.tag],
        "quantizer": [quantizer.low, quantizer.high, quantizer.bits],
        "qp": settings.qp,
        "image size": settings.fitting.image_size,
        "square": settings.fitting.square,
        "ignore EXIF": settings.ignore_exif,
    }


class _FrontEnd:
    """The networks of the edge, held by an actor. Images are read ahead, where they are used: pixels are large."""

    def __init__(self, shared: Any, settings: Encoding, folder: Path, made_already: Any) -> None:
        import ray  # noqa: PLC0415

        codec: FeatureCodec = ray.get(shared)
        present: frozenset[Path] | None = ray.get(made_already)
        self._is_there = Path.exists if present is None else present.__contains__
        self._codec, self._settings = codec, settings
        self._step = StepOfRows(self._frames, folder)

    def __call__(self, rows: Rows) -> Rows:
        return self._step(rows)

    def _frames(self, sources: list[Source]) -> list[Any]:
        with ThreadPoolExecutor(_READERS) as pool:
            results = [self._frame(job) for job in read_ahead(pool, self._read, sources, 2 * _READERS)]
        return [Passed(result) if isinstance(result, Encoded) else result for result in results]

    def _read(self, source: Source) -> ImageJob | Encoded:
        settings = self._settings
        output = output_path(source, settings.folder, settings.standard)
        return read_image_job(source, output, settings.fitting, ignore_exif=settings.ignore_exif)

    def _frame(self, loaded: ImageJob | Encoded) -> FrameJob | Encoded:
        """On CPUs, a network takes one image at a time."""
        from featcodec.pipeline.encode import found_or_wanted, frames_of  # noqa: PLC0415

        settings = self._settings
        job = found_or_wanted(self._codec, loaded, settings.qp, self._is_there, overwrite=settings.overwrite)
        return job if isinstance(job, Encoded) else next(frames_of(self._codec, [job], settings.qp))


def _code(video_codec: VideoCodec, settings: Encoding, jobs: list[FrameJob]) -> list[Any]:
    coded: dict[int, Encoded] = {}
    shapes = [job.frame.shape for job in jobs]
    for _, places in groupby(sorted(range(len(jobs)), key=shapes.__getitem__), key=shapes.__getitem__):
        group = list(places)
        for part in parts(group, max(1, min(settings.batch, CODED_SAMPLES // jobs[group[0]].frame.size))):
            done = code_frames(
                video_codec,
                [jobs[place] for place in part],
                settings.qp,
                settings,
                overwrite=settings.overwrite,
                keep=settings.folder is None,
            )
            coded.update(zip(part, done, strict=True))
    results = [coded[place] for place in range(len(jobs))]
    return [NodeFailure(result, here()) if result.unwritten else Passed(result) for result in results]
