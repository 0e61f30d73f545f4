"""The WebSocket of a source: frames come in, answers go out, each bounded."""

from __future__ import annotations

import asyncio

from starlette.websockets import WebSocket

from featcodec.edge.messages import Answer, FrameMessage
from featcodec.errors import ServiceError
from featcodec.service.access import address_of
from featcodec.service.answers import answer_of
from featcodec.service.bodies import too_long
from featcodec.service.fair_queue import Client
from featcodec.service.refusals import RefusedError, ending
from featcodec.service.service import Service
from featcodec.service.sockets import POLICY, UNSUPPORTED, GoneError, close, connected, send

DEFAULT_SOURCE = "camera"
MOST_CHARACTERS = 64
_REFUSED_SECONDS = 0.002
_TASKS_PER_FRAME = 2
"""Tasks per frame that may be in work: besides those, answers that are being sent."""


async def serve_source(service: Service, socket: WebSocket) -> None:
    """Serve the WebSocket of a source until it closes."""
    async with connected(service, socket, "stream") as is_admitted:
        if not is_admitted:
            return
        name = socket.query_params.get("source", DEFAULT_SOURCE)
        if not 0 < len(name) <= MOST_CHARACTERS or not name.isprintable():
            seconds = service.settings.send_seconds
            await close(
                socket, seconds, POLICY, f"the name of a source has 1 to {MOST_CHARACTERS} printable characters"
            )
            return
        await _Source(service, socket, name).run()


class _Source:
    """One connection of a source. Each frame in work is a task; a task ends when its answer is sent."""

    def __init__(self, service: Service, socket: WebSocket, name: str) -> None:
        self._service = service
        self._socket = socket
        self._client = Client(address_of(socket, service.settings), id(self))
        self._state = service.hub.open_source(name)
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_work = 0
        self._run = asyncio.current_task()
        self._is_gone = False

    async def run(self) -> None:
        """Take frames until the connection ends.

        Raises:
            GoneError: the client takes no answers.
        """
        try:
            while (data := await self._received()) is not None:
                await self._take(data)
        except asyncio.CancelledError:
            if not self._is_gone:
                raise
            raise GoneError from None
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._service.interceptor.forget(self._state)
            self._service.hub.close_source(self._state)

    async def _received(self) -> bytes | None:
        message = await self._socket.receive()
        if message["type"] != "websocket.receive":
            return None
        data: bytes | None = message.get("bytes")
        if data is None:
            seconds = self._service.settings.send_seconds
            await close(self._socket, seconds, UNSUPPORTED, "frames are binary messages")
        return data

    async def _take(self, data: bytes) -> None:
        """Begin with a frame, or refuse it. A refusal is sent before the next frame is read."""
        try:
            message = FrameMessage.from_bytes(data)
        except ServiceError as error:
            await self._refuse(RefusedError(400, "not_a_frame", str(error)))
            return
        settings = self._service.settings
        if self._service.is_ending:
            await self._refuse(ending(), message)
        elif len(message.stream) > settings.max_body:
            await self._refuse(too_long(settings.max_body), message)
        elif self._in_work >= settings.max_in_flight:
            detail = f"{settings.max_in_flight} frames of this source are not answered yet; send fewer per second"
            await self._refuse(RefusedError(429, "in_flight", detail), message)
        else:
            if len(self._tasks) >= _TASKS_PER_FRAME * settings.max_in_flight:  # the client reads slowly
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._in_work += 1
            task = asyncio.create_task(self._work(message))
            for tasks in (self._tasks, self._service.frames):
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def _work(self, message: FrameMessage) -> None:
        try:
            await self._answer(message)
        except GoneError:
            self._is_gone = True
            if self._run is not None:
                self._run.cancel()

    async def _answer(self, message: FrameMessage) -> None:
        size = len(message.stream)
        try:
            with self._service.room.part() as part:
                part.grow(size)
                self._service.metrics.received.inc(size)
                outcome = await self._service.decode(message.stream, self._client)
        except RefusedError as error:
            self._in_work -= 1
            await self._refuse(error, message)
            return
        self._in_work -= 1  # before the answer is sent: a client may send the next frame as soon as it has it
        answer = answer_of(outcome, size, message.number, message.captured)
        self._service.hub.show(self._state, answer)
        self._service.interceptor.see(self._state, message.number, outcome.side_info, outcome.frame)
        await self._send(answer)

    async def _refuse(self, error: RefusedError, message: FrameMessage | None = None) -> None:
        """Say at once why a frame gets no detections. The next one is read a moment later.

        So a client that floods the server takes little of the time of this thread.
        """
        self._service.metrics.refused(error.reason)
        self._state.refused += 1
        if message is None:
            await self._send(error.answer())
        else:
            await self._send(error.answer(message.number, message.captured, len(message.stream)))
        await asyncio.sleep(_REFUSED_SECONDS)

    async def _send(self, answer: Answer) -> None:
        await send(self._socket, answer.to_json(), self._service.settings.send_seconds)
