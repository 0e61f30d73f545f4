"""What the pipelines share: batches that memory can bear, and one bad item that does not spoil its batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcodec.errors import InputError
from featcodec.pipeline import common
from featcodec.pipeline.common import batched_outcomes, network_parts, one_bad_apart
from featcodec.system.paths import Source


@pytest.mark.slow
@given(count=st.integers(0, 40), pixels=st.integers(1, 1 << 24))
def test_no_batch_has_more_pixels_than_the_networks_can_bear(count: int, pixels: int) -> None:
    batches = list(network_parts(range(count), pixels))
    assert [item for batch in batches for item in batch] == list(range(count))
    assert all(len(batch) == 1 or len(batch) * pixels <= common.NETWORK_PIXELS for batch in batches)
    assert all((len(batch) + 1) * pixels > common.NETWORK_PIXELS for batch in batches[:-1]), "smaller than it may be"


@pytest.mark.parametrize("failure", [InputError("bad"), RuntimeError("bad\nand more"), MemoryError()])
@given(bad=st.sets(st.integers(0, 9)), pixels=st.sampled_from([1, common.NETWORK_PIXELS // 3, 1 << 30]))
def test_one_bad_item_fails_alone(failure: Exception, bad: set[int], pixels: int) -> None:
    def run(items: Sequence[int]) -> list[int]:
        if bad & set(items):
            raise failure
        return [10 * item for item in items]

    results = dict(one_bad_apart(run, list(range(10)), pixels))
    assert list(results) == list(range(10))
    for item, result in results.items():
        if item in bad:
            assert isinstance(result, str)
            assert "\n" not in result
        else:
            assert result == 10 * item


def sources_of(count: int) -> list[Source]:
    return [Source(Path(f"/nowhere/{number}"), Path(f"{number}")) for number in range(count)]


def number_of(source: Source) -> int:
    return int(source.path.name)


def alike(item: object) -> tuple[int, int, int]:
    return 0, 1, 1


@pytest.mark.slow
@settings(deadline=None)
@given(
    keys=st.lists(st.integers(0, 3), max_size=60),
    bad=st.sets(st.integers(0, 59)),
    batch=st.integers(1, 6),
    workers=st.integers(1, 4),
)
def test_every_file_has_its_outcome_in_order(keys: list[int], bad: set[int], batch: int, workers: int) -> None:
    """Whatever the batches are, whichever files cannot be read."""

    def read(source: Source) -> int:
        if number_of(source) in bad:
            raise InputError("unreadable") if number_of(source) % 2 else MemoryError
        return number_of(source)

    def work(group: Sequence[int]) -> list[str]:
        assert 1 <= len(group) <= batch
        assert len({keys[number] for number in group}) == 1
        return [f"worked {number}" for number in group]

    outcomes = list(
        batched_outcomes(
            sources_of(len(keys)),
            read,
            lambda number: (keys[number], 1, 1),
            work,
            lambda source, error: f"failed {number_of(source)} {type(error).__name__}",
            size=lambda source: 1,
            batch=batch,
            workers=workers,
        )
    )
    assert outcomes == [
        f"failed {number} {'InputError' if number % 2 else 'MemoryError'}" if number in bad else f"worked {number}"
        for number in range(len(keys))
    ]


@pytest.mark.parametrize(("pixels", "most"), [(4096 * 4096, 1), (2048 * 2048, 4), (512 * 512, 4)])
def test_large_pictures_do_not_go_through_the_networks_together(pixels: int, most: int) -> None:
    """Whatever the number of threads is."""
    lock, running, largest = threading.Lock(), [0], [0]

    def work(group: Sequence[int]) -> list[int]:
        with lock:
            running[0] += 1
            largest[0] = max(largest[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return list(group)

    kinds = batched_outcomes(
        sources_of(16),
        number_of,
        lambda number: (number, 1, pixels),
        work,
        lambda source, error: -1,
        size=number_of,
        batch=4,
        workers=4,
    )
    assert list(kinds) == list(range(16))
    assert largest[0] <= most


def test_no_more_is_read_than_is_needed_soon() -> None:
    read: list[int] = []

    def reading(source: Source) -> int:
        read.append(number_of(source))
        return number_of(source)

    outcomes = batched_outcomes(
        sources_of(1000), reading, alike, list, lambda source, error: -1, size=number_of, batch=4, workers=2
    )
    for number in range(100):
        assert next(outcomes) == number
    assert len(read) < 100 + 60
    outcomes.close()
    so_far = len(read)
    time.sleep(0.1)
    assert len(read) == so_far
    assert next(outcomes, None) is None


def test_torch_has_one_thread_meanwhile() -> None:
    before = torch.get_num_threads()
    threads = batched_outcomes(
        sources_of(3),
        number_of,
        alike,
        lambda group: [torch.get_num_threads() for _ in group],
        lambda source, error: -1,
        size=number_of,
        batch=2,
        workers=1,
    )
    assert list(threads) == [1, 1, 1]
    assert torch.get_num_threads() == before


def test_other_errors_are_faults_of_ours_and_pass() -> None:
    def broken(source: Source) -> int:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        list(
            batched_outcomes(
                sources_of(3), broken, alike, list, lambda source, error: 0, size=number_of, batch=2, workers=2
            )
        )
