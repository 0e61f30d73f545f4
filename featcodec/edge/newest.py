"""The newest picture of a camera: a thread reads on, and what is overtaken is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass

from featcodec.edge.cameras import Camera, Note, Pixels
from featcodec.errors import FeatcodecError, InputError, reason_of


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of a camera.

    Attributes:
        number: 0, 1, 2, ... of the camera's pictures, those counted that were dropped.
        captured: microseconds since 1970 (UTC).
        at: the same moment on the monotonic clock, in seconds.
        pixels: (height, width, 3) uint8 RGB.
    """

    number: int
    captured: int
    at: float
    pixels: Pixels


class Newest:
    """Reads a camera in a thread and keeps only the newest picture. Use it in one event loop, as a context manager.

    Args:
        camera: where pictures come from.
        note: called, in the thread, with a line about what went wrong.
        frames: read this many pictures at most; None means all.

    Attributes:
        frames: pictures that the camera gave.
        overtaken: of these, how many were dropped because a newer one came.
        unreadable: of these, how many could not be read.
    """

    def __init__(self, camera: Camera, note: Note, frames: int | None = None) -> None:
        self.frames = self.overtaken = self.unreadable = 0
        self._camera = camera
        self._note = note
        self._most = frames
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._shot: Shot | None = None
        self._error: InputError | None = None
        self._is_over = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Newest:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, which closes the camera. A camera that says nothing is waited for up to its own timeout."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def start(self) -> None:
        """Begin to read, unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
            self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether the camera has no further pictures; the last one may still wait."""
        return self._is_over

    @property
    def is_over(self) -> bool:
        """Whether the camera has no further pictures, and the last one was taken."""
        return self._is_over and self._shot is None

    async def take(self) -> Shot | None:
        """The newest picture that was not taken yet; waits for it. None when the camera has no more.

        Raises:
            InputError: the camera failed.
        """
        while True:
            self._news.clear()
            with self._lock:
                shot, self._shot = self._shot, None
            if shot is not None:
                return shot
            if self._is_over:
                if self._error is not None:
                    raise self._error
                return None
            await self._news.wait()

    def _read(self) -> None:
        try:
            with contextlib.closing(self._camera.pictures(self._stop, self._note)) as pictures:
                for pixels in pictures:
                    if self._stop.is_set():
                        break
                    self._put(pixels)
                    if self.frames == self._most:
                        break
        except FeatcodecError as error:
            self._error = InputError(str(error))
        except Exception as error:  # a hostile video can make a decoder raise anything; the run must learn of it
            self._error = InputError(f"{self._camera.name}: cannot be read ({reason_of(error)}); check the camera")
        finally:
            self._is_over = True
            self._wake()

    def _put(self, pixels: Pixels | None) -> None:
        number, self.frames = self.frames, self.frames + 1
        if pixels is None:
            self.unreadable += 1
            return
        shot = Shot(number, time.time_ns() // 1000, time.monotonic(), pixels)
        with self._lock:
            self.overtaken += self._shot is not None
            self._shot = shot
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._news.set)
