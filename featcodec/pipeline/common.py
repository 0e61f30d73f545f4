"""Common parts of encoding and decoding many files: memory limits, and batches in which one bad item fails alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from featcodec.errors import FeatcodecError, reason_of
from featcodec.system.allocator import return_large_blocks
from featcodec.system.batching import REQUESTS, ROOM, Batcher, Budget, cores, in_order, parts, read_ahead
from featcodec.system.elsewhere import Elsewhere, state_of
from featcodec.system.paths import Source
from featcodec.system.torch_threads import beside_other_work

WAITING_IMAGES = 32
"""The number of images that may overtake an image that waits for others of its shape."""

_NETWORK_BATCH = {"cpu": 4, "mps": 8, "cuda": 16}
NETWORK_PIXELS = 4 << 20
"""The largest number of letterboxed pixels in a batch of the networks: four images of 1024x1024."""
_ROOM_PER_WORKER = 64 << 20

T = TypeVar("T")
R = TypeVar("R")
J = TypeVar("J")


def network_batch(device_type: str) -> int:
    """Return how many images of one shape the networks take at once on a device: cpu, cuda or mps."""
    return _NETWORK_BATCH[device_type]


def network_parts(group: Sequence[T], pixels: int) -> Iterator[Sequence[T]]:
    """Split the group into parts that fit the memory of the networks, in order.

    Args:
        group: items of equal shape.
        pixels: letterboxed pixels of the largest item, at least 1.
    """
    return parts(group, max(1, NETWORK_PIXELS // pixels))


def most_pixels(count: int, pixels: int) -> int:
    """Return how many letterboxed pixels `network_parts` gives the networks at once, for `count` items of `pixels`."""
    return min(count * pixels, max(NETWORK_PIXELS, pixels))


def one_bad_apart(
    run: Callable[[Sequence[T]], Sequence[R]], group: Sequence[T], pixels: int
) -> Iterator[tuple[T, R | str]]:
    """Run networks on a group in batches that fit the memory. If a batch fails, run them on each of its items alone.

    Args:
        run: takes items and returns a result for each.
        group: items of equal shape.
        pixels: letterboxed pixels of the largest item.

    Yields:
        each item with its result, or with one line that says what went wrong.
    """
    if pixels > NETWORK_PIXELS:
        return_large_blocks()
    for batch in network_parts(group, pixels):
        try:
            results = run(batch)
        except (FeatcodecError, RuntimeError, MemoryError) as error:  # torch's allocators raise RuntimeError
            if len(batch) > 1:
                for item in batch:
                    yield from one_bad_apart(run, [item], pixels)
            elif isinstance(error, FeatcodecError):
                yield batch[0], str(error)
            else:
                reason = reason_of(error, "out of memory")
                yield batch[0], f"the networks failed on it ({reason}); use a smaller `image_size` or another `device`"
        else:
            yield from zip(batch, results, strict=True)


def batched_outcomes(  # noqa: PLR0913  (each is a step of the pipeline or a bound)
    sources: Sequence[Source],
    read: Callable[[Source], J],
    kind: Callable[[J], tuple[Hashable, int, int]],
    work: Callable[[Sequence[J]], Sequence[R]],
    failure: Callable[[Source, Exception], R],
    *,
    size: Callable[[Source], int],
    batch: int,
    workers: int | None = None,
    interrupt: Callable[[], None] = lambda: None,
) -> Generator[R, None, None]:
    """Yield one outcome per file, in the order of the sources. The memory does not grow with the number of files.

    Each thread does whole steps and uses one CPU thread of torch. Threads that work together on one convolution would
    wait for each other, and much longer on cores that other programs also use.

    Items wait for others of their kind, so `read` returns them as small as it can. For large pictures, fewer threads
    run networks at a time: the pixels of all of them together are limited.

    Args:
        sources: the files.
        read: makes a file ready for `work`. After a FeatcodecError or MemoryError only this file fails.
        kind: returns what must be equal in a batch, the bytes of an item, and its letterboxed pixels.
        work: runs the networks on a batch; returns an outcome for each of its items, in order.
        failure: returns the outcome of a file that could not be read.
        size: returns the most bytes that the item of a file can have, before it is read.
        batch: largest number of items in a batch.
        workers: number of threads; None means one per core.
        interrupt: makes running threads end soon; called if the run ends before its end.
    """
    workers = workers or cores()
    room = max(ROOM, workers * _ROOM_PER_WORKER)
    batches: Batcher[tuple[int, J]] = Batcher(batch, WAITING_IMAGES, room)
    at_once = Budget(workers * NETWORK_PIXELS)
    running: deque[Future[list[tuple[int, R]]]] = deque()

    def ready(source: Source) -> J | Exception:
        try:
            return read(source)
        except (FeatcodecError, MemoryError) as error:
            return error

    def finish(group: Sequence[tuple[int, J]]) -> list[tuple[int, R]]:
        items = [item for _, item in group]
        with at_once.holding(most_pixels(len(items), kind(items[0])[2])):
            outcomes = work(items)
        return [(number, outcome) for (number, _), outcome in zip(group, outcomes, strict=True)]

    def finished(at_most: int) -> Iterator[tuple[int, R]]:
        while running and (len(running) > at_most or running[0].done()):
            yield from running.popleft().result()

    def roughly_in_order() -> Iterator[tuple[int, R]]:
        made_ready = read_ahead(readers, ready, sources, 2 * workers + batch, size, room)
        for number, (source, item) in enumerate(zip(sources, made_ready, strict=True)):
            if isinstance(item, Exception):
                yield number, failure(source, item)
            else:
                same, weight, _ = kind(item)
                running.extend(pool.submit(finish, group) for group in batches.add(same, (number, item), weight))
            yield from finished(2 * workers)
        running.extend(pool.submit(finish, group) for group in batches.rest())
        yield from finished(0)

    pool = ThreadPoolExecutor(workers)
    is_local = not any(isinstance(source.path, Elsewhere) for source in sources)
    readers = pool if is_local else ThreadPoolExecutor(REQUESTS)  # else networks would wait for a network of cables
    try:
        with beside_other_work(threads=1):
            yield from in_order(roughly_in_order())
    except BaseException:
        interrupt()
        raise
    finally:
        for each in (readers, pool):
            each.shutdown(wait=True, cancel_futures=True)


def file_size(source: Source) -> int:
    """Return the bytes of a file, 0 if it cannot be found. Reading it will say why."""
    found = state_of(source.path)
    return 0 if found is None else found.size
