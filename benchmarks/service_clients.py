"""Clients of a server for `service.py`: cameras, and clients that come for one request each."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect

from featcodec.edge.messages import Answer, FrameMessage

CAMERAS = 4
BATCH = 4
SLOW_CAMERA = 2.0
"""Frames per second of a camera beside a flood."""
NO_ANSWER = 0
"""Stands for the status of a client whose connection was refused, or closed without an answer."""


@dataclass
class Seen:
    """What cameras saw of a server."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Frames per second that were detected."""
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds below which this share of the detected frames were answered."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def camera(url: str, name: str, streams: list[bytes], until: float, rate: float | None, seen: Seen) -> None:
    """One camera. With a rate it sends so many frames per second; else it always has `BATCH` frames in work."""
    sent: dict[int, float] = {}
    room = asyncio.Semaphore(BATCH)

    async def read(socket: ClientConnection) -> None:
        async for text in socket:
            answer = Answer.from_json(text)
            assert answer.frame is not None
            seen.statuses[answer.status] += 1
            took = time.monotonic() - sent.pop(answer.frame)
            if answer.status == 200:
                seen.latencies.append(took)
            room.release()

    async with connect(f"ws{url.removeprefix('http')}/v1/stream?source={name}", compression=None) as socket:
        reading = asyncio.create_task(read(socket))
        number, due = 0, time.monotonic()
        while time.monotonic() < until:
            if rate is None:
                await room.acquire()
            else:
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            sent[number] = time.monotonic()
            await socket.send(FrameMessage(number, 0, streams[number % len(streams)]).to_bytes())
            number += 1
        while sent:
            await asyncio.sleep(0.01)
        reading.cancel()


def watch(url: str, streams: list[bytes], seconds: float, rate: float | None = None) -> Seen:
    """Let the cameras send for so many seconds.

    Args:
        url: of the server.
        streams: what they send.
        seconds: how long.
        rate: frames per second of all cameras together; None means as many as the server answers.
    """
    seen = Seen()

    async def run() -> None:
        each = None if rate is None else rate / CAMERAS
        started = time.monotonic()
        cameras = [camera(url, f"c{n}", streams[n:] + streams[:n], started + seconds, each, seen) for n in range(4)]
        await asyncio.gather(*cameras)
        seen.seconds = time.monotonic() - started

    asyncio.run(run())
    return seen


async def request(url: str, stream: bytes, due: float, seen: Seen) -> None:
    """A client that comes for one request. Its latency counts from when it was due, also if it came later."""
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/detections HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(stream)
        )
        writer.write(stream)
        status = int((await reader.read()).split(b" ", 2)[1])
        writer.close()
    except (OSError, IndexError):
        status = NO_ANSWER
    seen.statuses[status] += 1
    if status == 200:
        seen.latencies.append(time.monotonic() - due)


def flooded(url: str, streams: list[bytes], seconds: float, rate: float) -> tuple[Seen, Seen]:
    """Let new clients come at a fixed rate, whatever the server answers to the others, beside one camera.

    Args:
        url: of the server.
        streams: what they send.
        seconds: how long.
        rate: clients per second, one request each.

    Returns:
        what the clients saw, and what a camera of `SLOW_CAMERA` frames per second saw.
    """
    clients, beside = Seen(), Seen()

    async def run() -> None:
        started = time.monotonic()
        watching = asyncio.create_task(
            camera(url, "beside", streams, started + seconds, SLOW_CAMERA, beside), name="camera"
        )
        coming = []
        for number in range(int(seconds * rate)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            coming.append(asyncio.create_task(request(url, streams[number % len(streams)], due, clients)))
        await asyncio.gather(watching, *coming)
        clients.seconds = beside.seconds = time.monotonic() - started

    asyncio.run(run())
    return clients, beside
