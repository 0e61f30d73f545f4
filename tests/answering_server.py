"""A WebSocket server for tests of the edge: it speaks the protocol, and answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve

from featcodec import FeatureCodec
from featcodec.bitstream import unpack
from featcodec.edge.messages import Answer, FrameMessage

Respond = Callable[[FrameMessage], "Answer | str | bytes | list[Answer | str | bytes] | None"]


class AnsweringServer:
    """A server on a free port of this machine.

    Args:
        respond: what it answers to a frame; None answers nothing, a list several messages.
        token: the token that it asks for.
        settings: further settings of `websockets.serve`, for example `ssl`.

    Attributes:
        url: ws://127.0.0.1:PORT.
        connections: how many there were.
        frames: what came, in order.
    """

    def __init__(self, respond: Respond, token: str | None = None, port: int = 0, **settings: Any) -> None:
        self.connections = 0
        self.frames: list[FrameMessage] = []
        self.paths: list[str] = []
        self.open: set[ServerConnection] = set()
        self._respond = respond
        self._token = token
        self._settings = settings
        self.port = port
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def __enter__(self) -> AnsweringServer:
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop)
        self._thread.join()

    def call(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine function in the server's loop."""

        async def run() -> Any:
            return await function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    async def abort_all(self) -> None:
        """Cut every connection, without a word."""
        for socket in list(self.open):
            socket.transport.abort()

    async def _stop(self) -> None:
        self._over.set()

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server: Server
        async with serve(
            self._handle, "127.0.0.1", self.port, process_request=self._check, close_timeout=1, **self._settings
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._started.set()
            await self._over.wait()

    def _check(self, socket: ServerConnection, request: Any) -> Any:
        self.paths.append(request.path)
        if self._token is not None and request.headers.get("Authorization") != f"Bearer {self._token}":
            return socket.respond(401, "wrong token\n")
        return None

    async def _handle(self, socket: ServerConnection) -> None:
        self.connections += 1
        self.open.add(socket)
        with contextlib.suppress(Exception):  # however the client ends
            async for data in socket:
                assert isinstance(data, bytes)
                message = FrameMessage.from_bytes(data)
                self.frames.append(message)
                said = await asyncio.to_thread(self._respond, message)
                for each in said if isinstance(said, list) else [said]:
                    if each is not None:
                        await socket.send(each.to_json() if isinstance(each, Answer) else each)
        self.open.discard(socket)


def decoded(codec: FeatureCodec) -> Respond:
    """Answers with the real detections of a codec."""

    def respond(message: FrameMessage) -> Answer:
        side_info, _ = unpack(message.stream)
        found = codec.decode(message.stream)
        rows = [
            {name: row[name] for name in ("category_id", "category_name", "bbox", "score")} for row in found.to_coco(0)
        ]
        size = {"width": found.width, "height": found.height}
        return Answer(
            message.number, message.captured, 200, detections=rows, size=len(message.stream), qp=side_info.qp, **size
        )

    return respond


def nothing_found(message: FrameMessage) -> Answer:
    """Answers at once that there is nothing to see."""
    return Answer(message.number, message.captured, 200, width=64, height=48, size=len(message.stream), qp=30)


@contextlib.contextmanager
def answering(respond: Respond = nothing_found, **settings: Any) -> Iterator[AnsweringServer]:
    with AnsweringServer(respond, **settings) as server:
        yield server
