"""The state of one server: its engine, its bounds, and who is connected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from starlette.websockets import WebSocket

from featcodec.codec import FeatureCodec
from featcodec.errors import reason_of
from featcodec.service.bodies import Room
from featcodec.service.engine import Engine, Outcome
from featcodec.service.fair_queue import Client
from featcodec.service.hub import Hub
from featcodec.service.interceptor import Interceptor
from featcodec.service.metrics import Metrics
from featcodec.service.refusals import RefusedError, ending
from featcodec.service.settings import Settings
from featcodec.service.warmup import warm_up
from featcodec.video.isolated import IsolatedCodec

log = logging.getLogger("featcodec.service")
_GOING_AWAY = 1001


class Service:
    """What all handlers of one application share. Lives in one event loop.

    Args:
        codec: the networks, and the video codec of pictures. Its decoder is put into processes.
        settings: the bounds.
        detector: its name, for pages.
    """

    def __init__(self, codec: FeatureCodec, settings: Settings, detector: str = "") -> None:
        if not isinstance(codec.video_codec, IsolatedCodec):
            isolated = IsolatedCodec(codec.video_codec, seconds=settings.decode_seconds)
            codec = replace(codec, video_codec=isolated)
        self.codec = codec
        self.detector = detector
        self.settings = settings
        self.metrics = Metrics()
        self.room = Room(settings.max_bytes)
        self.metrics.held.set_function(lambda: self.room.held)
        self.engine = Engine(codec, settings, self.metrics)
        self.hub = Hub(settings.max_pages, self.metrics)
        self.interceptor = Interceptor(codec, self.hub, self.engine)
        self.sockets: set[WebSocket] = set()
        self.frames: set[asyncio.Task[None]] = set()
        self.count_connections: Callable[[], int] = lambda: len(self.sockets)
        self.is_ready = False
        self.is_ending = False
        self._starting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the engine. `is_ready` follows when one picture has run through it."""
        self.engine.start()
        self.interceptor.start()
        self._starting = asyncio.create_task(self._warm_up())

    async def ready(self) -> None:
        """Wait until the first picture has run through, or failed."""
        if self._starting is not None:
            await self._starting

    async def _warm_up(self) -> None:
        try:
            await asyncio.to_thread(warm_up, self.codec, self.engine, self.settings.workers)
        except Exception as error:
            log.error("not ready, the first picture failed: %s", reason_of(error))
            return
        self.is_ready = not self.is_ending
        log.info("ready: %s decoders", self.settings.workers)

    async def decode(self, stream: bytes, client: Client) -> Outcome:
        """Decode one bitstream of a client.

        Raises:
            RefusedError: why there are no detections.
        """
        if self.is_ending:
            raise ending()
        return await asyncio.wrap_future(self.engine.submit(stream, client))

    def check_open(self) -> None:
        """Check that there is room for the work of one connection more.

        Raises:
            RefusedError: too many are open, or the server ends.
        """
        if self.is_ending:
            raise ending()
        if self.count_connections() > self.settings.max_connections:
            raise RefusedError(429, "connections_full", "too many connections are open; try again later")

    def join(self, socket: WebSocket) -> None:
        """A WebSocket opens.

        Raises:
            RefusedError: too many are open, or the server ends.
        """
        self.check_open()
        self.sockets.add(socket)

    def leave(self, socket: WebSocket) -> None:
        """A WebSocket has closed."""
        self.sockets.discard(socket)

    async def end(self) -> None:
        """Answer what is in work, within `end_seconds`; then tell all sources and pages that the server ends."""
        if self.is_ending:
            return
        self.is_ready, self.is_ending = False, True
        is_done = await asyncio.to_thread(self.engine.drain, self.settings.end_seconds)
        if not is_done:
            log.warning("some frames take over %g s and get no detections", self.settings.end_seconds)
        elif self.frames:
            await asyncio.wait(list(self.frames), timeout=self.settings.send_seconds)  # the last answers are sent
        closing = [self._close(socket) for socket in list(self.sockets)]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _close(self, socket: WebSocket) -> None:
        await asyncio.wait_for(socket.close(_GOING_AWAY, "the server ends"), self.settings.send_seconds)

    async def stop(self) -> None:
        """End all threads and processes."""
        await self.end()
        self.interceptor.stop()
        await asyncio.to_thread(self.engine.stop)
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
