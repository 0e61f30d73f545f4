"""Sweeps: points of rate-accuracy curves, each really coded, really decoded and scored, one CSV row a point.

Per method the front-end runs once an image; its samples wait in a temporary file. A point then takes whole steps in
threads: VVC codes a batch in a process, the bytes are decoded, the networks finish, with one CPU thread each.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
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
from featcodec.evaluation.points import IDENTITY, PARAMETERS, PointFile, Row, number
from featcodec.images.letterbox import Letterboxed
from featcodec.images.reading import read_image
from featcodec.pipeline.common import network_parts
from featcodec.privacy.image_quality import ImageQuality, image_quality, mean_decibel
from featcodec.system.batching import Batcher, cores, parts
from featcodec.system.devices import beside_other_work

BATCH = 8
"""Most images that one encoder process codes."""
_WAITING_IMAGES = 64

S = TypeVar("S")
D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class Plan(Generic[S, D]):
    """A method and the points of its curve.

    Attributes:
        method: the method.
        values: its QPs or qualities; None where it has nothing to choose.
    """

    method: Method[S, D]
    values: Sequence[int | None]


@dataclass(frozen=True)
class Outcome:
    """What became of one point.

    Attributes:
        point: what identifies it.
        row: its row in the file, or None after a failure.
        skipped: whether it was there already.
        error: one line on what went wrong, or None.
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
    """Measure the points that the file lacks and append them; yields one outcome a point, in order.

    A point counts as there when its row holds everything that is asked for: also the interval with `bootstrap`, and
    PSNR where the method has an attacker. A point that fails costs itself, not the sweep.

    Args:
        plans: what to measure.
        dataset: on which images.
        file: where rows are looked for and appended.
        bootstrap: resamples of AP50's interval; 0 means no interval.
        seed: of the resampling.
        workers: encoder processes (and threads) at a time; None means one a core.

    Raises:
        InputError: an image cannot be read, or the file has other columns.
        OutputError: the file or temporary files cannot be written.
    """
    # The back-end imports it when it is first used, which would count as that point's time.
    importlib.import_module("torchvision")
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
    """What an older row of the same point holds and this one was not asked for."""
    if older is None or any(row[name] != older[name] for name in ("bytes", "ap", "ap50")):
        return row
    return {name: value or older[name] for name, value in row.items()}


@dataclass(frozen=True)
class _Item(Generic[S]):
    """A prepared image; its samples lie in the spool.

    `pixels` counts the letterboxed ones, `original` is the image's (width, height).
    """

    number: int
    side_info: S
    shape: tuple[int, ...]
    position: int
    pixels: int
    original: tuple[int, int]


@dataclass(frozen=True)
class _Scored:
    """What became of one image at one point."""

    bytes: int
    slice_bytes: int
    original: tuple[int, int]
    results: list[dict[str, Any]]
    quality: ImageQuality | None


class _Curve(Generic[S, D]):
    """A method on a data set: prepared once, measured at many points."""

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

    def close(self) -> None:
        """Give the temporary file back."""
        if self._spool is not None:
            self._spool.close()

    def point(self, value: int | None) -> Row:
        """What identifies a point."""
        return {
            **dict.fromkeys((*IDENTITY, *PARAMETERS), ""),
            **self._identity,
            "dataset": self.dataset.digest,
            "images": str(len(self.dataset.sources)),
            self.method.parameter: "" if value is None else str(value),
        }

    def measure(self, value: int | None, bootstrap: int, seed: int) -> Row:
        """The measures of a point."""
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
            **dict.fromkeys(("bootstrap", "seed", "ap50_low", "ap50_high", "psnr", "edge_psnr"), ""),
            "recnet": self.method.recnet,
            **{f"{stage}_seconds": f"{seconds:.3f}" for stage, seconds in self._seconds.items()},
        }
        if bootstrap:
            interval = ap50_interval(evaluation, bootstrap, seed)
            row.update(bootstrap=str(bootstrap), seed=str(seed))
            row.update(ap50_low=number(interval.low), ap50_high=number(interval.high))
        qualities = [one.quality for one in scored if one.quality is not None]
        if qualities:
            row["psnr"] = number(mean_decibel(quality.psnr for quality in qualities))
            row["edge_psnr"] = number(mean_decibel(quality.edge_psnr for quality in qualities))
        return row

    def _prepare(self, spool: Spool) -> Iterator[_Item[S]]:
        batches = Batcher[tuple[int, Letterboxed]](BATCH, _WAITING_IMAGES)

        def grouped() -> Iterator[list[tuple[int, Letterboxed]]]:
            for numbered in self.crew.map(self._read, range(len(self.dataset.sources))):
                yield from batches.add(numbered[1].pixels.shape, numbered)
            yield from batches.rest()

        for prepared in self.crew.map(partial(self._front, spool), grouped()):
            yield from prepared

    def _read(self, number: int) -> tuple[int, Letterboxed]:
        return number, self.method.codec.letterbox(read_image(self.dataset.sources[number].path))

    def _front(self, spool: Spool, batch: list[tuple[int, Letterboxed]]) -> list[_Item[S]]:
        with self._timed("front_end"):
            prepared = [
                one
                for part in network_parts(batch, _pixels(batch[0][1]))
                for one in self.method.prepare([image for _, image in part])
            ]
        return [
            _Item(number, side_info, samples.shape, spool.write(samples), _pixels(image), _original(image))
            for (number, image), (side_info, samples) in zip(batch, prepared, strict=True)
        ]

    def _score(self, value: int | None, batch: list[_Item[S]]) -> list[_Scored]:
        method, spool = self.method, self._spool
        assert spool is not None  # noqa: S101  (`measure` made it)
        samples = [spool.read(item.position, item.shape) for item in batch]
        with self._timed("encode"):
            pairs = [(item.side_info, picture) for item, picture in zip(batch, samples, strict=True)]
            files = method.encode(pairs, value)
        # From here on there is nothing but the bytes.
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

    def _quality(self, item: _Item[S], picture: Picture) -> ImageQuality:
        _, image = self._read(item.number)
        original = image.letterbox.crop(image.pixels).astype(np.float32) / 255
        return image_quality(original, picture)

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._clock:
                self._seconds[stage] += time.perf_counter() - started


def _batches(items: Sequence[_Item[S]]) -> list[list[_Item[S]]]:
    """Batches of one shape for encoder processes, the costliest first, so that all cores end together."""
    by_shape: dict[tuple[int, ...], list[_Item[S]]] = {}
    for item in items:
        by_shape.setdefault(item.shape, []).append(item)
    batches = [[*batch] for group in by_shape.values() for batch in parts(group, BATCH)]
    return sorted(batches, key=lambda batch: -len(batch) * batch[0].pixels)


def _pixels(image: Letterboxed) -> int:
    return image.letterbox.width * image.letterbox.height


def _original(image: Letterboxed) -> tuple[int, int]:
    return image.letterbox.original_width, image.letterbox.original_height
