"""Work on a cluster ends with one outcome per item, whatever its workers do. A real cluster of two nodes."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import featcodec.cluster.rows as rows_module
from featcodec.cluster.resources import Resources
from featcodec.cluster.rows import (
    TRIES,
    Avoided,
    NodeFailure,
    Passed,
    StepOfRows,
    block_sizes,
    here,
    outcomes,
    with_step,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("on_two_nodes"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


def _first(log: Path, items: list[int]) -> list[Any]:
    for item in items:
        with (log / str(item)).open("a") as tries:
            tries.write("x")
        if item == 13:
            os._exit(1)
    return [item * 2 for item in items]


class _Second:
    def __init__(self, log: Path) -> None:
        self._step = StepOfRows(partial(self._double, log))

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        return self._step(rows)

    @staticmethod
    def _double(log: Path, items: list[int]) -> list[Any]:
        if 200 in items:
            with (log / "actor").open("a") as tries:
                tries.write("x")
            os._exit(1)
        return [Passed(item + 1) for item in items]


def test_what_kills_its_worker_each_time_fails_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    resources, tries = Resources.of_cluster(), 1  # each takes the start of a worker

    def plan(rows: Any, avoided: Avoided) -> Any:
        rows = with_step(rows, StepOfRows(partial(_first, tmp_path)), resources.of_coders(tries))
        return with_step(rows, _Second, resources.of_front_ends(tries), fn_constructor_args=(tmp_path,))

    found = dict(outcomes(range(150), plan, lambda item: f"{item} is lost"))
    lost = {13: "13 is lost", 100: "100 is lost"}
    assert found == {item: lost.get(item, item * 2 + 1) for item in range(150)}
    assert len((tmp_path / "13").read_text()) == 2 * tries
    assert len((tmp_path / "actor").read_text()) == 2 * tries
    assert capfd.readouterr() == ("", "")  # results go to stdout, and messages are ours


def _slow(items: list[int]) -> list[Any]:
    time.sleep(0.2 * len(items))
    return [Passed(item) for item in items]


def _same(items: list[int]) -> list[Any]:
    return [Passed(item) for item in items]


def test_many_items_are_given_in_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_SECTION", 10)
    monkeypatch.setattr(rows_module, "_SECTION_PER_CORE", 1)
    given: list[int] = []

    def plan(rows: Any, avoided: Avoided) -> Any:
        given.append(rows.count())
        return with_step(rows, StepOfRows(_same), Resources.of_cluster().of_coders(1))

    assert sorted(outcomes(range(23), plan, str)) == [(item, item) for item in range(23)]
    assert given == [10, 10, 3]


def _only_there(node: str, log: Path, items: list[int]) -> list[Any]:
    """Works on one node. On others, even numbers fail."""
    time.sleep(0.1 * len(items))
    found = here()
    (log / found).touch()
    return [Passed(item) if found == node or item % 2 else NodeFailure(f"{item} failed", found) for item in items]


def test_what_fails_because_of_its_node_is_done_on_another(two_nodes: Any, tmp_path: Path) -> None:
    node = two_nodes.head_node.node_id

    def plan(rows: Any, avoided: Avoided) -> Any:
        step = StepOfRows(partial(_only_there, node, tmp_path))
        return with_step(rows, step, Resources.of_cluster().of_coders(1), avoided)

    assert sorted(outcomes(range(40), plan, str)) == [(item, item) for item in range(40)]
    assert len(list(tmp_path.iterdir())) == 2  # both nodes were tried


def _raises(items: list[int]) -> list[Any]:
    if 7 in items:
        raise ZeroDivisionError("a bug")
    return [Passed(item) for item in items]


def test_a_bug_is_raised_and_not_called_a_lost_worker() -> None:
    def plan(rows: Any, avoided: Avoided) -> Any:
        return with_step(rows, StepOfRows(_raises), Resources.of_cluster().of_coders(TRIES))

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(outcomes(range(20), plan, str))


def test_a_lost_node_loses_nothing(two_nodes: Any) -> None:
    node = two_nodes.add_node(num_cpus=1)
    resources = Resources.of_cluster()

    def plan(rows: Any, avoided: Avoided) -> Any:
        return with_step(rows, StepOfRows(_slow), resources.of_coders(TRIES))

    found = []
    for number, outcome in outcomes(range(48), plan, lambda item: f"{item} is lost"):
        if not found:
            two_nodes.remove_node(node, allow_graceful=False)
        found.append((number, outcome))
    assert sorted(found) == [(item, item) for item in range(48)]


@pytest.mark.parametrize(
    ("count", "cores", "largest"), [(0, 2, 128), (1, 2, 128), (24, 2, 128), (5000, 64, 7), (3, 9, 1)]
)
def test_blocks_are_small_at_first_and_at_last(count: int, cores: int, largest: int) -> None:
    sizes = list(block_sizes(count, cores, largest))
    assert sum(sizes) == count
    assert all(1 <= size <= largest for size in sizes)
    assert all(size <= 4 for size in [*sizes[:cores], *sizes[-1:]])


def test_many_items_make_large_blocks() -> None:
    sizes = list(block_sizes(2000, 2, 100))
    assert sizes[:6] == [4, 4, 8, 8, 16, 16]
    assert sum(size for size in sizes if size == 100) > 1000
