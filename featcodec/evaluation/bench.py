"""Where the work of a sweep is done: threads of this machine. `featcodec.cluster.sweep` has the same for many machines.

The samples of prepared images wait in a temporary file. Each thread does all steps of a batch: VVC codes the batch in a
process, the bytes are decoded, and the networks finish with one CPU thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from featcodec.evaluation.crew import Crew, Spool
from featcodec.evaluation.measuring import BATCH, Clock, Item, Measuring, Scored, batches_of, pixels_of
from featcodec.images.letterbox import Letterboxed
from featcodec.pipeline.common import NETWORK_PIXELS, most_pixels, network_parts
from featcodec.system.batching import Batcher, Budget
from featcodec.system.torch_threads import beside_other_work

_WAITING_IMAGES = 64


class Prepared(Protocol):
    """The images of a curve, ready to be coded."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """What it took to prepare them, by stage, summed over the images."""

    def score(self, value: int | None) -> tuple[list[Scored], Mapping[str, float]]:
        """Score all images at a point, in their order. Returns the times of the stages too.

        Raises:
            FeatcodecError: an image could not be coded or decoded.
        """

    def close(self) -> None:
        """Give the room of the samples back."""


class Bench(Protocol):
    """Where the work of a sweep is done."""

    def prepare(self, work: Measuring[Any, Any]) -> Prepared:
        """Prepare all images of a curve.

        Raises:
            InputError: an image cannot be read.
        """


class ThisMachine:
    """Threads of this machine, for a `with` block.

    Args:
        workers: the number of threads.
    """

    def __init__(self, workers: int) -> None:
        self._crew = Crew(workers)

    def __enter__(self) -> ThisMachine:
        self._crew.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.__exit__(kind, error, trace)

    def prepare(self, work: Measuring[Any, Any]) -> Prepared:
        """See `Bench.prepare`."""
        prepared = _InFile(work, self._crew)
        try:
            prepared.fill()
        except BaseException:
            prepared.close()
            raise
        return prepared


class _InFile:
    """Prepared images whose samples are in a temporary file."""

    def __init__(self, work: Measuring[Any, Any], crew: Crew) -> None:
        self._work, self._crew = work, crew
        self._spool = Spool()
        self._items: list[Item[Any]] = []
        self._positions: dict[int, int] = {}
        self._at_once = Budget(crew.workers * NETWORK_PIXELS)
        self._clock = Clock()

    @property
    def seconds(self) -> Mapping[str, float]:
        return self._clock.seconds

    def close(self) -> None:
        self._spool.close()

    def fill(self) -> None:
        batches = Batcher[tuple[int, Letterboxed]](BATCH, _WAITING_IMAGES)
        largest = 3 * self._work.method.codec.image_size**2

        def grouped() -> Iterator[list[tuple[int, Letterboxed]]]:
            for numbered in self._crew.map(self._work.read, range(len(self._work.sources)), lambda _: largest):
                yield from batches.add(numbered[1].pixels.shape, numbered, numbered[1].pixels.nbytes)
            yield from batches.rest()

        with beside_other_work(threads=1):
            for items, clock in self._crew.map(
                self._front, grouped(), lambda batch: sum(image.pixels.nbytes for _, image in batch)
            ):
                self._items += items
                self._clock.add(clock.seconds)
        self._items.sort(key=lambda item: item.number)

    def _front(self, batch: Sequence[tuple[int, Letterboxed]]) -> tuple[list[Item[Any]], Clock]:
        pixels, items, clock = pixels_of(batch[0][1]), list[Item[Any]](), Clock()
        for part in network_parts(batch, pixels):
            with self._at_once.holding(most_pixels(len(part), pixels)):
                for item, samples in self._work.prepare(part, clock):
                    self._positions[item.number] = self._spool.write(samples)
                    items.append(item)
        return items, clock

    def score(self, value: int | None) -> tuple[list[Scored], Mapping[str, float]]:
        scored, clock = list[Scored](), Clock()
        with beside_other_work(threads=1):
            for done, part in self._crew.map(partial(self._score, value), batches_of(self._items)):
                scored += done
                clock.add(part.seconds)
        return sorted(scored, key=lambda one: one.number), clock.seconds

    def _score(self, value: int | None, batch: Sequence[Item[Any]]) -> tuple[list[Scored], Clock]:
        clock = Clock()
        with self._at_once.holding(most_pixels(len(batch), batch[0].pixels)):
            samples = [self._spool.read(self._positions[item.number], item.shape) for item in batch]
            return self._work.score(value, list(zip(batch, samples, strict=True)), clock), clock
