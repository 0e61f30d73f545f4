"""The endpoint survives whatever comes, and replaces nobody's file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from featcodec.edge.zmq_endpoint import Endpoint
from featcodec.errors import InputError, ServiceError


@contextlib.contextmanager
def echoing(endpoint: str) -> Iterator[Endpoint]:
    """An endpoint that sends back what it gets."""
    over = threading.Event()
    with Endpoint(endpoint) as served:
        thread = threading.Thread(target=served.serve, args=(list, over.is_set))
        thread.start()
        yield served
        over.set()
        thread.join()


@contextlib.contextmanager
def asking(address: str, kind: int = zmq.REQ) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        socket.connect(address)
        yield socket


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_requests_are_answered_one_after_the_other(tmp_path: Path, kind: str) -> None:
    endpoint = "tcp://127.0.0.1:0" if kind == "tcp" else f"ipc://{tmp_path}/socket"
    with echoing(endpoint) as served:
        assert not served.address.endswith(":0")
        for _ in range(2):
            with asking(served.address) as one, asking(served.address) as other:
                one.send_multipart([b"a", b"b"])
                other.send(b"c")
                assert other.recv_multipart() == [b"c"]
                assert one.recv_multipart() == [b"a", b"b"]
                one.send_multipart([b"x"] * 1000)
                assert one.recv_multipart() == [b"x"] * 3


def test_a_peer_that_goes_away_or_sends_rubbish_does_not_stop_it() -> None:
    with echoing("tcp://127.0.0.1:0") as served:
        for kind in (zmq.DEALER, zmq.PUSH):
            with asking(served.address, kind) as socket, contextlib.suppress(zmq.Again):
                socket.send_multipart([b"no envelope"], zmq.NOBLOCK)
        with asking(served.address) as socket:
            socket.send(b"and away")
        with asking(served.address) as socket:
            socket.send(b"still there?")
            assert socket.recv() == b"still there?"


def test_a_part_that_is_too_long_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featcodec.edge.zmq_endpoint.MAX_PART", 1000)
    with echoing("tcp://127.0.0.1:0") as served:
        with asking(served.address) as socket:
            socket.setsockopt(zmq.RCVTIMEO, 300)
            socket.send(bytes(1001))
            with pytest.raises(zmq.Again):
                socket.recv()
        with asking(served.address) as socket:
            socket.send(bytes(1000))
            assert socket.recv() == bytes(1000)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "5555",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999",
        "tcp://a b:1",
        "tcp://127.0.0.1:1;tcp://127.0.0.1:2",
        "udp://127.0.0.1:1",
        "inproc://x",
        "ipc://relative",
        "ipc:///nowhere/at/all/x",
    ],
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(InputError, match="`endpoint`"):
        Endpoint(endpoint)


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "work").write_bytes(b"somebody's work")
    with pytest.raises(InputError, match="is not a socket"):
        Endpoint(f"ipc://{tmp_path}/work")
    assert (tmp_path / "work").read_bytes() == b"somebody's work"


def test_an_endpoint_that_is_taken_is_one_line() -> None:
    with Endpoint("tcp://127.0.0.1:0") as served, pytest.raises(ServiceError, match=r"cannot be served .*in use"):
        Endpoint(served.address)
