"""Work on a cluster that loses nothing: every item ends with one outcome, whatever workers and nodes do.

Items travel through Ray Data as pickled rows, a few in a block. A block whose worker dies is tried again by Ray. If it
dies each time, the block is lost. Its items are then tried again one by one, so that only the item that kills its
worker fails.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from featcodec.cluster.resources import cores_of_cluster

if TYPE_CHECKING:
    from ray.data import Dataset

TRIES = 3
"""How often a block is tried while its worker or node dies."""
_AT_ONCE = 16
_LARGEST_BLOCK = 64
"""Items in a block. An encoder process takes some of one shape; in a large block there are more of them."""
_BLOCKS_PER_CORE = 4
"""At least so many, so that all cores end at about the same time."""

T = TypeVar("T")
R = TypeVar("R")

Rows = dict[str, Any]


@dataclass(frozen=True)
class Passed(Generic[R]):
    """The final outcome of an item, on its way past the remaining steps."""

    outcome: R


@dataclass(frozen=True)
class _Raised(Passed[Any]):
    """What a step raised. Ray would only say in its log that the block is lost."""


Step = Callable[[list[Any]], list[Any]]
"""Takes the items of a block, and returns one result per item, in order. A `Passed` is given to no further step."""


class StepOfRows:
    """A step as Ray Data calls it: with columns of numbers and pickled items.

    Args:
        step: the step.
        folder: the driver's working folder, from which relative paths start; None means that of this process.
    """

    def __init__(self, step: Step, folder: Path | None = None) -> None:
        self.step = step
        self._folder = folder or Path.cwd()

    def __call__(self, rows: Rows) -> Rows:
        items = [pickle.loads(item) for item in rows["item"]]  # noqa: S301  (our own, inside the cluster)
        waiting = [place for place, item in enumerate(items) if not isinstance(item, Passed)]
        try:
            os.chdir(self._folder)
            results = self.step([items[place] for place in waiting])
        except Exception as error:
            results = [_Raised(error)] * len(waiting)
        for place, result in zip(waiting, results, strict=True):
            items[place] = result
        return {"number": rows["number"], "item": [pickle.dumps(item, pickle.HIGHEST_PROTOCOL) for item in items]}


def with_step(rows: Dataset, step: Any, options: Mapping[str, Any], **arguments: Any) -> Dataset:
    """Add a step to a data set of rows.

    Args:
        rows: the data set.
        step: a `StepOfRows`, or a class whose objects are called like one.
        options: what the step gets of the cluster (`Resources`).
        arguments: more arguments of `Dataset.map_batches`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray 2.64 drops max_retries and max_restarts
        return rows.map_batches(step, **options, **arguments)


def outcomes(
    items: Sequence[T], plan: Callable[[Dataset], Dataset], lost: Callable[[T], R], largest: int = _LARGEST_BLOCK
) -> Iterator[tuple[int, R]]:
    """Yield one (number, outcome) per item, as soon as it is there.

    Args:
        items: what the steps start from.
        plan: adds the steps to a data set of rows; the last one must return `Passed` for every item.
        lost: returns the outcome of an item whose worker died at each try.
        largest: most items in a block.
    """
    done = bytearray(len(items))
    for block in (max(1, min(_LARGEST_BLOCK, largest, len(items) // (_BLOCKS_PER_CORE * cores_of_cluster()))), 1):
        waiting = [number for number, is_done in enumerate(done) if not is_done]
        if not waiting:
            return
        for number, outcome in _where_it_works(items, waiting, block, plan):
            if not done[number]:  # a block may come twice after its node died
                done[number] = True
                yield number, outcome
    for number, is_done in enumerate(done):
        if not is_done:
            yield number, lost(items[number])


def _where_it_works(
    items: Sequence[T], waiting: Sequence[int], block: int, plan: Callable[[Dataset], Dataset]
) -> Iterator[tuple[int, Any]]:
    """Run the steps. Ray Data does not work behind an address ray://; there, an actor in the cluster is the driver."""
    import ray  # noqa: PLC0415

    if not ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        yield from _run(items, waiting, block, plan)
        return
    driver: Any = ray.remote(num_cpus=0)(_Driver).remote(items, waiting, block, plan)
    while part := ray.get(driver.next_ones.remote()):
        yield from part


class _Driver:
    """`_run` in an actor, some outcomes at a time."""

    def __init__(
        self, items: Sequence[T], waiting: Sequence[int], block: int, plan: Callable[[Dataset], Dataset]
    ) -> None:
        self._outcomes = _run(items, waiting, block, plan)

    def next_ones(self) -> list[tuple[int, Any]]:
        return list(islice(self._outcomes, _AT_ONCE))


def _run(
    items: Sequence[T], waiting: Sequence[int], block: int, plan: Callable[[Dataset], Dataset]
) -> Iterator[tuple[int, Any]]:
    import ray.data  # noqa: PLC0415

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    rows = [{"number": number, "item": pickle.dumps(items[number], pickle.HIGHEST_PROTOCOL)} for number in waiting]
    blocks = -(-len(rows) // block)
    for batch in plan(ray.data.from_items(rows, override_num_blocks=blocks)).iter_batches(batch_size=None):
        for number, item in zip(batch["number"], batch["item"], strict=True):
            passed = pickle.loads(item)  # noqa: S301  (our own, inside the cluster)
            if isinstance(passed, _Raised):
                raise passed.outcome
            yield int(number), passed.outcome
