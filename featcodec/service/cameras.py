"""The WebSocket of a source: frames come in, answers go out, each bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from featcodec.edge.messages import Answer, FrameMessage
from featcodec.errors import ServiceError
from featcodec.service.access import admit
from featcodec.service.answers import answer_of
from featcodec.service.bodies import too_long
from featcodec.service.refusals import RefusedError, ending
from featcodec.service.service import Service

DEFAULT_SOURCE = "camera"
MOST_CHARACTERS = 64
_UNSUPPORTED, _POLICY, _LATER = 1003, 1008, 1013
_GONE = (WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError)
"""What sending raises when the client has gone, or takes nothing."""


@contextlib.asynccontextmanager
async def connected(service: Service, socket: WebSocket, kind: str) -> AsyncIterator[bool]:
    """A WebSocket in a block: admitted, counted, and closed at the end. Yields False if it is refused.

    Args:
        service: which has room for it, or not.
        socket: not accepted yet.
        kind: stream or live, for metrics.
    """
    if not await admit(socket, service.settings.token):
        service.metrics.refused("token")
        yield False
        return
    try:
        service.join(socket)
    except RefusedError as error:
        service.metrics.refused(error.reason)
        await socket.close(_LATER, str(error)[:120])
        yield False
        return
    gauge = service.metrics.connections.labels(kind)
    gauge.inc()
    try:
        yield True
    except _GONE:
        pass
    finally:
        gauge.dec()
        service.leave(socket)
        if socket.application_state is not WebSocketState.DISCONNECTED:
            with contextlib.suppress(*_GONE):
                await asyncio.wait_for(socket.close(), service.settings.send_seconds)


async def serve_source(service: Service, socket: WebSocket) -> None:
    """Serve the WebSocket of a source until it closes."""
    async with connected(service, socket, "stream") as is_admitted:
        if not is_admitted:
            return
        name = socket.query_params.get("source", DEFAULT_SOURCE)
        if not 0 < len(name) <= MOST_CHARACTERS or not name.isprintable():
            await socket.close(
                _POLICY, f"the name of a source has 1 to {MOST_CHARACTERS} printable characters; choose another"
            )
            return
        await _Source(service, socket, name).run()


class _Source:
    def __init__(self, service: Service, socket: WebSocket, name: str) -> None:
        self._service = service
        self._socket = socket
        self._state = service.hub.open_source(name)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            while (data := await self._received()) is not None:
                await self._take(data)
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
            await self._socket.close(_UNSUPPORTED, "frames are binary messages")
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
        elif len(self._tasks) >= settings.max_in_flight:
            detail = f"{settings.max_in_flight} frames of this source are not answered yet; send fewer per second"
            await self._refuse(RefusedError(429, "in_flight", detail), message)
        else:
            task = asyncio.create_task(self._work(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, message: FrameMessage) -> None:
        size = len(message.stream)
        try:
            with self._service.room.part() as part:
                part.grow(size)
                self._service.metrics.received.inc(size)
                outcome = await self._service.decode(message.stream)
        except RefusedError as error:
            await self._refuse(error, message)
            return
        answer = answer_of(outcome, size, message.number, message.captured)
        self._service.hub.show(self._state, answer)
        self._service.interceptor.see(self._state, message.number, outcome.side_info, outcome.frame)
        await self._send(answer)

    async def _refuse(self, error: RefusedError, message: FrameMessage | None = None) -> None:
        self._service.metrics.refused(error.reason)
        self._state.refused += 1
        if message is None:
            await self._send(error.answer())
        else:
            await self._send(error.answer(message.number, message.captured, len(message.stream)))

    async def _send(self, answer: Answer) -> None:
        try:
            await asyncio.wait_for(self._socket.send_text(answer.to_json()), self._service.settings.send_seconds)
        except _GONE:
            with contextlib.suppress(*_GONE):
                await self._socket.close(_POLICY, "too slow")
