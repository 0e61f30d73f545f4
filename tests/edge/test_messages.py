"""Messages survive the wire, and what is not a message is refused with one error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.edge.messages import MAX_ANSWER, MAX_STREAM, Answer, FrameMessage
from featcodec.errors import ServiceError

numbers = st.integers(0, 2**64 - 1)
BOX = {"category_id": 1, "category_name": "person", "bbox": [1.5, 2, 30, 40.25], "score": 0.75}


@given(numbers, numbers, st.binary(min_size=1, max_size=50))
def test_a_frame_survives(number: int, captured: int, stream: bytes) -> None:
    message = FrameMessage(number, captured, stream)
    assert FrameMessage.from_bytes(message.to_bytes()) == message


def test_the_header_is_16_bytes_big_endian() -> None:
    assert FrameMessage(1, 258, b"abc").to_bytes() == bytes([0] * 7 + [1] + [0] * 6 + [1, 2]) + b"abc"


@pytest.mark.parametrize("size", [0, 15, 16, 17 + MAX_STREAM])
def test_what_is_no_frame_is_refused(size: int) -> None:
    with pytest.raises(ServiceError, match=f"{size} bytes is not a frame"):
        FrameMessage.from_bytes(bytes(size))


def test_an_answer_survives() -> None:
    answer = Answer(3, 99, 200, "", "", [BOX], 640, 480, 1234, 38, 1.5, 20.25)
    assert Answer.from_json(answer.to_json()) == answer
    refused = Answer(None, None, 429, "queue_full", "too much at once; send less")
    assert Answer.from_json(refused.to_json().encode()) == refused


def test_fields_of_later_servers_are_skipped() -> None:
    assert Answer.from_json(json.dumps({"frame": 1, "captured": 2, "status": 200, "new": 5})) == Answer(1, 2, 200)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "{}",
        "[" * 100_000,
        '{"frame": 1}',
        '{"frame": "1", "captured": 2, "status": 200}',
        '{"frame": true, "captured": 2, "status": 200}',
        '{"frame": 1, "captured": 2, "status": 200, "queue_ms": NaN}',
        '{"frame": 1, "captured": 2, "status": 200, "decode_ms": "3"}',
        '{"frame": 1, "captured": 2, "status": 200, "detections": [7]}',
        '{"frame": 1, "captured": 2, "status": 200, "detections": [{}]}',
        '{"frame": 1, "captured": 2, "status": 200, "detections": [{"bbox": [1, 2, 3], "score": 1}]}',
        '{"frame": 1, "captured": 2, "status": 200, "queue_ms": 1' + 400 * "0" + "}",
        '{"frame": 1, "captured": 2, "status": 200, "detections": [{"bbox": [1, 2, 3, 1'
        + 400 * "0"
        + '], "score": 1}]}',
        '{"frame": 1, "captured": 2, "status": 200, "new": [1e999]}',
        '{"frame": 1, "captured": 2, "status": 200, "new": -Infinity}',
        "\ud800",
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_is_refused(text: str | bytes) -> None:
    with pytest.raises(ServiceError, match="is not an answer of a featcodec server"):
        Answer.from_json(text)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_no_field_can_do_harm(value: Any) -> None:
    for name in Answer.__dataclass_fields__:
        text = json.dumps({"frame": 1, "captured": 2, "status": 200, name: value})
        with contextlib.suppress(ServiceError):
            assert Answer.from_json(text).to_json()


def test_a_huge_answer_is_not_parsed() -> None:
    with pytest.raises(ServiceError, match="too long"):
        Answer.from_json(" " * (MAX_ANSWER + 1))
