"""The bounded building blocks of the pipelines."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.system.batching import Batcher, Budget, in_order, parts, read_ahead


@given(st.lists(st.integers(0, 3)), st.integers(1, 5), st.integers(1, 10))
def test_batcher_loses_nothing_and_stays_bounded(keys: list[int], size: int, limit: int) -> None:
    batcher: Batcher[tuple[int, int]] = Batcher(size, limit)
    out = []
    waiting = 0
    for number, key in enumerate(keys):
        waiting += 1
        for batch in batcher.add(key, (key, number)):
            waiting -= len(batch)
            assert 0 < len(batch) <= size
            assert number - batch[0][1] <= limit
            out.append(batch)
        assert waiting <= limit
    out += list(batcher.rest())
    assert sorted(item for batch in out for item in batch) == sorted((key, number) for number, key in enumerate(keys))
    assert all(len({key for key, _ in batch}) <= 1 for batch in out)
    assert batcher.largest() == []


@given(st.lists(st.integers()), st.integers(1, 9))
def test_parts_are_the_items_in_order(items: list[int], size: int) -> None:
    out = [list(part) for part in parts(items, size)]
    assert [item for part in out for item in part] == items
    assert all(len(part) == size for part in out[:-1])
    assert all(1 <= len(part) <= size for part in out[-1:])


def test_a_rare_shape_does_not_wait_for_the_end() -> None:
    batcher: Batcher[str] = Batcher(2, 3)
    assert list(batcher.add("rare", "r")) == []
    assert list(batcher.add("usual", "u1")) == []
    assert list(batcher.add("usual", "u2")) == [["u1", "u2"]]
    assert list(batcher.add("usual", "u3")) == [["r"]]
    assert batcher.largest() == ["u3"]


@given(st.permutations(range(12)))
def test_in_order_restores_any_order(numbers: list[int]) -> None:
    assert list(in_order((number, str(number)) for number in numbers)) == [str(number) for number in range(12)]


def test_read_ahead_keeps_order_and_depth() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            started.append(item)
        return item * item

    with ThreadPoolExecutor(3) as pool:
        results = read_ahead(pool, work, range(100), depth=5)
        random.seed(0)
        for expected in range(100):
            assert next(results) == expected * expected
            assert len(started) <= expected + 5
        with pytest.raises(StopIteration):
            next(results)


def test_read_ahead_passes_exceptions_on() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(read_ahead(pool, lambda item: 1 // item, [1, 0, 1], depth=2))


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 9), st.integers(1, 100))
def test_read_ahead_keeps_to_its_room(sizes: list[int], depth: int, room: int) -> None:
    """Whatever the sizes are. A result that is larger than the room is ahead alone."""
    ahead: list[int] = []

    class Now(Executor):
        def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Future[Any]:
            ahead.append(arguments[0])
            assert len(ahead) <= depth
            assert sum(ahead) <= room or len(ahead) == 1
            future: Future[Any] = Future()
            future.set_result(function(*arguments))
            return future

    out = []
    for result in read_ahead(Now(), lambda size: size, sizes, depth, lambda size: size, room):
        out.append(result)
        assert ahead.pop(0) == result
    assert out == sizes


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=60), st.integers(1, 100))
def test_batcher_keeps_to_its_room(items: list[tuple[int, int]], room: int) -> None:
    batcher: Batcher[int] = Batcher(4, 10, room)
    waiting, out = 0, []
    for key, size in items:
        waiting += size
        for batch in batcher.add(key, size, size):
            waiting -= sum(batch)
            out += batch
        assert waiting <= room
    for batch in batcher.rest():
        out += batch
    assert sorted(out) == sorted(size for _, size in items)


def test_a_budget_is_never_exceeded_and_everybody_gets_a_part() -> None:
    budget, lock = Budget(10), threading.Lock()
    held: list[int] = []

    def work(part: int) -> int:
        with budget.holding(part):
            with lock:
                held.append(part)
                assert sum(held) <= 10 or len([part for part in held if part]) == 1
            time.sleep(0.001)
            with lock:
                held.remove(part)
        return part

    wanted = [3, 30, 1, 0, 10, 11, 2, 5, 5, 6] * 5
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, wanted)) == wanted


def test_a_large_part_is_not_overtaken_for_ever() -> None:
    budget, order = Budget(10), []

    def work(part: int) -> None:
        with budget.holding(part):
            order.append(part)

    with budget.holding(1):
        threads = []
        for part in (10, 2):
            threads.append(threading.Thread(target=work, args=(part,)))
            threads[-1].start()
            while len(budget._queue) < len(threads):
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [10, 2]


def test_a_budget_is_whole_again_after_an_error_and_after_a_reset() -> None:
    budget = Budget(10)
    with pytest.raises(ZeroDivisionError), budget.holding(10):
        raise ZeroDivisionError
    with budget.holding(10):
        budget.reset()  # as after a fork while another thread holds all of it
        with budget.holding(10):
            pass
