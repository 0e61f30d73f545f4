"""Threads that leave no encoder process behind, and a temporary file that disappears with the process."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from featcodec.errors import OutputError
from featcodec.system.batching import read_ahead
from featcodec.video.process import kill_owned_by, owned_by

T = TypeVar("T")
R = TypeVar("R")


class Crew:
    """Threads for a `with` block. When the block ends, even by an error, none of their encoder processes is left.

    Args:
        workers: the number of threads.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers)

    def map(
        self, function: Callable[[T], R], items: Iterable[T], size: Callable[[T], int] = lambda item: 0
    ) -> Iterator[R]:
        """Yield `function(item)` for each item, in order. Only a limited number of items runs ahead of the consumer.

        `size` returns the most bytes of an item and its result; these bytes are limited too.
        """

        def work(item: T) -> R:
            with owned_by(self):
                return function(item)

        return read_ahead(self._pool, work, items, 2 * self.workers, size)

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = threading.Thread(target=self._pool.shutdown, kwargs={"cancel_futures": True})
        ending.start()
        while ending.is_alive():
            kill_owned_by(self)
            ending.join(0.01)


class Spool:
    """Arrays of bytes in a temporary file. The file disappears with this process, even when the process is killed.

    Raises:
        OutputError: the disk has no room for the file. `write` and `read` raise this too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end = 0
        try:
            self._file = tempfile.TemporaryFile(prefix="featcodec-")  # noqa: SIM115  (closed by `close`)
        except OSError as error:
            raise _no_room(error) from None

    def write(self, array: npt.NDArray[np.uint8]) -> int:
        """Store an array. Returns its position in the file."""
        data = np.ascontiguousarray(array).tobytes()
        try:
            with self._lock:
                position = self._end
                self._file.seek(position)
                self._file.write(data)
                self._file.flush()
                self._end += len(data)
        except OSError as error:
            raise _no_room(error) from None
        return position

    def read(self, position: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Read the array with this shape from this position."""
        try:
            with self._lock:
                self._file.seek(position)
                data = self._file.read(math.prod(shape))
        except OSError as error:
            raise _no_room(error) from None
        return np.frombuffer(data, np.uint8).reshape(shape)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def _no_room(error: OSError) -> OutputError:
    return OutputError(f"no room for temporary files ({error.strerror}); free the disk or point TMPDIR elsewhere")
