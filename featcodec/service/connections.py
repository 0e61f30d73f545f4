"""Connections with bounds that uvicorn does not have: of heads, of pipelined requests, of time, and of slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from featcodec.service.settings import Settings

RESERVED = 16
"""Connections beside `max_connections`, so that /healthz and /metrics answer when the others are taken."""
_MOST_HEAD_BYTES = 64 << 10
_MOST_PIPELINED = 8
_MOST_UNSENT_BYTES = 1 << 20
_DROP_SECONDS = 2.0
_ABNORMAL = 1006
_FULL_TEXT = b"too many connections are open; try again later"
_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_FULL_TEXT), _FULL_TEXT)
)


class HeadTooLongError(Exception):
    """The head of a request is over the limit."""


def protocols(settings: Settings) -> tuple[type[HttpToolsProtocol], type[WebSocketsSansIOProtocol]]:
    """The protocol classes for uvicorn's `http` and `ws`, with the bounds of the settings."""

    class Http(BoundedHttp):
        bounds = settings

    class WebSocket(BoundedWebSocket):
        bounds = settings

    return Http, WebSocket


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1. A request must come within `body_seconds`, and an answer must be taken within `send_seconds`."""

    bounds: Settings

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._head_bytes = 0
        self._request_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        _notice_dead_peers(transport, self.bounds.send_seconds)
        if len(self.connections) > self.bounds.max_connections + RESERVED:
            transport.write(_FULL)
            transport.close()
            return
        self._start_request_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        _stop(self._request_timer)
        _stop(self._send_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._request_timer is None:
            self._start_request_timer()
        super().data_received(data)
        if len(self.pipeline) > _MOST_PIPELINED:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        _stop(self._request_timer)
        self._request_timer = None
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        _stop(self._request_timer)
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        _stop(self._send_timer)
        self._send_timer = self.loop.call_later(self.bounds.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        _stop(self._send_timer)
        super().resume_writing()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _MOST_HEAD_BYTES:
            raise HeadTooLongError  # httptools makes a parser error of it, and uvicorn answers 400

    def _start_request_timer(self) -> None:
        self._request_timer = self.loop.call_later(self.bounds.body_seconds, self.transport.abort)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose client must take what is sent within `send_seconds`.

    Its unsent bytes are bounded: uvicorn answers pings even if the client reads nothing.
    """

    bounds: Settings

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._is_dropping = False
        self._send_timer: asyncio.TimerHandle | None = None
        self.close_timeout = _DROP_SECONDS
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        _stop(self._send_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_dropping:
            return
        super().data_received(data)
        if self.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            self.transport.abort()

    def handle_parser_exception(self) -> None:
        """Say why with a close frame, and drop what still comes for a moment.

        uvicorn closes at once. But a connection that is closed while bytes come is reset, and then the client does not
        see the close frame.
        """
        said = self.conn.close_sent
        self.queue.put_nowait(
            {
                "type": "websocket.disconnect",
                "code": _ABNORMAL if said is None else said.code,
                "reason": "" if said is None else said.reason,
            }
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self._is_dropping = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_DROP_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        _stop(self._send_timer)
        self._send_timer = self.loop.call_later(self.bounds.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        _stop(self._send_timer)
        super().resume_writing()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _notice_dead_peers(transport: Any, seconds: float) -> None:
    """Let the kernel end a connection whose peer takes no bytes for so long. Only Linux can."""
    connection = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if connection is None or option is None:
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, option, int(1000 * seconds))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
