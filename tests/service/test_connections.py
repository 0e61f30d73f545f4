"""Clients that misbehave below HTTP and WebSockets are closed, and others are served."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hostile_clients import MASKED_HEAD, UPGRADE
from running import PATIENCE, Running, frame, next_answer

from featcodec.service.connections import RESERVED


@contextlib.contextmanager
def connection(server: Running, data: bytes = b"") -> Iterator[socket.socket]:
    """A plain connection."""
    with socket.create_connection(server.address, timeout=PATIENCE) as opened:
        opened.sendall(data)
        yield opened


def all_of(opened: socket.socket) -> bytes:
    """What comes until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while part := opened.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def masked(opcode: int, data: bytes) -> bytes:
    """A frame of a WebSocket as clients send it (RFC 6455, 5.2)."""
    assert len(data) < 126
    key = os.urandom(4)
    body = bytes(each ^ key[place % 4] for place, each in enumerate(data))
    return struct.pack(">BB", 0x80 | opcode, 0x80 | len(data)) + key + body


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"\r\n",
        b"GET /healthz HT",
        b"POST /v1/detections HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
        b"POST /v1/detections HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"POST /v1/detections HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nabc",
    ],
    ids=["nothing", "empty lines", "half a head", "half a body", "half a chunk", "a body that is refused"],
)
def test_a_request_that_never_comes_is_closed(serve: Any, beginning: bytes) -> None:
    started: Running = serve(body_seconds=0.2)
    with connection(started, beginning) as slow:
        all_of(slow)
    assert started.get("/healthz").status_code == 200


def test_a_head_without_end_is_closed(server: Running) -> None:
    for line in (b"X-Long: " + b"x" * 1000 + b"\r\n", b"A: b\r\n"):
        with connection(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n") as endless:
            with contextlib.suppress(ConnectionError):
                for _ in range(1000):
                    endless.sendall(line * 20)
            assert b"200 OK" not in all_of(endless)
    with connection(server, b"GET /" + b"x" * (1 << 18)) as endless:
        assert b"200 OK" not in all_of(endless)


def test_many_requests_at_once_are_closed(server: Running) -> None:
    with connection(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 200) as pipelined:
        pipelined.shutdown(socket.SHUT_WR)
        assert all_of(pipelined).count(b"200 OK") < 200


@pytest.mark.parametrize("data", [b"\x00\xff" * 50, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_what_is_no_http_is_closed(server: Running, data: bytes) -> None:
    with connection(server, data) as odd:
        assert b"200 OK" not in all_of(odd)


def test_connections_are_limited_and_the_state_is_still_shown(serve: Any, streams: list[bytes]) -> None:
    started: Running = serve(max_connections=2)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(started.open(f"/v1/stream?source={name}")) for name in "ab"]
        response = started.post("/v1/detections", streams[0])
        assert (response.status_code, response.json()["reason"]) == (429, "connections_full")
        assert response.headers["retry-after"] == "1"
        assert started.get("/healthz").status_code == 200
        for _ in range(RESERVED):
            stack.enter_context(connection(started, b"GET /h"))
        with connection(started) as one_more:
            assert all_of(one_more).startswith(b"HTTP/1.1 429 ")
        for opened in sockets:
            opened.send(frame(0, streams[0]))
            assert next_answer(opened).status == 200
    assert started.post("/v1/detections", streams[0]).status_code == 200


def test_a_refused_source_that_does_not_close_is_closed_soon(serve: Any) -> None:
    """It would hold one of the places that are reserved for /healthz."""
    started: Running = serve(max_connections=1)
    with started.open("/v1/stream?source=a"), connection(started, UPGRADE) as refused:
        began = time.monotonic()
        assert b"too many connections" in all_of(refused)
        assert time.monotonic() - began < 5


def test_a_client_that_reads_nothing_is_closed(serve: Any) -> None:
    """Each frame is refused with an answer, which the client does not read."""
    started: Running = serve(send_seconds=0.2)
    with connection(started, UPGRADE) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        deaf.recv(1 << 12)
        with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012
            while True:
                deaf.sendall(masked(2, b"x" * 20) * 1000)
    assert started.get("/healthz").status_code == 200


def test_a_client_that_is_dead_is_noticed(serve: Any) -> None:
    """It answers no pings; a frame that never ends keeps it from nothing."""
    started: Running = serve(ping_seconds=0.2)
    for more in (b"", MASKED_HEAD):
        with connection(started, UPGRADE + more) as dead:
            assert b" 101 " in all_of(dead)
    assert started.get("/healthz").status_code == 200


def test_pings_without_end_grow_no_memory(serve: Any) -> None:
    started: Running = serve(send_seconds=PATIENCE)
    with connection(started, UPGRADE) as deaf:
        deaf.recv(1 << 12)
        pings = masked(9, b"x" * 120) * 1000
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(1000):
                deaf.sendall(pings)
    assert started.get("/healthz").status_code == 200
