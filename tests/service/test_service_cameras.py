"""The WebSocket of a source: answers, bounds, and clients that misbehave."""

from __future__ import annotations

import contextlib
from socket import SHUT_RDWR
from typing import Any

import pytest
from running import PATIENCE, Running, frame, next_answer
from websockets.exceptions import ConnectionClosed, InvalidStatus

from featcodec import FeatureCodec
from featcodec.service.answers import detections_json


def closed_with(socket: Any) -> int:
    """The code that the server closes a WebSocket with."""
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=PATIENCE)
    assert closed.value.rcvd is not None
    return int(closed.value.rcvd.code)


def test_frames_get_answers(server: Running, codec: FeatureCodec, streams: list[bytes]) -> None:
    with server.open("/v1/stream?source=gate") as socket:
        for number, stream in enumerate(streams):
            socket.send(frame(number, stream))
        answers = {answer.frame: answer for answer in (next_answer(socket) for _ in streams)}
    for number, stream in enumerate(streams):
        answer = answers[number]
        assert (answer.status, answer.captured, answer.size) == (200, 1_000_000 + number, len(stream))
        assert answer.detections == detections_json(codec.decode(stream))


def test_a_bad_frame_gets_an_answer_and_the_next_one_too(server: Running, streams: list[bytes], foreign: bytes) -> None:
    with server.open("/v1/stream") as socket:
        socket.send(b"short")
        answer = next_answer(socket)
        assert (answer.frame, answer.status, answer.reason) == (None, 400, "not_a_frame")
        for number, stream, status in ((7, b"nonsense", 400), (8, foreign, 422), (9, streams[0], 200)):
            socket.send(frame(number, stream))
            answer = next_answer(socket)
            assert (answer.frame, answer.status) == (number, status)


def test_text_closes_with_1003(server: Running) -> None:
    with server.open("/v1/stream") as socket:
        socket.send("text")
        assert closed_with(socket) == 1003


def test_a_message_that_is_too_long_closes_with_1009(server: Running) -> None:
    with server.open("/v1/stream") as socket:
        with contextlib.suppress(ConnectionClosed):  # it may close before all is sent
            socket.send(frame(0, bytes((8 << 20) + 100)))
        assert closed_with(socket) == 1009


@pytest.mark.parametrize("name", ["", "x" * 65, "a%0Ab", "%07"])
def test_a_wrong_name_closes_with_1008(server: Running, name: str) -> None:
    with server.open(f"/v1/stream?source={name}") as socket:
        assert closed_with(socket) == 1008


def test_more_than_a_source_may_have_in_work_gets_429(serve: Any, streams: list[bytes]) -> None:
    started: Running = serve(max_in_flight=1)
    with started.open("/v1/stream") as socket:
        for number in range(20):
            socket.send(frame(number, streams[0]))
        answers = [next_answer(socket) for _ in range(20)]
    statuses = {answer.frame: answer.status for answer in answers}
    assert statuses[0] == 200
    assert set(statuses.values()) == {200, 429}
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.reason for answer in refused} == {"in_flight"}
    assert started.metric('featcodec_refusals_total{reason="in_flight"}') == len(refused)


def test_more_bytes_than_the_server_holds_get_429(serve: Any) -> None:
    started: Running = serve(max_bytes=10_000)
    with started.open("/v1/stream") as socket:
        socket.send(frame(0, bytes(20_000)))
        answer = next_answer(socket)
        assert (answer.frame, answer.status, answer.reason) == (0, 429, "bytes_full")
    response = started.post("/v1/detections", bytes(20_000))
    assert (response.status_code, response.json()["reason"]) == (429, "bytes_full")
    assert response.headers["retry-after"] == "1"


def test_a_token_may_come_in_a_header_or_in_a_subprotocol(serve: Any, streams: list[bytes]) -> None:
    started: Running = serve(token="secret-1")  # noqa: S106
    ways: list[dict[str, Any]] = [
        {"additional_headers": {"Authorization": "Bearer secret-1"}},
        {"subprotocols": ["featcodec", "featcodec.token.secret-1"]},
    ]
    for way in ways:
        with started.open("/v1/stream", **way) as socket:
            assert socket.subprotocol == (way["subprotocols"][0] if "subprotocols" in way else None)
            socket.send(frame(3, streams[0]))
            assert next_answer(socket).status == 200


def test_a_wrong_token_is_refused(serve: Any) -> None:
    started: Running = serve(token="secret-1")  # noqa: S106
    for path in ("/v1/stream", "/v1/live"):
        for headers in ({}, {"Authorization": "Bearer secret"}):
            with pytest.raises(InvalidStatus, match="401"):
                started.open(path, additional_headers=headers)
        with started.open(path, subprotocols=["featcodec", "featcodec.token.secret"]) as socket:
            assert closed_with(socket) == 1008


def test_pages_of_other_sites_are_refused_without_a_token(server: Running) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        server.open("/v1/live", origin="http://evil.example")
    with server.open("/v1/live", origin=server.url) as socket:
        assert '"hello"' in socket.recv(timeout=PATIENCE)


def test_a_client_that_goes_leaves_nothing(serve: Any, streams: list[bytes]) -> None:
    started: Running = serve()
    for number in range(5):
        with contextlib.suppress(ConnectionClosed), started.open("/v1/stream?source=ghost") as socket:
            socket.send(frame(number, streams[0]))
            socket.socket.shutdown(SHUT_RDWR)
    while started.metric('featcodec_connections{kind="stream"}'):
        pass
    with started.open("/v1/stream") as socket:
        socket.send(frame(0, streams[0]))
        assert next_answer(socket).status == 200
        assert started.metric('featcodec_connections{kind="stream"}') == 1
        assert set(started.service.hub.sources) == {"camera"}
    assert started.metric("featcodec_held_bytes") == 0
