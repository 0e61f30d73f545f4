"""A server ends in good order: what it took is answered, and its clients are told."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from running import PATIENCE, Running, frame, next_answer
from websockets.exceptions import ConnectionClosed

from featcodec.errors import BitstreamError, ServiceError
from featcodec.service.server import listen, url_of


def test_what_is_in_work_is_answered_and_clients_are_told(serve: Any, streams: list[bytes], monkeypatch: Any) -> None:
    started: Running = serve()
    engine = started.service.engine
    go_on = threading.Event()
    decode = engine.codec.decode_frame

    def wait_and_decode(stream: bytes) -> Any:
        assert go_on.wait(PATIENCE)
        return decode(stream)

    monkeypatch.setattr(type(engine.codec), "decode_frame", lambda self, stream: wait_and_decode(stream))
    with started.open("/v1/stream?source=a") as socket, started.open("/v1/live") as page:
        page.recv(timeout=PATIENCE)
        socket.send(frame(1, streams[0]))
        while not started.metric("featcodec_held_bytes"):
            pass
        started.end()
        while started.get("/readyz").json() != {"status": "ending"}:
            pass
        assert started.post("/v1/detections", streams[0]).status_code == 503
        socket.send(frame(2, streams[0]))
        answer = next_answer(socket)
        assert (answer.frame, answer.status, answer.reason) == (2, 503, "ending")
        go_on.set()
        answer = next_answer(socket)
        assert (answer.frame, answer.status) == (1, 200)
        for each in (socket, page):
            with pytest.raises(ConnectionClosed, match="1001"):  # noqa: PT012
                while True:
                    each.recv(timeout=PATIENCE)
    started.thread.join(PATIENCE)
    assert not started.thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        started.get("/healthz")


def test_work_that_takes_too_long_does_not_keep_the_server(serve: Any, streams: list[bytes], monkeypatch: Any) -> None:
    started: Running = serve(end_seconds=0.1)
    go_on = threading.Event()

    def hang(_codec: Any, _stream: bytes) -> Any:
        go_on.wait(PATIENCE)
        raise BitstreamError("as if it took long")

    monkeypatch.setattr(type(started.service.codec), "decode_frame", hang)
    with started.open("/v1/stream") as socket:
        socket.send(frame(1, streams[0]))
        while not started.metric("featcodec_held_bytes"):
            pass
        started.end()
        with pytest.raises(ConnectionClosed, match="1001"):
            socket.recv(timeout=PATIENCE)
    go_on.set()
    started.thread.join(PATIENCE)
    assert not started.thread.is_alive()


def test_a_port_that_is_taken_is_an_error_of_one_line() -> None:
    listener = listen("127.0.0.1", 0)
    try:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(ServiceError, match=rf"127.0.0.1:{port}: cannot be served \(.*\); choose another `port`"):
            listen("127.0.0.1", port)
    finally:
        listener.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "a" * 300, "é" * 70])
def test_an_address_of_others_is_an_error_of_one_line(host: str) -> None:
    with pytest.raises(ServiceError, match="choose another"):
        listen(host, 0)
