"""Addresses of servers: what users write, and what is refused."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.edge.server_url import stream_url
from featcodec.errors import InputError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000/v1/stream?source=camera"),
        ("wss://host/", "wss://host/v1/stream?source=camera"),
        ("http://host:1", "ws://host:1/v1/stream?source=camera"),
        ("HTTPS://host/behind/proxy/", "wss://host/behind/proxy/v1/stream?source=camera"),
        ("https://host/v1/stream", "wss://host/v1/stream?source=camera"),
        ("ws://[::1]:80", "ws://[::1]:80/v1/stream?source=camera"),
    ],
)
def test_what_is_missing_is_added(given: str, expected: str) -> None:
    assert stream_url(given) == expected


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=64))
def test_any_name_survives(name: str) -> None:
    assert parse_qs(urlsplit(stream_url("ws://host", name)).query) == {"source": [name]}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "host",
        "host:80",
        "ftp://host",
        "ws://",
        "ws://:80",
        "ws://host:99999",
        "ws://host:0",
        "ws://[::1",
        "ws:host",
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="not the address of a server"):
        stream_url(given)


@pytest.mark.parametrize("given", ["ws://user:pw@host", "ws://host?token=secret", "ws://host#secret"])
def test_secrets_have_no_place_in_an_address(given: str) -> None:
    with pytest.raises(InputError) as error:
        stream_url(given)
    assert "secret" not in str(error.value)
    assert "pw" not in str(error.value)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\x00"])
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="`name`"):
        stream_url("ws://host", name)
