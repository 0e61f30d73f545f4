"""A camera beside clients that send as much as they can, over real connections to the real command."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from running import PATIENCE, frame
from serving import serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from featcodec.edge.messages import Answer

FRAMES, INTERVAL = 20, 0.5
LATE = 2.0
"""Seconds. A frame takes some 0.03 s here; 8 of them wait."""


@contextmanager
def threads(work: list[Callable[[threading.Event], None]]) -> Iterator[None]:
    """Work in threads, until the block ends."""
    stop = threading.Event()
    started = [threading.Thread(target=each, args=(stop,)) for each in work]
    for each in started:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in started:
            each.join(PATIENCE)


def opened(url: str, name: str) -> ClientConnection:
    """A connection of a source."""
    address = f"ws{url.removeprefix('http')}/v1/stream?source={name}"
    return connect(address, open_timeout=PATIENCE, proxy=None, compression=None)


def posting(url: str, stream: bytes, seen: Counter[int]) -> Callable[[threading.Event], None]:
    """A client that posts again as soon as it is answered."""

    def run(stop: threading.Event) -> None:
        with httpx.Client(timeout=PATIENCE) as client:
            while not stop.is_set():
                seen[client.post(f"{url}/v1/detections", content=stream).status_code] += 1

    return run


def flooding(url: str, stream: bytes, seen: Counter[int]) -> Callable[[threading.Event], None]:
    """A source that always has four frames in work."""

    def run(stop: threading.Event) -> None:
        with opened(url, "greedy") as socket:
            for number in range(4):
                socket.send(frame(number, stream))
            while not stop.is_set():
                try:
                    seen[Answer.from_json(socket.recv(timeout=PATIENCE)).status] += 1
                    socket.send(frame(4, stream))
                except ConnectionClosed:
                    return

    return run


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_camera_gets_its_answers_beside_greedy_clients(streams: list[bytes]) -> None:
    stream, latencies = streams[0], []
    posts: Counter[int] = Counter()
    frames: Counter[int] = Counter()
    with ExitStack() as stack:
        _, url = stack.enter_context(serving("--max-queue", "8"))
        camera = stack.enter_context(opened(url, "gate"))
        greedy = [posting(url, stream, posts) for _ in range(24)] + [flooding(url, stream, frames) for _ in range(3)]
        stack.enter_context(threads(greedy))
        time.sleep(2)
        for number in range(FRAMES):
            began = time.monotonic()
            camera.send(frame(number, stream))
            answer = Answer.from_json(camera.recv(timeout=PATIENCE))
            latencies.append(time.monotonic() - began)
            assert (answer.frame, answer.status) == (number, 200), answer
            time.sleep(max(0.0, began + INTERVAL - time.monotonic()))
    print(f"posts {dict(posts)}, frames of others {dict(frames)}, seconds {sorted(latencies)}")
    assert max(latencies) < LATE
    assert posts[429] > posts[200] > 0
