"""The newest picture wins, and every picture is counted once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from featcodec.edge.cameras import Note, Pixels
from featcodec.edge.newest import Newest
from featcodec.errors import InputError


class Steps:
    """A camera that gives a picture whenever a test says so."""

    name = "steps"

    def __init__(self, pictures: list[Pixels | None], error: Exception | None = None) -> None:
        self.left = pictures
        self.error = error
        self.turn = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.is_closed = False

    def pictures(self, stop: threading.Event, note: Note) -> Iterator[Pixels | None]:
        try:
            for picture in self.left:
                self.turn.acquire()
                if stop.is_set():
                    return
                yield picture
                self.done.release()
            if self.error is not None:
                raise self.error
        finally:
            self.is_closed = True

    def step(self, count: int = 1) -> None:
        """Give pictures, and wait until the thread asks for the next."""
        for _ in range(count):
            self.turn.release()
            assert self.done.acquire(timeout=20)


def gray(level: int) -> Pixels:
    return np.full((4, 6, 3), level, np.uint8)


def test_what_is_overtaken_is_dropped() -> None:
    camera = Steps([gray(level) for level in range(6)])

    async def main() -> None:
        with Newest(camera, print) as newest:
            newest.start()
            await asyncio.to_thread(camera.step, 1)
            first = await newest.take()
            await asyncio.to_thread(camera.step, 5)
            last = await newest.take()
            assert first is not None
            assert last is not None
            assert (first.number, last.number, int(last.pixels[0, 0, 0])) == (0, 5, 5)
            assert first.captured < last.captured
            assert first.at <= last.at
            assert await newest.take() is None
            assert newest.is_over
            assert (newest.frames, newest.overtaken, newest.unreadable) == (6, 4, 0)

    asyncio.run(main())
    assert camera.is_closed


def test_the_last_picture_is_given_after_the_camera_has_ended() -> None:
    camera = Steps([gray(1), None])

    async def main() -> None:
        with Newest(camera, print) as newest:
            newest.start()
            await asyncio.to_thread(camera.step, 2)
            shot = await newest.take()
            assert shot is not None
            assert shot.number == 0
            assert await newest.take() is None
            assert newest.unreadable == 1

    asyncio.run(main())


def test_no_more_pictures_are_read_than_asked() -> None:
    camera = Steps([gray(level) for level in range(6)])

    async def main() -> None:
        with Newest(camera, print, frames=2) as newest:
            newest.start()
            camera.turn.release(6)
            while await newest.take() is not None:
                pass
            assert newest.frames == 2

    asyncio.run(main())
    assert camera.is_closed


@pytest.mark.parametrize("error", [InputError("steps: is broken"), ZeroDivisionError("division by zero")])
def test_an_error_of_the_camera_reaches_the_run(error: Exception) -> None:
    camera = Steps([gray(1)], error)

    async def main() -> None:
        with Newest(camera, print) as newest:
            newest.start()
            await asyncio.to_thread(camera.step)
            assert await newest.take() is not None
            with pytest.raises(InputError, match="steps: "):
                await newest.take()

    asyncio.run(main())


def test_the_end_of_the_run_closes_the_camera() -> None:
    camera = Steps([gray(1)] * 3)

    async def main() -> None:
        with Newest(camera, print) as newest:
            newest.start()
            await asyncio.to_thread(camera.step)
            camera.turn.release()  # a picture comes while the run ends

    asyncio.run(main())
    assert camera.is_closed
