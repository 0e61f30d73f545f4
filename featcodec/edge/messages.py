"""What an edge and a server say to each other over a WebSocket (docs/deployment.md, "The protocol").

The edge sends one binary message per frame: 16 bytes of header, then one bitstream. The server answers each with one
text message of JSON. Answers may come in another order than the frames.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

from featcodec.errors import ServiceError

STREAM_PATH = "/v1/stream"
"""The WebSocket for frames; `?source=NAME` names the camera."""
DETECT_PATH = "/v1/detections"
"""POST one bitstream, get its detections."""
OK = 200
MAX_ANSWER = 4 << 20
"""Bytes of the longest answer that an edge reads: 300 objects with masks take far less."""
MAX_STREAM = 16 << 20
"""Bytes of the longest bitstream that a message may hold. A server may allow less."""
_HEADER = struct.Struct(">QQ")
_MAX_DETECTIONS = 100_000


@dataclass(frozen=True)
class FrameMessage:
    """One frame on its way to the server.

    Attributes:
        number: 0, 1, 2, ... within a connection; an answer names it. 64 bits, unsigned.
        captured: when the frame was captured, in microseconds since 1970 (UTC) by the edge's clock. The server only
            sends it back. 64 bits, unsigned.
        stream: the bytes of one `.266` or `.265` file.
    """

    number: int
    captured: int
    stream: bytes

    def to_bytes(self) -> bytes:
        """The message: number and captured, 8 bytes each, big-endian, and then the bitstream."""
        return _HEADER.pack(self.number, self.captured) + self.stream

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameMessage:
        """Read a message that anybody may have written.

        Raises:
            ServiceError: there is no bitstream behind the header, or it is too long.
        """
        if not _HEADER.size < len(data) <= _HEADER.size + MAX_STREAM:
            raise ServiceError(
                f"a message of {len(data)} bytes is not a frame; send {_HEADER.size} bytes of header and then a "
                f"bitstream of 1 to {MAX_STREAM} bytes"
            )
        number, captured = _HEADER.unpack_from(data)
        return cls(number, captured, data[_HEADER.size :])


@dataclass(frozen=True)
class Answer:
    """What a server says of one frame.

    Attributes:
        frame, captured: those of the frame; None if the server could not read them.
        status: as in HTTP. 200: detected. 400: a damaged bitstream. 413: too long. 422: made with other networks.
            429: too much at once, the frame was not decoded. 503: the server ends. 504: decoding took too long.
        reason: one word for the status, for metrics ("queue_full"); empty with 200.
        detail: one line for people; empty with 200.
        detections: COCO results without image fields: category_id, category_name, bbox [left, top, width, height] in
            pixels of the original image, score; segmentation and keypoints, if the detector has them.
        width, height: pixels of the original image; 0 if it was not decoded.
        size: bytes of the bitstream.
        qp: of the bitstream; -1 if it was not decoded.
        queue_ms: how long the frame waited in the server.
        decode_ms: how long decoding took, with the batch that it was in.
    """

    frame: int | None
    captured: int | None
    status: int
    reason: str = ""
    detail: str = ""
    detections: list[dict[str, Any]] = field(default_factory=list)
    width: int = 0
    height: int = 0
    size: int = 0
    qp: int = -1
    queue_ms: float = 0.0
    decode_ms: float = 0.0

    def to_json(self) -> str:
        """The message, JSON in one line."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Answer:
        """Read an answer that anybody may have written. Unknown fields are skipped, so that servers may add some.

        Raises:
            ServiceError: it is not an answer, or too long.
        """
        if len(text) > MAX_ANSWER:
            raise ServiceError(f"an answer of {len(text)} bytes is too long (at most {MAX_ANSWER}); check the address")
        try:
            values = json.loads(text, parse_constant=_finite, parse_float=_finite)
            return cls(**{name: _checked(name, values[name]) for name in cls.__dataclass_fields__ if name in values})
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ServiceError(
                f"what came is not an answer of a featcodec server ({error}); check the address"
            ) from None


def _finite(text: str) -> float:
    """A number that JSON can hold: an edge writes what it was answered as JSON again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} where a number belongs")
    return number


def _checked(name: str, value: Any) -> Any:
    """A value of the kind that its field has; numbers are finite, detections have a box and a score.

    Raises:
        ValueError: it is another one.
    """
    kinds: dict[str, Any] = {"reason": str, "detail": str, "detections": list, "queue_ms": float, "decode_ms": float}
    kind = kinds.get(name, int)
    if value is None and name in ("frame", "captured"):
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{name} is not a {kind.__name__}")
    if name == "detections":
        _check_detections(value)
    return value


def _check_detections(found: list[Any]) -> None:
    if len(found) > _MAX_DETECTIONS:
        raise ValueError(f"{len(found)} detections")
    for each in found:
        numbers = [*each["bbox"], each["score"]]
        if len(numbers) != 5 or not all(
            isinstance(number, (int, float)) and math.isfinite(number) for number in numbers
        ):
            raise ValueError("a detection without a box of four numbers and a score")
        if not isinstance(each["category_name"], str):
            raise ValueError("a detection without a category name")
