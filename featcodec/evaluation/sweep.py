"""Sweeps: measured points of rate-accuracy curves, one CSV row per point. Each point is really coded and decoded.

For each method the front-end runs once per image. The rest of the work is done for each point (`measuring`), by
threads of this machine or on a cluster (`bench`).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from featcodec.bitstream.rate import bits_per_pixel
from featcodec.errors import FeatcodecError, InputError, OutputError
from featcodec.evaluation.bench import Bench, Prepared, ThisMachine
from featcodec.evaluation.bootstrap import ap50_interval
from featcodec.evaluation.coco import accuracy_of, match_boxes
from featcodec.evaluation.dataset import Dataset
from featcodec.evaluation.measuring import Measuring
from featcodec.evaluation.methods import Method
from featcodec.evaluation.points import IDENTITY, PARAMETERS, SCORES, PointFile, Row, number
from featcodec.privacy.image_quality import mean_decibel
from featcodec.system.batching import cores

_STAGES = ("front_end", "encode", "decode", "back_end")

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
    bench: Bench | None = None,
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
        bench: where the work is done; None means `workers` threads of this machine.

    Raises:
        InputError: an image cannot be read, or the file has other columns.
        OutputError: the file or temporary files cannot be written. For the file, this is found out before the work.
    """
    # The back-end imports torchvision at its first use. Without this line the import would count as time of a point.
    importlib.import_module("torchvision")
    file.prepare()
    with contextlib.ExitStack() as ending:
        bench = bench or ending.enter_context(ThisMachine(workers or cores()))
        for plan in plans:
            with contextlib.closing(_Curve(plan.method, dataset, bench)) as curve:
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


class _Curve(Generic[S, D]):
    """A method on a data set. It is prepared once and measured at many points."""

    def __init__(self, method: Method[S, D], dataset: Dataset, bench: Bench) -> None:
        self.method = method
        self.dataset = dataset
        self._bench = bench
        self._identity = method.identity()
        categories = dataset.annotations.category_ids(method.codec.model.detector.names)
        self._work = Measuring(method, dataset.sources, dataset.image_ids, categories, dataset.ignore_exif)
        self._images: Prepared | None = None

    def close(self) -> None:
        """Give the room of the prepared images back."""
        if self._images is not None:
            self._images.close()

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
        if self._images is None:
            self._images = self._bench.prepare(self._work)
        scored, seconds = self._images.score(value)
        seconds = {**self._images.seconds, **seconds}
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
            **{f"{stage}_seconds": f"{seconds.get(stage, 0.0):.3f}" for stage in _STAGES},
        }
        if bootstrap:
            interval = ap50_interval(evaluation, bootstrap, seed)
            row.update(bootstrap=str(bootstrap), seed=str(seed))
            row.update(ap50_low=number(interval.low), ap50_high=number(interval.high))
        qualities = [one.quality for one in scored if one.quality is not None]
        for name in qualities[0] if qualities else ():
            row[name] = number(mean_decibel(quality[name] for quality in qualities))
        return row
