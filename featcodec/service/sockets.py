"""What the WebSockets of sources and pages share: how they open and close, and how they are written to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from featcodec.errors import reason_of
from featcodec.service.access import admit
from featcodec.service.refusals import RefusedError
from featcodec.service.service import Service

log = logging.getLogger("featcodec.service")
UNSUPPORTED, POLICY, TRY_LATER = 1003, 1008, 1013
"""Codes of RFC 6455 and its registry with which a WebSocket closes."""
_MOST_REASON = 120
"""Bytes of a reason, of the 123 that a WebSocket may give."""


_FAILED = (WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError)
"""What the libraries raise if a client has gone, or takes nothing."""


class GoneError(Exception):
    """The client has gone, or takes nothing."""


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
        await refuse(service, socket, error)
        yield False
        return
    gauge = service.metrics.connections.labels(kind)
    gauge.inc()
    try:
        yield True
    except (GoneError, WebSocketDisconnect):
        pass
    except Exception as error:
        log.error("a WebSocket failed: %s: %s", type(error).__name__, reason_of(error))
    finally:
        gauge.dec()
        service.leave(socket)
        if socket.application_state is WebSocketState.CONNECTED:
            await close(socket, service.settings.send_seconds)


async def refuse(service: Service, socket: WebSocket, error: RefusedError) -> None:
    """Close a WebSocket that is accepted, but for which there is no room."""
    service.metrics.refused(error.reason)
    await close(socket, service.settings.send_seconds, TRY_LATER, str(error))


async def send(socket: WebSocket, text: str, seconds: float) -> None:
    """Send a message.

    Raises:
        GoneError: the client has gone, or does not take it in time.
    """
    try:
        await asyncio.wait_for(socket.send_text(text), seconds)
    except _FAILED:
        raise GoneError from None


async def close(socket: WebSocket, seconds: float, code: int = 1000, reason: str = "") -> None:
    """Close a WebSocket, also one whose client has gone."""
    with contextlib.suppress(*_FAILED):
        await asyncio.wait_for(socket.close(code, reason[:_MOST_REASON]), seconds)
