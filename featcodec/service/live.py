"""The WebSocket of a page that watches."""

from __future__ import annotations

import asyncio
import json

from starlette.websockets import WebSocket

from featcodec.service.hub import Page
from featcodec.service.refusals import RefusedError
from featcodec.service.service import Service
from featcodec.service.sockets import connected, refuse, send


async def serve_page(service: Service, socket: WebSocket) -> None:
    """Send a page what the sources do, until it closes. What the page sends is read and forgotten."""
    async with connected(service, socket, "live") as is_admitted:
        if not is_admitted:
            return
        try:
            page = service.hub.open_page()
        except RefusedError as error:
            await refuse(service, socket, error)
            return
        tasks = asyncio.create_task(_send(service, socket, page)), asyncio.create_task(_read_to_the_end(socket))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            service.hub.close_page(page)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def hello(service: Service) -> str:
    """The first message to a page."""
    return json.dumps(
        {
            "type": "hello",
            "detector": service.detector,
            "names": list(service.codec.model.detector.names),
            "attacker": service.interceptor.name,
            "token": service.settings.token is not None,
        }
    )


async def _send(service: Service, socket: WebSocket, page: Page) -> None:
    seconds = service.settings.send_seconds
    await send(socket, hello(service), seconds)
    while True:
        await send(socket, await page.messages.get(), seconds)


async def _read_to_the_end(socket: WebSocket) -> None:
    while (await socket.receive())["type"] == "websocket.receive":
        pass
