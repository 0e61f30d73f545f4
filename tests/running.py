"""A real server in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from featcodec import FeatureCodec
from featcodec.edge.messages import Answer, FrameMessage
from featcodec.service.application import create_application
from featcodec.service.server import Server, listen, url_of
from featcodec.service.service import Service
from featcodec.service.settings import Settings

PATIENCE = 60


@dataclass
class Running:
    """A server that runs, and its address."""

    url: str
    service: Service
    server: Server
    thread: threading.Thread

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def end(self) -> None:
        """Ask it to end."""
        self.server.should_exit = True

    def post(self, path: str, content: Any = b"", **options: Any) -> httpx.Response:
        """Send a request."""
        return httpx.post(self.url + path, content=content, timeout=PATIENCE, **options)

    def get(self, path: str) -> httpx.Response:
        """Ask for a page."""
        return httpx.get(self.url + path, timeout=PATIENCE)

    def open(self, path: str, **options: Any) -> ClientConnection:
        """Open a WebSocket."""
        return connect(
            "ws" + self.url.removeprefix("http") + path, open_timeout=PATIENCE, close_timeout=5, proxy=None, **options
        )

    def metric(self, line: str) -> float:
        """The value of a metric; `line` is all that stands before it."""
        for each in self.get("/metrics").text.splitlines():
            if each.startswith(line + " "):
                return float(each.rpartition(" ")[2])
        return 0.0


def frame(number: int, stream: bytes) -> bytes:
    """The message of a frame."""
    return FrameMessage(number, 1_000_000 + number, stream).to_bytes()


def next_answer(socket: ClientConnection) -> Answer:
    """The next answer."""
    return Answer.from_json(socket.recv(timeout=PATIENCE))


@contextlib.contextmanager
def running(codec: FeatureCodec, settings: Settings) -> Iterator[Running]:
    """A server that is ready, for a block."""
    application = create_application(codec, settings, detector="scenes")
    listener = listen("127.0.0.1", 0)
    server = Server(application)
    loop = asyncio.new_event_loop()

    def run() -> None:
        loop.run_until_complete(server.serve([listener]))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started = Running(url_of(listener), application.state.service, server, thread)
    try:
        with httpx.Client(timeout=PATIENCE) as client:
            while client.get(started.url + "/readyz").status_code != 200:
                assert thread.is_alive()
        yield started
    finally:
        started.end()
        thread.join(PATIENCE)
        listener.close()
        assert not thread.is_alive()
