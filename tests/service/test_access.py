"""Whose WebSocket is admitted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from featcodec.service.access import address_of, admit
from featcodec.service.settings import Settings


def sent_to(headers: dict[str, str], offered: list[str], token: str | None) -> tuple[bool, list[dict[str, Any]]]:
    """Whether a client is admitted, and what it is sent."""
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {
        "type": "websocket",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "subprotocols": offered,
        "extensions": {"websocket.http.response": {}},
    }
    return asyncio.run(admit(WebSocket(scope, receive, send), token)), messages


@pytest.mark.parametrize(
    ("headers", "is_admitted"),
    [
        ({}, True),
        ({"Origin": "http://here:8000", "Host": "here:8000"}, True),
        ({"Origin": "HTTP://HERE:8000", "Host": "here:8000"}, True),
        ({"Origin": "https://here", "Host": "here"}, True),
        ({"Origin": "http://here:8001", "Host": "here:8000"}, False),
        ({"Origin": "http://evil", "Host": "here"}, False),
        ({"Origin": "null", "Host": "here"}, False),
        ({"Origin": "http://[", "Host": "here"}, False),
        ({"Origin": "http://here"}, False),
    ],
)
def test_without_a_token_pages_of_other_sites_are_refused(headers: dict[str, str], is_admitted: bool) -> None:
    admitted, messages = sent_to(headers, [], None)
    assert admitted is is_admitted
    assert messages[0]["type"] == ("websocket.accept" if is_admitted else "websocket.http.response.start")


def test_with_the_token_the_site_does_not_matter() -> None:
    headers = {"Origin": "http://elsewhere", "Host": "here", "Authorization": "Bearer t"}
    assert sent_to(headers, [], "t")[0]


@given(st.text(), st.lists(st.text(), max_size=4))
def test_nothing_but_the_token_is_admitted(shown: str, offered: list[str]) -> None:
    header = f"Bearer {shown}".encode("latin-1", errors="replace").decode("latin-1").replace("\n", "")
    admitted, messages = sent_to({"Authorization": header}, offered, "the-token")
    assert not admitted
    assert messages
    admitted, messages = sent_to({}, [*offered, "featcodec", "featcodec.token.the-token"], "the-token")
    assert admitted
    assert messages[0]["subprotocol"] == "featcodec"


@pytest.mark.parametrize(
    ("behind_proxy", "forwarded", "address"),
    [
        (False, [], "10.0.0.1"),
        (False, ["192.0.2.7"], "10.0.0.1"),
        (True, [], "10.0.0.1"),
        (True, [" "], "10.0.0.1"),
        (True, ["192.0.2.7"], "192.0.2.7"),
        (True, ["forged, 192.0.2.7"], "192.0.2.7"),
        (True, ["forged", "192.0.2.7"], "192.0.2.7"),
        (True, ["2001:db8::1"], "2001:db8::/64"),
        (True, ["x" * 10_000], "x" * 64),
    ],
)
def test_a_client_is_told_by_what_it_cannot_choose(behind_proxy: bool, forwarded: list[str], address: str) -> None:
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    connection = HTTPConnection({"type": "http", "client": ("10.0.0.1", 5), "headers": headers})
    assert address_of(connection, Settings(behind_proxy=behind_proxy)) == address


def test_a_client_without_an_address_is_one_like_others() -> None:
    assert address_of(HTTPConnection({"type": "http", "client": None, "headers": []}), Settings()) == ""
