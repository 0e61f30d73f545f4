"""Work that is one step for a file, from reading to the outcome: actors that hold the networks do it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from featcodec.cluster.resources import Resources
from featcodec.cluster.rows import TRIES, Avoided, Passed, Rows, StepOfRows, outcomes, with_step
from featcodec.system.batching import in_order
from featcodec.system.paths import Source

if TYPE_CHECKING:
    from ray.data import Dataset

N = TypeVar("N")
R = TypeVar("R")


def whole_outcomes(
    networks: N,
    work: Callable[[N, Sequence[Source]], Iterator[R]],
    sources: Sequence[Source],
    lost: Callable[[Source, str], R],
    *,
    resources: Resources,
) -> Generator[R, None, None]:
    """Yield one outcome per file, in the order of the sources, from the cluster that is connected.

    All nodes must see the files under the same paths.

    Args:
        networks: what each actor holds.
        work: returns the outcomes of some files, in their order.
        sources: the files.
        lost: returns the outcome of a file whose worker died at each try, from the file and one line that says this.
        resources: the number of actors.
    """
    import ray  # noqa: PLC0415

    shared, here = ray.put(networks), Path.cwd()

    def plan(rows: Dataset, avoided: Avoided) -> Dataset:
        actors = resources.of_decoders(TRIES)
        return with_step(rows, _Holder, actors, avoided, fn_constructor_args=(shared, work, here))

    def died(source: Source) -> R:
        return lost(source, f"{source.path}: its worker died at each of {2 * TRIES} tries")

    yield from in_order(outcomes(sources, plan, died))


class _Holder:
    """An actor that holds the networks."""

    def __init__(self, shared: Any, work: Callable[[Any, Sequence[Source]], Iterator[Any]], folder: Path) -> None:
        import ray  # noqa: PLC0415

        networks = ray.get(shared)
        self._step = StepOfRows(lambda sources: [Passed(outcome) for outcome in work(networks, sources)], folder)

    def __call__(self, rows: Rows) -> Rows:
        return self._step(rows)
