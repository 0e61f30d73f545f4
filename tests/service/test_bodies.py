"""Bodies are read within bounds, whatever comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from featcodec.service.bodies import Room, read_body
from featcodec.service.refusals import RefusedError


def request_of(chunks: list[bytes], length: bytes | None = None, *, disconnects: bool = False) -> Request:
    """A request whose body comes in these chunks. After the last one, it waits without end or disconnects."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if disconnects:
        messages.append({"type": "http.disconnect"})
    elif messages:
        messages[-1]["more_body"] = False

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()

    headers = [] if length is None else [(b"content-length", length)]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read(request: Request, limit: int = 10, seconds: float = 60, room: int = 100) -> bytes:
    with Room(room).part() as part:
        return asyncio.run(read_body(request, limit, seconds, part))


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=5))
def test_a_body_comes_whole_or_not_at_all(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    if 0 < len(whole) <= 10:
        assert read(request_of(chunks)) == whole
    else:
        with pytest.raises(RefusedError) as refused:
            read(request_of(chunks))
        assert refused.value.status == (413 if whole else 400)


@pytest.mark.parametrize("length", [b"11", b"9" * 5000])
def test_a_long_body_is_refused_before_it_comes(length: bytes) -> None:
    with pytest.raises(RefusedError, match="over the 10 bytes"):
        read(request_of([], length))


@pytest.mark.parametrize("length", [b"-1", b"x", b"", "٣".encode()])
def test_a_wrong_length_is_not_believed(length: bytes) -> None:
    assert read(request_of([b"body"], length)) == b"body"


def test_a_slow_body_is_refused() -> None:
    with pytest.raises(RefusedError) as refused:
        read(request_of([]), seconds=0.001)
    assert (refused.value.status, refused.value.reason) == (408, "slow_body")


def test_a_client_that_goes_is_no_failure() -> None:
    with pytest.raises(RefusedError, match="has gone"):
        read(request_of([b"a"], disconnects=True))


def test_room_is_shared_and_given_back() -> None:
    room = Room(10)
    with room.part() as one, room.part() as other:
        one.grow(6)
        with pytest.raises(RefusedError) as refused:
            other.grow(5)
        assert (refused.value.status, refused.value.reason) == (429, "bytes_full")
        other.grow(4)
        assert room.held == 10
    assert room.held == 0
