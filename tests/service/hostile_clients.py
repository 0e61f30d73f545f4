"""Clients from hell: bodies and frames that are damaged in every way, and connections that are used wrongly."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable

import httpx
from running import PATIENCE, frame
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from featcodec import bitstream
from featcodec.edge.messages import Answer
from featcodec.errors import FeatcodecError

STATUSES = {200, 400, 413, 422, 429}
UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASKED_HEAD = struct.pack(">BBQ", 0x82, 0xFF, 50_000) + os.urandom(4)
"""The beginning of a binary message of 50,000 bytes."""


class Clients:
    """All clients of one server. Each of their bodies and frames must be answered or its connection closed.

    Args:
        url: of the server.
        streams: good bitstreams.
        seed: decides what they do.
    """

    def __init__(self, url: str, streams: list[bytes], seed: int) -> None:
        self.url = url
        self.streams = streams
        self.rng = random.Random(seed)
        self.seen: Counter[int | str] = Counter()
        host, port = url.removeprefix("http://").split(":")
        self.address = host, int(port)
        self.left_open: list[socket.socket] = []

    def run(self, count: int) -> None:
        """Send so many bodies and so many frames, and use a connection wrongly now and then."""
        with httpx.Client(timeout=PATIENCE) as client:
            left = count
            while left > 0:
                left -= self._frames(min(left, 40))
                for _ in range(40):
                    self._body(client)
                self._misbehave()
        for each in self.left_open:
            each.close()

    def damaged(self) -> bytes:
        """What may be a bitstream: good, damaged, damaged behind a right checksum, or random bytes."""
        stream = self.rng.choice(self.streams)
        kind = self.rng.random()
        if kind < 0.05:
            return stream
        if kind < 0.4:
            return self._damage(stream)
        if kind < 0.9:
            with contextlib.suppress(FeatcodecError):
                side_info, picture = bitstream.unpack(stream)
                return bitstream.pack(side_info, picture[:40] + self._damage(picture[40:]))
        return self.rng.randbytes(self.rng.randrange(2000))

    def _damage(self, data: bytes) -> bytes:
        out = bytearray(data)
        for _ in range(self.rng.choice((1, 1, 3))):
            place = self.rng.randrange(len(out) + 1)
            kind = self.rng.randrange(4)
            if kind == 0 and place < len(out):
                out[place] ^= 1 << self.rng.randrange(8)
            elif kind == 1:
                del out[place : place + self.rng.choice((1, 8, 500))]
            elif kind == 2:
                out[place:place] = self.rng.choice((b"\0\0\1", b"\0", b"\xff" * 9, self.rng.randbytes(30)))
            else:
                out[place : place + 16] = self.rng.randbytes(16)
        return bytes(out)

    def _body(self, client: httpx.Client) -> None:
        body = self.damaged()
        path = self.rng.choice(("/v1/detections",) * 9 + ("/v1/picture",))
        response = client.post(self.url + path, content=iter([body]) if self.rng.random() < 0.2 else body)
        assert response.status_code in STATUSES, response.text
        answer = Answer.from_json(response.text)
        assert answer.status == response.status_code
        self.seen[answer.status] += 1

    def _frames(self, count: int) -> int:
        """Frames over one connection, one after the other. Returns how many were sent."""
        with self._connected() as socket:
            for number in range(count):
                data = self.damaged()
                is_frame = self.rng.random() < 0.9
                socket.send(frame(number, data) if is_frame and data else data[:16])
                answer = Answer.from_json(socket.recv(timeout=PATIENCE))
                assert answer.status in STATUSES
                assert answer.frame in (number, None)
                self.seen[answer.status] += 1
        return count

    def _connected(self) -> ClientConnection:
        address = f"ws{self.url.removeprefix('http')}/v1/stream"
        return connect(address, open_timeout=PATIENCE, close_timeout=PATIENCE, proxy=None, compression=None)

    def _misbehave(self) -> None:
        kinds: list[Callable[[], None]] = [self._killed, self._half_closed, self._slow, self._text, self._flood]
        kind = self.rng.choice(kinds)
        with contextlib.suppress(ConnectionError, ConnectionClosed):
            kind()
        self.seen[kind.__name__] += 1

    def _killed(self) -> None:
        """A client that is killed in the middle of a message."""
        with socket.create_connection(self.address, timeout=PATIENCE) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            opened.sendall(UPGRADE)
            assert b" 101 " in opened.recv(1 << 12)
            opened.sendall(MASKED_HEAD + self.rng.randbytes(20_000))

    def _half_closed(self) -> None:
        """A client that sends a request, or half of one, and closes its side."""
        body = self.damaged()
        head = b"POST /v1/detections HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(self.address, timeout=PATIENCE) as opened:
            opened.sendall((head + body)[: self.rng.choice((10, len(head) + len(body)))])
            opened.shutdown(socket.SHUT_WR)
            while opened.recv(1 << 16):
                pass

    def _slow(self) -> None:
        """A client that sends the beginning of a request and then nothing."""
        opened = socket.create_connection(self.address, timeout=PATIENCE)
        self.left_open.append(opened)
        if len(self.left_open) > 8:
            self.left_open.pop(0).close()
        opened.sendall(self.rng.choice((b"POST /v1/det", UPGRADE, UPGRADE + MASKED_HEAD, b"\r\n")))

    def _text(self) -> None:
        """A client that sends text."""
        with self._connected() as socket:
            socket.send("x" * self.rng.choice((0, 10, 100_000)))
            socket.recv(timeout=PATIENCE)

    def _flood(self) -> None:
        """A client that sends many frames, reads nothing, and goes."""
        with socket.create_connection(self.address, timeout=PATIENCE) as opened:
            opened.sendall(UPGRADE)
            message = struct.pack(">BB", 0x82, 0x80 | 20) + bytes(4) + b"x" * 20
            opened.sendall(message * 500)
