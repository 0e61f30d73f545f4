"""The bounded building blocks of the pipelines."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.system.batching import Batcher, in_order, parts, read_ahead


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
