"""A small RTSP server for tests: H.264 over TCP (RFC 2326, RFC 6184), one viewer after the other."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import av

_CLOCK = 90_000
_PAYLOAD_TYPE = 96
_LONGEST_PACKET = 1400


def units_of(video: Path) -> list[list[bytes]]:
    """The NAL units of each picture of an H.264 video, without start codes."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        annexb = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        packets = [out for packet in container.demux(stream) for out in annexb.filter(packet)]
        return [re.split(b"\0\0\0?\1", bytes(packet))[1:] for packet in packets if packet.size]


class RtspServer:
    """Shows a video at rtsp://127.0.0.1:PORT/camera, as fast as the viewer reads it.

    Args:
        video: an H.264 file.
        rate: pictures per second, for the time stamps.
        most: pictures until the connection is cut, or None for one round.

    Attributes:
        port: where it listens.
        viewers: how many connections played.
    """

    def __init__(self, video: Path, rate: int = 20, most: int | None = None) -> None:
        self.viewers = 0
        self._pictures = units_of(video)[:most]
        self._step = _CLOCK // rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RtspServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                viewer, _ = self._listener.accept()
                with viewer, contextlib.suppress(OSError):
                    self._talk(viewer)

    def _talk(self, viewer: socket.socket) -> None:
        with viewer.makefile("rb") as lines:
            while request := _request(lines):
                method = request.split(b" ", 1)[0].decode()
                match = re.search(rb"CSeq: *(\d+)", request)
                assert match is not None
                headers = {"CSeq": match[1].decode(), "Session": "1"}
                body = ""
                if method == "OPTIONS":
                    headers["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
                elif method == "DESCRIBE":
                    headers["Content-Type"] = "application/sdp"
                    body = (
                        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                        f"a=rtpmap:{_PAYLOAD_TYPE} H264/{_CLOCK}\r\na=fmtp:96 packetization-mode=1\r\n"
                        "a=control:track\r\n"
                    )
                elif method == "SETUP":
                    headers["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
                headers["Content-Length"] = str(len(body))
                head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                viewer.sendall(f"RTSP/1.0 200 OK\r\n{head}\r\n{body}".encode())
                if method == "PLAY":
                    self.viewers += 1
                    for packet in self._packets():
                        viewer.sendall(packet)
                    return

    def _packets(self) -> Iterator[bytes]:
        """Interleaved RTP packets; NAL units that are too long for one are split (FU-A)."""
        number = 0
        for place, units in enumerate(self._pictures):
            payloads = [each for unit in units for each in _payloads(unit)]
            for payload in payloads:
                marker = 0x80 if payload is payloads[-1] else 0
                time = (place * self._step) & 0xFFFFFFFF
                header = struct.pack(">BBHII", 0x80, marker | _PAYLOAD_TYPE, number & 0xFFFF, time, 1)
                number += 1
                yield struct.pack(">cBH", b"$", 0, len(header) + len(payload)) + header + payload


def _request(lines: IO[bytes]) -> bytes:
    """The lines of a request up to the empty one; nothing at the end."""
    request = b""
    while (line := lines.readline()) not in {b"", b"\r\n"}:
        request += line
    return request


def _payloads(unit: bytes) -> list[bytes]:
    if len(unit) <= _LONGEST_PACKET:
        return [unit]
    parts = [unit[1 + at : 1 + at + _LONGEST_PACKET] for at in range(0, len(unit) - 1, _LONGEST_PACKET)]
    indicator, kind = unit[0] & 0xE0 | 28, unit[0] & 0x1F
    flags = [0x80, *[0] * (len(parts) - 2), 0x40]
    return [bytes((indicator, flag | kind)) + part for flag, part in zip(flags, parts, strict=True)]
