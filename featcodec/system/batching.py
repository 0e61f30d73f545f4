"""Bounded building blocks of the pipelines: read ahead, group by shape. Memory never grows with the number of items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def read_ahead(pool: Executor, function: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
    """`map(function, items)` in order, computed in a pool at most `depth` items ahead of the consumer."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, in parts of `size`; the last part may be smaller.

    Args:
        items: any number.
        size: at least 1.
    """
    return (items[start : start + size] for start in range(0, len(items), size))


class Batcher(Generic[T]):
    """Groups items of equal key into batches.

    Args:
        size: items in a full batch.
        limit: how many later items may overtake a waiting one; then its group leaves as it is. So many wait at most.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        self._taken = 0
        self._groups: dict[Hashable, list[T]] = {}
        self._since: dict[Hashable, int] = {}

    def add(self, key: Hashable, item: T) -> Iterator[list[T]]:
        """Take an item; yields the batches that are to be worked on now, the longest waiting first."""
        self._taken += 1
        self._groups.setdefault(key, []).append(item)
        self._since.setdefault(key, self._taken)
        for waiting, since in list(self._since.items()):
            if len(self._groups[waiting]) >= self.size or self._taken - since >= self.limit:
                yield self._take(waiting)

    def _take(self, key: Hashable) -> list[T]:
        del self._since[key]
        return self._groups.pop(key)

    def largest(self) -> list[T]:
        """Take out the largest group, or an empty list."""
        if not self._groups:
            return []
        return self._take(max(self._groups, key=lambda key: len(self._groups[key])))

    def rest(self) -> Iterator[list[T]]:
        """Take out all groups, largest first."""
        while group := self.largest():
            yield group


def in_order(results: Iterable[tuple[int, R]]) -> Iterator[R]:
    """Restore the order of results numbered from 0; holds back only what came too early."""
    early: dict[int, R] = {}
    expected = 0
    for number, result in results:
        early[number] = result
        while expected in early:
            yield early.pop(expected)
            expected += 1
