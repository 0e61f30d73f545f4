"""Sweeps: measured points of rate-accuracy curves, one CSV row per point. Each point is really coded and decoded.

For each method the front-end runs once per image. Its samples wait in a temporary file. The work of a point then runs
in threads, and each thread does all steps of a batch: VVC codes the batch in a process, the bytes are decoded, and the
networks finish with one CPU thread.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from featcodec.bitstream.rate import bits_per_pixel
from featcodec.errors import FeatcodecError, InputError, OutputError
from featcodec.evaluation.bootstrap import ap50_interval
from featcodec.evaluation.coco import accuracy_of, match_boxes
from featcodec.evaluation.crew import Crew, Spool
from featcodec.evaluation.dataset import Dataset
from featcodec.evaluation.methods import Method, Picture
from featcodec.evaluation.points import IDENTITY, PARAMETERS, SCORES, PointFile, Row, number
from featcodec.images.letterbox import Letterboxed
from featcodec.images.reading import reading
from featcodec.pipeline.common import NETWORK_PIXELS, most_pixels, network_parts
from featcodec.privacy.image_quality import mean_decibel
from featcodec.privacy.similarity import similarity_of
from featcodec.system.batching import Batcher, Budget, cores, parts
from featcodec.system.devices import beside_other_work

BATCH = 8
"""The largest number of images that one encoder process codes."""
_CODED_SAMPLES = 16 << 20
"""Samples that one encoder process gets at once, unless a single picture has more."""
_WAITING_IMAGES = 64

S = TypeVar("S")
D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class Plan(Generic[S, D]):
    """A method and the points of its curve.

    Attributes:
        method: the method.
        values: its QPs or qualities; None for a method without a parameter.
    """

    method: Method[S, D]
    values: Sequence[int | None]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one point.

    Attributes:
        point: the columns that identify the point.
        row: the row of the point in the file, or None after a failure.
        skipped: whether the file already had the point.
        error: one line that says what went wrong, or None.
    """

    point: Row
    row: Row | None = None
    skipped: bool = False
    error: str | None = None


def sweep(
    plans: Iterable[Plan[Any, Any]],
    dataset: Dataset,
    file: PointFile,
    *,
    bootstrap: int = 0,
    seed: int = 0,
    workers: int | None = None,
) -> Generator[Outcome, None, None]:
    """Measure the points that are not in the file yet, and append them. Yields one outcome per point, in order.

    The file has a point already if the row holds all requested values. These include the interval if `bootstrap` is
    given, and the PSNR if the method has an attack. If a point fails, the sweep goes on with the next point.

    Args:
        plans: what to measure.
        dataset: the images and their annotations.
        file: the file in which rows are searched and to which rows are appended.
        bootstrap: number of resamples for the interval of AP50; 0 means no interval.
        seed: seed of the resampling.
        workers: encoder processes (and threads) at a time; None means one per core.

    Raises:
        InputError: an image cannot be read, or the file has other columns.
        OutputError: the file or temporary files cannot be written. For the file, this is found out before the work.
    """
    # The back-end imports torchvision at its first use. Without this line the import would count as time of a point.
    importlib.import_module("torchvision")
    file.prepare()
    with Crew(workers or cores()) as crew:
        for plan in plans:
            with contextlib.closing(_Curve(plan.method, dataset, crew)) as curve:
                for value in plan.values:
                    yield _point(curve, value, file, bootstrap, seed)


def _point(curve: _Curve[S, D], value: int | None, file: PointFile, bootstrap: int, seed: int) -> Outcome:
    point = curve.point(value)
    wanted = {"bootstrap": str(bootstrap), "seed": str(seed)} if bootstrap else {}
    if curve.method.recnet:
        wanted["recnet"] = curve.method.recnet
    if (known := file.find({**point, **wanted})) is not None:
        return Outcome(point, known, skipped=True)
    try:
        measured = curve.measure(value, bootstrap, seed)
    except (InputError, OutputError):
        raise
    except (FeatcodecError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or "out of memory"
        return Outcome(point, error=f"{point['method']}, {_value_in_words(point)}: {reason}")
    row = _keep_measured({**point, **measured}, file.find(point))
    file.append(row)
    return Outcome(point, row)


def _value_in_words(point: Row) -> str:
    return next((f"{name} {point[name]}" for name in PARAMETERS if point[name]), "uncoded samples")


def _keep_measured(row: Row, older: Row | None) -> Row:
    """Keep values of an older row of the same point that were not requested this time."""
    if older is None or any(row[name] != older[name] for name in ("bytes", "ap", "ap50")):
        return row
    return {name: value or older[name] for name, value in row.items()}


@dataclass(frozen=True)
class _Item(Generic[S]):
    """A prepared image. Its samples are in the spool.

    `pixels` is the number of letterboxed pixels. `original` is the (width, height) of the original image.
    """

    number: int
    side_info: S
    shape: tuple[int, ...]
    position: int
    pixels: int
    original: tuple[int, int]


@dataclass(frozen=True)
class _Scored:
    """The outcome of one image at one point."""

    bytes: int
    slice_bytes: int
    original: tuple[int, int]
    results: list[dict[str, Any]]
    quality: Mapping[str, float] | None


class _Curve(Generic[S, D]):
    """A method on a data set. It is prepared once and measured at many points."""

    def __init__(self, method: Method[S, D], dataset: Dataset, crew: Crew) -> None:
        self.method = method
        self.dataset = dataset
        self.crew = crew
        self._identity = method.identity()
        self._categories = dataset.annotations.category_ids(method.codec.model.detector.names)
        self._spool: Spool | None = None
        self._items: list[_Item[S]] = []
        self._seconds: dict[str, float] = {}
        self._clock = threading.Lock()
        self._at_once = Budget(crew.workers * NETWORK_PIXELS)

    def close(self) -> None:
        """Remove the temporary file."""
        if self._spool is not None:
            self._spool.close()

    def point(self, value: int | None) -> Row:
        """Return the columns that identify a point."""
        return {
            **dict.fromkeys((*IDENTITY, *PARAMETERS), ""),
            **self._identity,
            "dataset": self.dataset.digest,
            "images": str(len(self.dataset.sources)),
            self.method.parameter: "" if value is None else str(value),
        }

    def measure(self, value: int | None, bootstrap: int, seed: int) -> Row:
        """Measure a point and return its values."""
        with beside_other_work(threads=1):
            if not self._items:
                self.close()
                self._seconds["front_end"] = 0.0
                self._spool = Spool()
                self._items = sorted(self._prepare(self._spool), key=lambda item: item.number)
            for stage in ("encode", "decode", "back_end"):
                self._seconds[stage] = 0.0
            work = partial(self._score, value)
            scored = [one for batch in self.crew.map(work, _batches(self._items)) for one in batch]
        evaluation = match_boxes(self.dataset.annotations, [result for one in scored for result in one.results])
        accuracy = accuracy_of(self.dataset.annotations, evaluation)
        total, slices = (sum(getattr(one, name) for one in scored) for name in ("bytes", "slice_bytes"))
        row = {
            "bottleneck": getattr(self.method, "label", ""),
            **{"bytes": str(total), "header_bytes": str(total - slices), "slice_bytes": str(slices)},
            "bpp": number(bits_per_pixel([(one.bytes, *one.original) for one in scored])),
            **{name: number(getattr(accuracy, name)) for name in ("ap", "ap50", "ap75")},
            **dict.fromkeys(("bootstrap", "seed", "ap50_low", "ap50_high", *SCORES), ""),
            "recnet": self.method.recnet,
            **{f"{stage}_seconds": f"{seconds:.3f}" for stage, seconds in self._seconds.items()},
        }
        if bootstrap:
            interval = ap50_interval(evaluation, bootstrap, seed)
            row.update(bootstrap=str(bootstrap), seed=str(seed))
            row.update(ap50_low=number(interval.low), ap50_high=number(interval.high))
        qualities = [one.quality for one in scored if one.quality is not None]
        for name in qualities[0] if qualities else ():
            row[name] = number(mean_decibel(quality[name] for quality in qualities))
        return row

    def _prepare(self, spool: Spool) -> Iterator[_Item[S]]:
        batches = Batcher[tuple[int, Letterboxed]](BATCH, _WAITING_IMAGES)

        largest = 3 * self.method.codec.image_size**2

        def grouped() -> Iterator[list[tuple[int, Letterboxed]]]:
            for numbered in self.crew.map(self._read, range(len(self.dataset.sources)), lambda _: largest):
                yield from batches.add(numbered[1].pixels.shape, numbered, numbered[1].pixels.nbytes)
            yield from batches.rest()

        for prepared in self.crew.map(
            partial(self._front, spool), grouped(), lambda batch: sum(image.pixels.nbytes for _, image in batch)
        ):
            yield from prepared

    def _read(self, number: int) -> tuple[int, Letterboxed]:
        with reading(self.dataset.sources[number].path, ignore_exif=self.dataset.ignore_exif) as pixels:
            return number, self.method.codec.letterbox(pixels)

    def _front(self, spool: Spool, batch: list[tuple[int, Letterboxed]]) -> list[_Item[S]]:
        pixels, items = _pixels(batch[0][1]), []
        for part in network_parts(batch, pixels):
            with self._at_once.holding(most_pixels(len(part), pixels)):
                with self._timed("front_end"):
                    prepared = self.method.prepare([image for _, image in part])
                for (number, image), (side_info, samples) in zip(part, prepared, strict=True):
                    position = spool.write(samples)
                    items.append(_Item(number, side_info, samples.shape, position, pixels, _original(image)))
        return items

    def _score(self, value: int | None, batch: list[_Item[S]]) -> list[_Scored]:
        with self._at_once.holding(most_pixels(len(batch), batch[0].pixels)):
            return self._code_and_score(value, batch)

    def _code_and_score(self, value: int | None, batch: list[_Item[S]]) -> list[_Scored]:
        method, spool = self.method, self._spool
        assert spool is not None  # noqa: S101  (`measure` made it)
        samples = [spool.read(item.position, item.shape) for item in batch]
        with self._timed("encode"):
            pairs = [(item.side_info, picture) for item, picture in zip(batch, samples, strict=True)]
            files = method.encode(pairs, value)
        # From here on only the bytes are used.
        with self._timed("decode"):
            decoded = [method.decode(data, item.original) for data, item in zip(files, batch, strict=True)]
        with self._timed("back_end"):
            detections = [one for part in network_parts(decoded, batch[0].pixels) for one in method.back_end(part)]
        pictures = [picture for part in network_parts(decoded, batch[0].pixels) for picture in method.attack(part)]
        qualities = [self._quality(*pair) for pair in zip(batch, pictures, strict=True)] if pictures else []
        return [
            _Scored(
                len(data),
                method.slice_bytes(data),
                item.original,
                found.to_coco(self.dataset.image_ids[item.number], self._categories),
                qualities[index] if qualities else None,
            )
            for index, (item, data, found) in enumerate(zip(batch, files, detections, strict=True))
        ]

    def _quality(self, item: _Item[S], picture: Picture) -> dict[str, float]:
        _, image = self._read(item.number)
        original = image.letterbox.crop(image.pixels).astype(np.float32) / 255
        return similarity_of(original, picture)

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._clock:
                self._seconds[stage] += time.perf_counter() - started


def _batches(items: Sequence[_Item[S]]) -> list[list[_Item[S]]]:
    """Return batches of one shape for encoder processes. The largest come first, so that all cores end together."""
    by_shape: dict[tuple[int, ...], list[_Item[S]]] = {}
    for item in items:
        by_shape.setdefault(item.shape, []).append(item)
    batches = [[*batch] for group in by_shape.values() for batch in parts(group, _coded_at_once(group[0]))]
    return sorted(batches, key=lambda batch: -len(batch) * batch[0].pixels)


def _coded_at_once(item: _Item[S]) -> int:
    return max(1, min(BATCH, _CODED_SAMPLES // math.prod(item.shape)))


def _pixels(image: Letterboxed) -> int:
    return image.letterbox.width * image.letterbox.height


def _original(image: Letterboxed) -> tuple[int, int]:
    return image.letterbox.original_width, image.letterbox.original_height
