"""Reads the bodies of requests within bounds: of one body, of all together, and in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.requests import ClientDisconnect, Request

from featcodec.service.refusals import RefusedError


class Room:
    """The bytes that all clients together have in the server. Only the event loop's thread uses it.

    Args:
        amount: the most bytes.
    """

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.held = 0

    @contextlib.contextmanager
    def part(self) -> Iterator[Part]:
        """A part that can grow, and that is given back at the end of the block."""
        part = Part(self)
        try:
            yield part
        finally:
            self.held -= part.size


class Part:
    """What one client holds of a `Room`."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.size = 0

    def grow(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            RefusedError: there is no room.
        """
        if self.room.held + size > self.room.amount:
            raise RefusedError(429, "bytes_full", "the server holds too many bytes of other clients; try again later")
        self.room.held += size
        self.size += size


async def read_body(request: Request, limit: int, seconds: float, part: Part) -> bytes:
    """The body of a request.

    Args:
        request: whose body was not read yet.
        limit: the most bytes.
        seconds: time in which it must come.
        part: grows while the body comes, so nothing is allocated because a client claims a length.

    Raises:
        RefusedError: it is empty, too long or too slow, there is no room, or the client has gone.
    """
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed[:20]) > limit:
        raise too_long(limit)
    try:
        return await asyncio.wait_for(_read(request, limit, part), seconds)
    except asyncio.TimeoutError:
        raise RefusedError(408, "slow_body", f"the body takes over {seconds:g} s; use a faster connection") from None
    except ClientDisconnect:
        raise RefusedError(400, "disconnected", "the client has gone") from None


async def _read(request: Request, limit: int, part: Part) -> bytes:
    chunks: list[bytes] = []
    async for chunk in request.stream():
        if part.size + len(chunk) > limit:
            raise too_long(limit)
        part.grow(len(chunk))
        chunks.append(chunk)
    if not part.size:
        raise RefusedError(400, "empty", "the body is empty; send one bitstream or picture")
    return b"".join(chunks)


def too_long(limit: int) -> RefusedError:
    """The refusal of what is longer than `Settings.max_body`."""
    return RefusedError(413, "too_long", f"over the {limit} bytes that this server takes; send less")
