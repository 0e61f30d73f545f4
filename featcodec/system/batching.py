"""Building blocks of the pipelines: read ahead, group by shape. Memory does not grow with the number of items."""

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
    """`map(function, items)`, in order. A pool computes the results, at most `depth` items ahead of the consumer."""
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
    """The items in order, in parts of `size` items; the last part may be smaller.

    Args:
        items: any number of items.
        size: at least 1.
    """
    return (items[start : start + size] for start in range(0, len(items), size))


class Batcher(Generic[T]):
    """Groups items with the same key into batches.

    Args:
        size: items in a full batch.
        limit: at most this many items wait. After so many later items, a group leaves even if it is not full.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        self._taken = 0
        self._groups: dict[Hashable, list[T]] = {}
        self._since: dict[Hashable, int] = {}

    def add(self, key: Hashable, item: T) -> Iterator[list[T]]:
        """Add an item. Yields the batches that leave now; the batch that waited longest comes first."""
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
        """Take out the largest group. Without groups, returns an empty list."""
        if not self._groups:
            return []
        return self._take(max(self._groups, key=lambda key: len(self._groups[key])))

    def rest(self) -> Iterator[list[T]]:
        """Take out all groups, the largest first."""
        while group := self.largest():
            yield group


def in_order(results: Iterable[tuple[int, R]]) -> Iterator[R]:
    """Put results that are numbered from 0 back into order. Only results that come too early are held back."""
    early: dict[int, R] = {}
    expected = 0
    for number, result in results:
        early[number] = result
        while expected in early:
            yield early.pop(expected)
            expected += 1
