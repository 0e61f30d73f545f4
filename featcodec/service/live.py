"""The WebSocket of a page that watches."""

from __future__ import annotations

import asyncio
import contextlib
import json

from starlette.websockets import WebSocket

from featcodec.service.cameras import connected
from featcodec.service.hub import Page
from featcodec.service.refusals import RefusedError
from featcodec.service.service import Service

_LATER = 1013


async def serve_page(service: Service, socket: WebSocket) -> None:
    """Send a page what the sources do, until it closes. What the page sends is read and forgotten."""
    async with connected(service, socket, "live") as is_admitted:
        if not is_admitted:
            return
        try:
            page = service.hub.open_page()
        except RefusedError as error:
            service.metrics.refused(error.reason)
            await socket.close(_LATER, str(error)[:120])
            return
        sending = asyncio.create_task(_send(service, socket, page))
        reading = asyncio.create_task(_read_to_the_end(socket))
        try:
            await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            service.hub.close_page(page)
            for task in (sending, reading):
                task.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)


def hello(service: Service) -> str:
    """The first message to a page."""
    detector = service.codec.model.detector
    return json.dumps(
        {
            "type": "hello",
            "detector": service.detector,
            "names": list(detector.names),
            "attacker": service.interceptor.name,
            "token": service.settings.token is not None,
        }
    )


async def _send(service: Service, socket: WebSocket, page: Page) -> None:
    await _send_one(service, socket, hello(service))
    while True:
        await _send_one(service, socket, await page.messages.get())


async def _send_one(service: Service, socket: WebSocket, text: str) -> None:
    await asyncio.wait_for(socket.send_text(text), service.settings.send_seconds)


async def _read_to_the_end(socket: WebSocket) -> None:
    with contextlib.suppress(RuntimeError):
        while (await socket.receive())["type"] == "websocket.receive":
            pass
