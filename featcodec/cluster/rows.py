"""Work on a cluster that loses nothing: every item ends with one outcome, whatever workers and nodes do.

Items travel through Ray Data as pickled rows, a few in a block. A block whose worker dies is tried again by Ray. If it
dies each time, the block is lost. Its items are then tried again one by one, so that only the item that kills its
worker fails. What failed because of its node (`NodeFailure`) is then tried again, too, on other nodes.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from featcodec.cluster.resources import cores_of_cluster
from featcodec.cluster.session import raise_if_interrupted

if TYPE_CHECKING:
    from ray.data import Dataset

TRIES = 3
"""How often a block is tried while its worker or node dies."""
_AT_ONCE = 16
_LARGEST_BLOCK = 128
"""Items in a block. An encoder process takes some of one shape; in a large block there are more of them."""
_FIRST_BLOCK, _LAST_BLOCK = 4, 2
_SHARES_PER_CORE = 2
"""A block is not larger than this part of what is left, so that all cores end at about the same time."""
_SECTION = 1 << 16
"""Items that are given to Ray Data at once: it holds all of them in memory. Each section starts its actors anew."""
_SECTION_PER_CORE = 4096
"""At least so many, so that a section of a large cluster lasts minutes."""

T = TypeVar("T")
R = TypeVar("R")

Rows = dict[str, Any]


@dataclass(frozen=True)
class Passed(Generic[R]):
    """The final outcome of an item, on its way past the remaining steps."""

    outcome: R


@dataclass(frozen=True)
class NodeFailure(Passed[R]):
    """A failure that another node may not have: the item is tried there once more.

    Attributes:
        node: where it failed, from `here`.
    """

    node: str


@dataclass(frozen=True)
class _Raised(Passed[Any]):
    """What a step raised. Ray would only say in its log that the block is lost."""


Plan = Callable[["Dataset", "Avoided"], "Dataset"]
"""Adds the steps to a data set of rows. The steps do not run on the nodes that are avoided (`with_step`)."""
Avoided = frozenset[str]

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


def here() -> str:
    """The id of the node that this worker runs on."""
    import ray  # noqa: PLC0415

    node: str = ray.get_runtime_context().get_node_id()
    return node


def with_step(
    rows: Dataset, step: Any, options: Mapping[str, Any], avoided: Avoided = frozenset(), **arguments: Any
) -> Dataset:
    """Add a step to a data set of rows.

    Args:
        rows: the data set.
        step: a `StepOfRows`, or a class whose objects are called like one.
        options: what the step gets of the cluster (`Resources`).
        avoided: nodes that the step does not run on.
        arguments: more arguments of `Dataset.map_batches`.
    """
    if avoided:
        arguments["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(avoided))})"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray 2.64 drops max_retries and max_restarts
        return rows.map_batches(step, **options, **arguments)


def outcomes(
    items: Sequence[T], plan: Plan, lost: Callable[[T], R], largest: int = _LARGEST_BLOCK
) -> Iterator[tuple[int, R]]:
    """Yield one (number, outcome) per item, as soon as it is there.

    Args:
        items: what the steps start from.
        plan: adds the steps to a data set of rows; the last one must return `Passed` for every item.
        lost: returns the outcome of an item whose worker died at each try.
        largest: most items in a block.
    """
    cores = cores_of_cluster()
    section = max(_SECTION, _SECTION_PER_CORE * cores)
    for start in range(0, len(items), section):
        waiting = dict(enumerate(items[start : start + section], start))
        sizes = list(block_sizes(len(waiting), cores, min(_LARGEST_BLOCK, largest)))
        yield from _of_section(waiting, plan, lost, sizes)


def block_sizes(count: int, cores: int, largest: int) -> Iterator[int]:
    """How many items the blocks have: few at first, so that all steps soon have work, then more and more, then fewer.

    Args:
        count: items; the sizes add up to it.
        cores: of the cluster.
        largest: most items in a block, at least 1.
    """
    for number in range(count):
        if count <= 0:
            return
        growing = _FIRST_BLOCK << min(number // cores, largest.bit_length())
        share = max(_LAST_BLOCK, count // (_SHARES_PER_CORE * cores))
        size = min(growing, share, largest, count)
        count -= size
        yield size


def _of_section(
    waiting: dict[int, T], plan: Plan, lost: Callable[[T], R], sizes: Sequence[int]
) -> Iterator[tuple[int, R]]:
    elsewhere = dict[int, NodeFailure[R]]()
    for is_last in (False, True):
        if not waiting:
            return
        avoided = _unless_all(one.node for one in elsewhere.values())
        blocks = [1] * len(waiting) if is_last else sizes
        for number, passed in _where_it_works(dict(waiting), blocks, partial(_planned, plan, avoided)):
            raise_if_interrupted()
            if number not in waiting:  # a block may come twice after its node died
                continue
            if isinstance(passed, NodeFailure) and not is_last:
                elsewhere[number] = passed
                continue
            del waiting[number]
            yield number, passed.outcome
    for number, item in waiting.items():
        yield number, elsewhere[number].outcome if number in elsewhere else lost(item)


def _planned(plan: Plan, avoided: Avoided, rows: Dataset) -> Dataset:
    return plan(rows, avoided)


def _unless_all(nodes: Iterable[str]) -> Avoided:
    """The nodes, unless no other one is left."""
    import ray  # noqa: PLC0415

    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
    avoided = frozenset(nodes)
    return avoided if alive - avoided else frozenset()


def _where_it_works(
    items: Mapping[int, T], sizes: Sequence[int], plan: Callable[[Dataset], Dataset]
) -> Iterator[tuple[int, Passed[Any]]]:
    """Run the steps. Ray Data does not work behind an address ray://; there, an actor in the cluster is the driver."""
    import ray  # noqa: PLC0415

    if not ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        yield from _run(items, sizes, plan)
        return
    driver: Any = ray.remote(num_cpus=0)(_Driver).remote(items, sizes, plan)
    while part := ray.get(driver.next_ones.remote()):
        yield from part


class _Driver:
    """`_run` in an actor, some outcomes at a time."""

    def __init__(self, items: Mapping[int, T], sizes: Sequence[int], plan: Callable[[Dataset], Dataset]) -> None:
        self._outcomes = _run(items, sizes, plan)

    def next_ones(self) -> list[tuple[int, Passed[Any]]]:
        return list(islice(self._outcomes, _AT_ONCE))


def _run(
    items: Mapping[int, T], sizes: Sequence[int], plan: Callable[[Dataset], Dataset]
) -> Iterator[tuple[int, Passed[Any]]]:
    import ray.data  # noqa: PLC0415

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    waiting = iter(items.items())
    given = ray.data.from_blocks([_block(islice(waiting, size)) for size in sizes])
    for batch in plan(given).iter_batches(batch_size=None):
        for number, item in zip(batch["number"], batch["item"], strict=True):
            passed = pickle.loads(item)  # noqa: S301  (our own, inside the cluster)
            if isinstance(passed, _Raised):
                raise passed.outcome
            yield int(number), passed


def _block(items: Iterable[tuple[int, T]]) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    numbers, values = zip(*items, strict=True)
    return pa.table({"number": numbers, "item": [pickle.dumps(value, pickle.HIGHEST_PROTOCOL) for value in values]})
