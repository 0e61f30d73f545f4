"""The work of a sweep on a cluster: the same rows as `featcodec.evaluation.bench.ThisMachine` makes.

A task prepares or scores some images, on one core. The samples of prepared images stay in the memory of the node that
made them. If that node is lost, Ray makes them again elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from featcodec.cluster.resources import cores_of_cluster, images_in_block
from featcodec.cluster.rows import TRIES
from featcodec.cluster.session import raise_if_interrupted
from featcodec.errors import FeatcodecError
from featcodec.evaluation.bench import Prepared
from featcodec.evaluation.measuring import Clock, Item, Measuring, Scored, batches_of, pixels_of
from featcodec.evaluation.methods import Samples
from featcodec.images.letterbox import Letterboxed
from featcodec.pipeline.common import network_parts
from featcodec.system.batching import parts
from featcodec.system.torch_threads import beside_other_work

_LARGEST_PART = 32
"""Images of a task."""
_TASKS_PER_CORE = 4
"""At least so many, so that all cores end at about the same time."""
_AHEAD_PER_CORE = 2
"""Tasks that run or wait on the cluster. Of the results that are done, only so many wait for those before them."""

_DIED = "its worker died at each of {} tries; leave the image out, or give the workers more memory"
_SAME = "all nodes need the same featcodec, Python and Ray"


class ClusterBench:
    """The cluster that is connected (`session.connected`), as a `featcodec.evaluation.bench.Bench`.

    All nodes must see the images under the same paths.
    """

    def prepare(self, work: Measuring[Any, Any]) -> Prepared:
        """See `Bench.prepare`."""
        return _OnNodes(work)


@dataclass(frozen=True)
class _Task:
    """A task that runs. `numbers` are its images, `refs` its results: what is said of them, and maybe their samples."""

    numbers: Sequence[int]
    refs: Sequence[Any]


class _OnNodes:
    """Prepared images whose samples are on the nodes of the cluster."""

    def __init__(self, work: Measuring[Any, Any]) -> None:
        import ray  # noqa: PLC0415

        self._work = work
        self._shared = [ray.put(work), Path.cwd()]  # in a list, so that a worker gets the reference and keeps the work
        self._cores = cores_of_cluster()
        self._clock = Clock()
        self._parts: list[tuple[Sequence[Item[Any]], Any]] = []
        count = len(work.sources)
        even = -(-count // (_TASKS_PER_CORE * self._cores))
        size = max(1, min(_LARGEST_PART, images_in_block(work.method.codec.image_size), even))
        for task, (items, seconds) in self._results(parts(range(count), size), self._prepare):
            self._parts.append((items, task.refs[1]))
            self._clock.add(seconds)

    @property
    def seconds(self) -> Mapping[str, float]:
        return self._clock.seconds

    def close(self) -> None:
        self._parts.clear()

    def score(self, value: int | None) -> tuple[list[Scored], Mapping[str, float]]:
        scored, clock = list[Scored](), Clock()
        of = {item.number: (items, samples) for items, samples in self._parts for item in items}

        def start(numbers: Sequence[int]) -> _Task:
            items, samples = of[numbers[0]]
            wanted = [place for place, item in enumerate(items) if item.number in set(numbers)]
            return _Task(numbers, [_remote(_score, 1).remote(self._shared, value, items, samples, wanted)])

        numbers = [[item.number for item in items] for items, _ in self._parts]
        for _, (done, seconds) in self._results(numbers, start):
            scored += done
            clock.add(seconds)
        return sorted(scored, key=lambda one: one.number), clock.seconds

    def _prepare(self, numbers: Sequence[int]) -> _Task:
        return _Task(numbers, _remote(_prepare, 2).remote(self._shared, list(numbers)))

    def _results(
        self, jobs: Iterable[Sequence[int]], start: Callable[[Sequence[int]], _Task]
    ) -> Iterator[tuple[_Task, tuple[Any, Mapping[str, float]]]]:
        """Start a task for each part of the images, a limited number at a time. Yields them and their results.

        A part whose worker dies at each try is done again image by image, to find the image that kills it.
        """
        import ray  # noqa: PLC0415

        running = dict[Any, _Task]()
        waiting = iter(jobs)
        try:
            while True:
                for numbers in islice(waiting, _AHEAD_PER_CORE * self._cores - len(running)):
                    task = start(numbers)
                    running[task.refs[0]] = task
                if not running:
                    return
                done, _ = ray.wait(list(running))
                raise_if_interrupted()
                task = running.pop(done[0])
                try:
                    result = ray.get(done[0])
                except ray.exceptions.RayTaskError as error:
                    raise FeatcodecError(f"a worker of the cluster failed ({_last_line(error)}); {_SAME}") from error
                except ray.exceptions.RayError as error:
                    if len(task.numbers) == 1:
                        path = self._work.sources[task.numbers[0]].path
                        raise FeatcodecError(f"{path}: {_DIED.format(TRIES)}") from error
                    waiting = chain([[number] for number in task.numbers], waiting)
                    continue
                if isinstance(result, Exception):
                    raise result
                yield task, result
        finally:
            for ref in running:
                ray.cancel(ref, force=True)


def _last_line(error: Exception) -> str:
    return next(filter(None, reversed(str(error).splitlines())), type(error).__name__).strip()


def _remote(function: Callable[..., Any], results: int) -> Any:
    import ray  # noqa: PLC0415

    return ray.remote(num_cpus=1, max_retries=TRIES - 1, num_returns=results)(function)


_held: dict[str, Measuring[Any, Any]] = {}
"""The work of the curve that this worker has had last: its networks are large."""


def _work_of(shared: Sequence[Any]) -> Measuring[Any, Any]:
    """The work of a task. Paths start from the folder of the program that asks for it."""
    import ray  # noqa: PLC0415

    ref, folder = shared
    if ref.hex() not in _held:
        _held.clear()
        _held[ref.hex()] = ray.get(ref)
    os.chdir(folder)
    return _held[ref.hex()]


def _prepare(shared: Sequence[Any], numbers: Sequence[int]) -> tuple[Any, list[Samples]]:
    """The items of some images with the times of the stages, and their samples. An error is returned, not raised."""
    clock, made = Clock(), list[tuple[Item[Any], Samples]]()
    try:
        work = _work_of(shared)
        with beside_other_work(threads=1):
            by_shape = dict[tuple[int, ...], list[tuple[int, Letterboxed]]]()
            for number, image in map(work.read, numbers):
                by_shape.setdefault(image.pixels.shape, []).append((number, image))
            for group in by_shape.values():
                for part in network_parts(group, pixels_of(group[0][1])):
                    made += work.prepare(part, clock)
    except Exception as error:
        return error, []
    return ([item for item, _ in made], clock.seconds), [samples for _, samples in made]


def _score(
    shared: Sequence[Any], value: int | None, items: Sequence[Item[Any]], samples: Sequence[Samples], wanted: list[int]
) -> Any:
    """The outcomes of some images at a point with the times of the stages, or an error."""
    clock, scored = Clock(), list[Scored]()
    of = {items[place].number: samples[place] for place in wanted}
    try:
        work = _work_of(shared)
        with beside_other_work(threads=1):
            for batch in batches_of([items[place] for place in wanted]):
                scored += work.score(value, [(item, of[item.number]) for item in batch], clock)
    except Exception as error:
        return error
    return scored, clock.seconds
