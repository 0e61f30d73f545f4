"""A TCP proxy that makes a network slow, far or gone, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

_CHUNK = 4096
_BUFFER = 32 << 10
"""Bytes that wait in the proxy per direction, like the queue of a router; then TCP slows the sender down."""


class SlowLink:
    """A proxy on a free port of this machine.

    Args:
        port: where the server is, on this machine.
        bits_per_second: of each direction, or None for no limit.
        delay: seconds that bytes travel in each direction.

    Attributes:
        port: where clients connect to.
        carried: bytes from clients to the server.
    """

    def __init__(self, port: int, bits_per_second: float | None = None, delay: float = 0.0) -> None:
        self.port = 0
        self.carried = 0
        self.connections = 0
        self._server_port = port
        self._rate = None if bits_per_second is None else bits_per_second / 8
        self._delay = delay
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def __enter__(self) -> SlowLink:
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._in_loop(self._over.set)
        self._thread.join()

    def cut(self) -> None:
        """From now on no byte comes through, and nobody is told. New connections hang, too."""
        self._in_loop(self._is_up.clear)

    def mend(self) -> None:
        """Bytes come through again."""
        self._in_loop(self._is_up.set)

    def _in_loop(self, function: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(function)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over, self._is_up = asyncio.Event(), asyncio.Event()
        self._is_up.set()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_BUFFER)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            await self._is_up.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port, limit=_BUFFER)
            writers.append(far_writer)
            ways = [
                asyncio.create_task(self._carry(reader, far_writer, counts=True)),
                asyncio.create_task(self._carry(far_reader, writer, counts=False)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in writers:
                each.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool) -> None:
        """One direction: bytes leave at the rate of the link, and arrive after the delay."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.create_task(self._arrive(under_way, writer))
        try:
            free_at = time.monotonic()
            while data := await reader.read(_CHUNK):
                await self._is_up.wait()
                if counts:
                    self.carried += len(data)
                if self._rate is not None:
                    free_at = max(free_at, time.monotonic()) + len(data) / self._rate
                    await asyncio.sleep(max(0.0, free_at - time.monotonic()))
                under_way.put_nowait((time.monotonic() + self._delay, data))
        finally:
            arriving.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await arriving

    async def _arrive(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            at, data = await under_way.get()
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            await self._is_up.wait()
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def slow_link(port: int, **settings: Any) -> Iterator[SlowLink]:
    with SlowLink(port, **settings) as link:
        yield link
