"""Encoding on a cluster: the same files as `featcodec.pipeline.encode_files` writes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcodec.cluster.manifest import Manifest
from featcodec.cluster.resources import Resources, images_in_block
from featcodec.cluster.rows import TRIES, Avoided, NodeFailure, Passed, Rows, StepOfRows, here, outcomes, with_step
from featcodec.pipeline.coding import (
    CODED_SAMPLES,
    Encoded,
    FrameJob,
    ImageJob,
    code_frames,
    output_path,
    read_image_job,
)
from featcodec.system.batching import parts
from featcodec.system.paths import Source
from featcodec.video import VideoCodec

if TYPE_CHECKING:
    from ray.data import Dataset

    from featcodec.codec import FeatureCodec


@dataclass(frozen=True)
class Encoding:
    """The settings of a run that its steps need.

    Attributes:
        folder: where the bitstreams go; every node must see it. With None, the outcomes have the bitstreams.
        qp: quantization parameter, 0..63.
        image_size, square: of the letterbox.
        batch: largest number of images that one encoder process codes.
        overwrite: replace files that exist.
        ignore_exif: take the pixels of images as they are stored.
    """

    folder: Path | None
    qp: int
    image_size: int
    square: bool
    batch: int
    overwrite: bool
    ignore_exif: bool


def encode_on_cluster(
    codec: FeatureCodec,
    sources: Sequence[Source],
    folder: Path | None,
    qp: int,
    *,
    resources: Resources,
    batch: int,
    overwrite: bool = False,
    ignore_exif: bool = False,
) -> Generator[Encoded, None, None]:
    """Encode images into bitstream files on the cluster that is connected (`session.connected`).

    Yields one outcome per image as soon as the image is done. Arguments and files are those of `encode_files`. All
    nodes must see images and folder under the same paths or addresses. The manifest says what is done already.
    """
    import ray  # noqa: PLC0415

    settings = Encoding(folder, qp, codec.image_size, codec.square, batch, overwrite, ignore_exif)
    shared, video_codec, start = ray.put(codec), codec.video_codec, Path.cwd()

    def plan(rows: Dataset, avoided: Avoided) -> Dataset:
        read = with_step(rows, StepOfRows(partial(_read, settings), start), resources.of_readers(TRIES), avoided)
        networks = resources.of_front_ends(TRIES)
        framed = with_step(
            read, _FrontEnd, networks, avoided, fn_constructor_args=(shared, settings, start, made_already)
        )
        coding = StepOfRows(partial(_code, video_codec, settings), start)
        return with_step(framed, coding, resources.of_coders(TRIES), avoided)

    def lost(source: Source) -> Encoded:
        remedy = "leave the image out, or give the workers more memory"
        problem = f"{source.path}: its worker died at each of {2 * TRIES} tries; {remedy}"
        return Encoded(source, output_path(source, folder), error=problem)

    largest = images_in_block(codec.image_size)
    made_already: Any = ray.put(frozenset())
    if folder is None:
        yield from (outcome for _, outcome in outcomes(sources, plan, lost, largest))
        return
    with Manifest(folder, _identity(codec, settings), overwrite=overwrite) as manifest:
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
        "image size": settings.image_size,
        "square": settings.square,
        "ignore EXIF": settings.ignore_exif,
    }


def _read(settings: Encoding, sources: list[Source]) -> list[Any]:
    return [
        _passed(
            read_image_job(
                source,
                output_path(source, settings.folder),
                settings.image_size,
                square=settings.square,
                ignore_exif=settings.ignore_exif,
            )
        )
        for source in sources
    ]


class _FrontEnd:
    """The networks of the edge, held by an actor."""

    def __init__(self, shared: Any, settings: Encoding, folder: Path, made_already: Any) -> None:
        import ray  # noqa: PLC0415

        codec: FeatureCodec = ray.get(shared)
        present: frozenset[Path] | None = ray.get(made_already)
        self._is_there = Path.exists if present is None else present.__contains__
        self._codec, self._settings = codec, settings
        self._step = StepOfRows(self._frames, folder)

    def __call__(self, rows: Rows) -> Rows:
        return self._step(rows)

    def _frames(self, jobs: list[ImageJob]) -> list[Any]:
        from featcodec.pipeline.encode import found_or_wanted, frames_of  # noqa: PLC0415

        found: list[Any] = [
            found_or_wanted(self._codec, job, self._settings.qp, self._is_there, overwrite=self._settings.overwrite)
            for job in jobs
        ]
        shapes = {place: job.image.pixels.shape for place, job in enumerate(found) if isinstance(job, ImageJob)}
        for group in _of_one_shape(shapes):
            made = frames_of(self._codec, [found[place] for place in group], self._settings.qp)
            for place, result in zip(group, made, strict=True):
                found[place] = result
        return [_passed(one) for one in found]


def _code(video_codec: VideoCodec, settings: Encoding, jobs: list[FrameJob]) -> list[Any]:
    coded: dict[int, Encoded] = {}
    for group in _of_one_shape({place: job.frame.shape for place, job in enumerate(jobs)}):
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


def _of_one_shape(shapes: Mapping[int, tuple[int, ...]]) -> Iterator[list[int]]:
    """The keys in groups of equal values."""
    order = sorted(shapes, key=shapes.__getitem__)
    return (list(group) for _, group in groupby(order, key=shapes.__getitem__))


def _passed(result: Any) -> Any:
    return Passed(result) if isinstance(result, Encoded) else result
