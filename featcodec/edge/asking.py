"""Asks a server for the detections of one picture after the other, from a program without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time

from featcodec.edge.cameras import Note, Pixels
from featcodec.edge.link import Link
from featcodec.edge.live import OTHER_NETWORKS, UNAUTHORIZED, Edge
from featcodec.edge.messages import Answer, FrameMessage
from featcodec.errors import ServiceError

_MOST_IN_FLIGHT = 4
_FORGET = 5.0
"""Seconds after which a frame without an answer does not count as in flight any more."""


class RemoteDetector:
    """The edge here and a server elsewhere, as one detector. Use it as a context manager, in one thread.

    Args:
        edge: codes pictures.
        url: of `server_url.stream_url`.
        token: the server's token, or None.
        qp: of every frame.
        deadline: seconds that a picture may take.
        note: called, in a thread, with a line about what goes wrong and is tried again.
    """

    def __init__(self, edge: Edge, url: str, token: str | None, qp: int, deadline: float, note: Note) -> None:
        self._edge = edge
        self._url = url
        self._token = token
        self._qp = qp
        self._deadline = deadline
        self._note = note
        self._waiting: dict[int, tuple[float, concurrent.futures.Future[Answer]]] = {}
        self._next_number = 0
        self._error: ServiceError | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._work, name="link", daemon=True)

    def __enter__(self) -> RemoteDetector:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def detect(self, pixels: Pixels) -> Answer | None:
        """What the server says of a picture, or None: no connection, or no answer within the deadline.

        When the link ends for good, pictures are None until the next call, or `check`, says why.

        Args:
            pixels: (height, width, 3) uint8 RGB.

        Raises:
            ServiceError: the server refuses the token or these networks, or is not a featcodec server.
            FeatcodecError: the picture cannot be coded.
        """
        until = time.monotonic() + self._deadline
        self.check()
        if not self._link.is_open.is_set():
            return None
        stream = self._edge.encode(pixels, self._qp)
        answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        asyncio.run_coroutine_threadsafe(self._send(stream, answer), self._loop)
        try:
            return answer.result(max(0.0, until - time.monotonic()))
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            self.check()
            return None

    def check(self) -> None:
        """Raise what ended the link, if it has ended.

        Raises:
            ServiceError: as in `detect`.
        """
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except ServiceError as error:
            self._error = error
        finally:
            self._lost()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = Link(self._url, self._token, self._answered, self._lost, self._note)
        self._task = asyncio.create_task(self._link.run())
        self._started.set()
        await self._task

    async def _send(self, stream: bytes, answer: concurrent.futures.Future[Answer]) -> None:
        now = time.monotonic()
        for number in [number for number, (sent, _) in self._waiting.items() if now - sent > _FORGET]:
            del self._waiting[number]
        if len(self._waiting) >= _MOST_IN_FLIGHT:  # they would wait for each other
            answer.cancel()
            return
        number, self._next_number = self._next_number, self._next_number + 1
        self._waiting[number] = now, answer
        if not await self._link.send(FrameMessage(number, time.time_ns() // 1000, stream).to_bytes()):
            answer.cancel()

    def _answered(self, answer: Answer) -> None:
        if answer.status in (UNAUTHORIZED, OTHER_NETWORKS):
            raise ServiceError(f"the server refuses these frames: {answer.detail or answer.reason or answer.status}")
        _, waiting = self._waiting.pop(-1 if answer.frame is None else answer.frame, (0.0, None))
        if waiting is not None and waiting.set_running_or_notify_cancel():
            waiting.set_result(answer)

    def _lost(self) -> None:
        for _, answer in self._waiting.values():
            answer.cancel()
        self._waiting.clear()
        self._next_number = 0
