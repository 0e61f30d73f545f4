"""Building blocks of the pipelines: read ahead, group by shape. Memory does not grow with the number of items."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from featcodec.system.elsewhere import Elsewhere, State, state_of

ROOM = 256 << 20
"""Bytes of items that may wait at one place of a pipeline, unless a single item is larger."""

REQUESTS = 8
"""Files that are read at once where each waits for an answer of a network."""

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def read_ahead(
    pool: Executor,
    function: Callable[[T], R],
    items: Iterable[T],
    depth: int,
    size: Callable[[T], int] = lambda item: 0,
    room: int = ROOM,
) -> Iterator[R]:
    """`map(function, items)`, in order. A pool computes the results ahead of the consumer.

    Args:
        pool: computes the results.
        function: makes a result from an item.
        items: any number of items.
        depth: at most so many items are ahead.
        size: returns the most bytes that the result of an item can have.
        room: at most so many bytes are ahead, or a single item.
    """
    waiting: deque[tuple[Future[R], int]] = deque()
    ahead = 0
    try:
        for item in items:
            wanted = size(item)
            while waiting and ahead + wanted > room:
                future, freed = waiting.popleft()
                ahead -= freed
                yield future.result()
            waiting.append((pool.submit(function, item), wanted))
            ahead += wanted
            # Before the next item is asked for: it may be large, too.
            if len(waiting) >= depth:
                future, freed = waiting.popleft()
                ahead -= freed
                yield future.result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        for future, _ in waiting:
            future.cancel()


def map_reading(function: Callable[[Path], R], paths: Sequence[Path]) -> Iterator[R]:
    """`map(function, paths)`, in order, for a function that reads a file. Answers of a network are waited for together.

    Args:
        function: makes a result from a file. The result is not larger than the file.
        paths: the files.
    """
    if not any(isinstance(path, Elsewhere) for path in paths):
        yield from map(function, paths)
        return
    with ThreadPoolExecutor(REQUESTS) as pool:
        yield from read_ahead(pool, function, paths, 4 * REQUESTS, lambda path: (state_of(path) or State(0, 0)).size)


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, in parts of `size` items; the last part may be smaller.

    Args:
        items: any number of items.
        size: at least 1.
    """
    return (items[start : start + size] for start in range(0, len(items), size))


class Budget:
    """An amount of memory that threads share. Who needs more than is left waits; who came first goes first.

    Who needs more than the whole budget gets it alone. So nobody waits without end, as long as nobody asks for a second
    part while it holds one.

    Args:
        amount: the whole budget, at least 1.
    """

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.reset()

    def reset(self) -> None:
        """Forget all threads. A new process needs this, because threads of its parent do not run in it."""
        self._left = self.amount
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, part: int) -> Iterator[None]:
        """Hold a part of the budget in a block; first wait for it."""
        part, ticket = min(part, self.amount), object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and part <= self._left)
                self._left -= part
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._left += part
                self._changed.notify_all()


class Batcher(Generic[T]):
    """Groups items with the same key into batches.

    Args:
        size: items in a full batch.
        limit: at most this many items wait. After so many later items, a group leaves even if it is not full.
        room: at most this many bytes wait. If there are more, groups leave that are not full.
    """

    def __init__(self, size: int, limit: int, room: int = ROOM) -> None:
        self.size = size
        self.limit = limit
        self.room = room
        self._taken = 0
        self._groups: dict[Hashable, list[T]] = {}
        self._since: dict[Hashable, int] = {}
        self._bytes: dict[Hashable, int] = {}

    def add(self, key: Hashable, item: T, size: int = 0) -> Iterator[list[T]]:
        """Add an item. Yields the batches that leave now; the batch that waited longest comes first.

        Args:
            key: what is equal in a batch.
            item: the item.
            size: bytes of the item.
        """
        self._taken += 1
        self._groups.setdefault(key, []).append(item)
        self._since.setdefault(key, self._taken)
        self._bytes[key] = self._bytes.get(key, 0) + size
        for waiting, since in list(self._since.items()):
            is_full = len(self._groups[waiting]) >= self.size
            if is_full or self._taken - since >= self.limit or sum(self._bytes.values()) > self.room:
                yield self._take(waiting)

    def _take(self, key: Hashable) -> list[T]:
        del self._since[key], self._bytes[key]
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
