"""What a server may do at once, and for how long it waits: every bound of the service in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

from featcodec.errors import InputError
from featcodec.system.batching import cores


@dataclass(frozen=True)
class Settings:
    """The limits of a server. What is over one of them is refused; memory does not grow.

    Attributes:
        token: what clients must show, or None: everybody may ask.
        max_batch: frames of one shape that the networks take at once.
        batch_wait_ms: milliseconds that a batch waits for more frames while networks are idle.
        max_queue: frames that wait for the video decoder.
        max_bytes: bytes of bodies and messages that the server holds at a time, of all clients together.
        max_connections: open connections.
        max_pages: connections of pages that watch.
        max_in_flight: frames of one source that are not answered yet.
        max_body: bytes of one bitstream or picture.
        max_pixels: pixels of an original picture.
        decode_seconds: time for the video decoding of one bitstream.
        body_seconds: time in which a request must have come.
        send_seconds: time in which a client must take an answer.
        ping_seconds: how often a WebSocket is asked whether it lives, and how long it has to answer.
        end_seconds: how long the server waits for answers before it ends.
        behind_proxy: a proxy says from which address a request is, in the last entry of X-Forwarded-For.
        workers: bitstreams whose video is decoded at a time, each in a process; and batches at a time on a CPU.

    Raises:
        InputError: a value is too small.
    """

    token: str | None = None
    max_batch: int = 4
    batch_wait_ms: float = 0.0
    max_queue: int = 16
    max_bytes: int = 64 << 20
    max_connections: int = 64
    max_pages: int = 16
    max_in_flight: int = 4
    max_body: int = 8 << 20
    max_pixels: int = 40_000_000
    decode_seconds: float = 10.0
    body_seconds: float = 30.0
    send_seconds: float = 10.0
    ping_seconds: float = 20.0
    end_seconds: float = 10.0
    behind_proxy: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.workers:
            object.__setattr__(self, "workers", cores())
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("token", "behind_proxy") and (
                value < 0 or (value == 0 and each.name != "batch_wait_ms")
            ):
                raise InputError(f"`{each.name}` {value} is too small; give a larger number")
        if self.token is not None and not _is_token(self.token):
            raise InputError("the `token` needs 1 to 200 letters, digits or any of - . _ ~; choose another")


def _is_token(text: str) -> bool:
    """Whether a browser can send it as a part of a WebSocket subprotocol (RFC 3986: unreserved characters)."""
    return 0 < len(text) <= 200 and text.isascii() and all(each.isalnum() or each in "-._~" for each in text)
