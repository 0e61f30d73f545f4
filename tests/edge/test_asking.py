"""One picture after the other: answers in time, or none."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from answering_server import answering, nothing_found

from featcodec.edge.asking import RemoteDetector
from featcodec.edge.cameras import Pixels
from featcodec.edge.messages import Answer, FrameMessage
from featcodec.edge.server_url import stream_url
from featcodec.errors import InputError, ServiceError

PICTURE = np.zeros((8, 8, 3), np.uint8)


class Coder:
    def encode(self, picture: Pixels, qp: int) -> bytes:
        return bytes([qp])


@contextlib.contextmanager
def detector(url: str, *, deadline: float = 20.0, token: str | None = None) -> Iterator[RemoteDetector]:
    opened = threading.Event()
    with RemoteDetector(Coder(), stream_url(url), token, 30, deadline, print) as remote:
        remote._loop.call_soon_threadsafe(lambda: remote._loop.create_task(_wait(remote, opened)))
        assert opened.wait(20)
        yield remote


async def _wait(remote: RemoteDetector, opened: threading.Event) -> None:
    await remote._link.is_open.wait()
    opened.set()


def test_pictures_are_answered_one_after_the_other() -> None:
    with answering() as server, detector(server.url) as remote:
        for _ in range(5):
            answer = remote.detect(PICTURE)
            assert answer is not None
            assert answer.status == 200
    assert [message.number for message in server.frames] == [0, 1, 2, 3, 4]
    assert {message.stream for message in server.frames} == {bytes([30])}


def test_an_answer_after_the_deadline_is_none_and_not_taken_for_the_next() -> None:
    late = threading.Event()

    def respond(message: FrameMessage) -> Answer:
        if message.number == 0:
            late.wait(20)
        return nothing_found(message)

    with answering(respond) as server, detector(server.url, deadline=0.3) as remote:
        assert remote.detect(PICTURE) is None
        late.set()
        remote._deadline = 20
        answer = remote.detect(PICTURE)
        assert answer is not None
        assert answer.frame == 1


def test_a_silent_server_does_not_get_more_and_more() -> None:
    with answering(lambda message: None) as server, detector(server.url, deadline=0.05) as remote:
        assert [remote.detect(PICTURE) for _ in range(10)] == [None] * 10
        assert len(server.frames) <= 4


def test_a_lost_connection_is_none_and_comes_back() -> None:
    with answering() as server, detector(server.url) as remote:
        assert remote.detect(PICTURE) is not None
        server.call(server.abort_all)
        tries: list[Answer | None] = []
        pause = threading.Event()
        while not tries or tries[-1] is None or server.connections < 2:
            tries.append(remote.detect(PICTURE))
            pause.wait(0.02)
        assert tries[-1] is not None


def test_without_a_server_there_is_no_answer() -> None:
    with answering() as server:
        url = stream_url(server.url)
    with RemoteDetector(Coder(), url, None, 30, 0.3, lambda line: None) as remote:
        assert remote.detect(PICTURE) is None


@pytest.mark.parametrize(
    "respond",
    [lambda message: Answer(message.number, 0, 422, "networks", "other networks"), lambda message: "no answer"],
)
def test_what_can_never_work_is_an_error(respond: Callable[[FrameMessage], Answer | str]) -> None:
    with answering(respond) as server, detector(server.url) as remote:
        with contextlib.suppress(ServiceError):
            assert remote.detect(PICTURE) is None
        remote._thread.join(20)
        with pytest.raises(ServiceError, match=r"other networks|is not an answer"):
            remote.check()
        with pytest.raises(ServiceError):
            remote.detect(PICTURE)


def test_a_refused_token_is_an_error() -> None:
    right = "right"
    with answering(token=right) as server:
        with RemoteDetector(Coder(), stream_url(server.url), "wrong", 30, 5.0, print) as remote:
            remote._thread.join(20)
            with pytest.raises(ServiceError, match="refused the token"):
                remote.detect(PICTURE)
        with detector(server.url, token=right) as remote:
            assert remote.detect(PICTURE) is not None


def test_an_error_of_the_coder_is_an_error() -> None:
    class Broken:
        def encode(self, picture: Pixels, qp: int) -> bytes:
            raise InputError("cannot be coded")

    with answering() as server, detector(server.url) as remote:
        remote._edge = Broken()
        with pytest.raises(InputError):
            remote.detect(PICTURE)
