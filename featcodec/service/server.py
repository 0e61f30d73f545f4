"""Runs an application on this machine: uvicorn with our bounds, and an end that answers what is in work."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from featcodec.errors import ServiceError
from featcodec.service.connections import protocols
from featcodec.service.service import Service

log = logging.getLogger("featcodec.service")
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")
_KEEP_ALIVE_SECONDS = 30
_PING_SECONDS = 20.0
_BACKLOG = 256
_CLOSE_SECONDS = 2
"""How long connections may take to close when all is answered."""
_HEADER_BYTES = 64
"""More than the header of a frame's message."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: a name or address.
        port: 0 means any free one.

    Raises:
        ServiceError: the address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ServiceError(f"{host}: is not an address of this machine ({error}); choose another `host`") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        is_taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        remedy = "choose another `port`, or 0 for any that is free" if is_taken else "choose another `host`"
        raise ServiceError(f"{host}:{port}: cannot be served ({error.strerror}); {remedy}") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """The address of a socket that listens, for people."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server for one application. It ends when `should_exit` is set, and first answers what is in work.

    Args:
        application: from `create_application`.
    """

    def __init__(self, application: FastAPI) -> None:
        self.service: Service = application.state.service
        settings = self.service.settings
        http, websocket = protocols(settings)
        super().__init__(
            uvicorn.Config(
                application,
                http=http,
                ws=websocket,
                ws_max_size=settings.max_body + _HEADER_BYTES,
                ws_ping_interval=_PING_SECONDS,
                ws_ping_timeout=_PING_SECONDS,
                ws_per_message_deflate=False,  # bitstreams are compressed already
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_CLOSE_SECONDS,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
            )
        )
        self.service.count_connections = lambda: len(self.server_state.connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone; `serve` handles them."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """First answer what is in work. Meanwhile, /readyz says 503."""
        log.info("ending")
        await self.service.end()
        await super().shutdown(sockets)


def serve(application: FastAPI, listener: socket.socket, started: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal asks for the end (SIGTERM, SIGINT or SIGHUP). After a second one, it
    waits for no more answers.

    Args:
        application: from `create_application`.
        listener: from `listen`; it is closed at the end.
        started: called when clients can connect.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)  # it would log what any client does wrong
    server = Server(application)
    with contextlib.closing(listener):
        asyncio.run(_run(server, listener, started))


async def _run(server: Server, listener: socket.socket, started: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        if server.should_exit:
            server.service.engine.abandon()
        server.should_exit = True

    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            loop.add_signal_handler(number, end)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        started()
    await serving
    log.info("ended")
