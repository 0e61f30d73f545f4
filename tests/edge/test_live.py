"""A live run against a server: what is sent, what is dropped, and what ends the run. No time is measured here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from answering_server import AnsweringServer, answering, nothing_found
from slow_link import slow_link

from featcodec.edge.cameras import Note, Pixels
from featcodec.edge.live import LiveRun, LiveSettings
from featcodec.edge.messages import Answer, FrameMessage
from featcodec.edge.server_url import stream_url
from featcodec.edge.tally import Outcome
from featcodec.errors import FeatcodecError, InputError, ServiceError

PICTURE = np.zeros((48, 64, 3), np.uint8)


class Pictures:
    """A camera that gives pictures at a rate, until it has given so many."""

    name = "pictures"

    def __init__(self, count: int | None, interval: float = 0.01) -> None:
        self._count = count
        self._interval = interval

    def pictures(self, stop: threading.Event, note: Note) -> Iterator[Pixels | None]:
        for _ in itertools.count() if self._count is None else range(self._count):
            yield PICTURE
            if stop.wait(self._interval):
                return


class Coder:
    """Codes a picture as its QP and so many bytes."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.qps: list[int] = []

    def encode(self, picture: Pixels, qp: int) -> bytes:
        assert picture.shape == PICTURE.shape
        self.qps.append(qp)
        return bytes([qp]) * self.size


class Live:
    """A run in a thread of its own."""

    def __init__(self, url: str, camera: Any = None, coder: Any = None, **settings: Any) -> None:
        self.outcomes: list[Outcome] = []
        self.notes: list[str] = []
        self.error: BaseException | None = None
        self.news = threading.Condition()
        settings = {"deadline": 20.0, **settings}
        self.run = LiveRun(
            camera or Pictures(None),
            coder or Coder(),
            LiveSettings(stream_url(url), **settings),
            self._report,
            self.notes.append,
        )
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _report(self, outcome: Outcome) -> None:
        with self.news:
            self.outcomes.append(outcome)
            self.news.notify_all()

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.error = error

    async def _main(self) -> None:
        self.task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()
        await self.run.run()

    def __enter__(self) -> Live:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            assert self.task is not None
            self.loop.call_soon_threadsafe(self.task.cancel)
        self.finish()

    def finish(self) -> None:
        """Wait until the run has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive()

    def wait_for(self, count: int) -> None:
        """Wait until there are so many outcomes."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.outcomes) >= count, 60)


def check_sums(live: Live) -> None:
    """Every picture is counted once."""
    tally = live.run.tally
    assert tally.frames == tally.dropped + tally.unreadable + tally.sent
    assert tally.sent == tally.answered + tally.refused + tally.lost
    assert tally.late <= tally.answered == len(tally.latencies)
    assert len(live.outcomes) == tally.answered + tally.refused


def test_every_frame_is_answered_and_says_which_picture_it_was() -> None:
    with answering() as server, Live(server.url, Pictures(12, 0.05)) as live:
        live.finish()
    assert live.error is None
    check_sums(live)
    assert live.run.tally.answered == len(server.frames) == live.run.tally.sent
    assert live.run.tally.frames == 12
    assert [message.number for message in server.frames] == list(range(len(server.frames)))
    assert [outcome.shot.captured for outcome in live.outcomes] == [message.captured for message in server.frames]
    assert all(message.stream == bytes([38]) * 100 for message in server.frames)
    assert server.paths == ["/v1/stream?source=camera"]
    assert live.run.tally.bytes == 100 * live.run.tally.sent


def test_a_slow_server_gets_the_newest_pictures_and_few_at_a_time() -> None:
    def respond(message: FrameMessage) -> Answer:
        time.sleep(0.05)
        return nothing_found(message)

    with answering(respond) as server, Live(server.url, Pictures(200, 0.005), in_flight=2) as live:
        live.finish()
    check_sums(live)
    tally = live.run.tally
    assert tally.frames == 200
    assert tally.dropped > 100
    assert tally.answered == tally.sent < 60
    numbers = [outcome.shot.number for outcome in live.outcomes]
    assert numbers == sorted(numbers)
    assert max(numbers) >= 190  # the newest, not the oldest


def test_no_more_frames_are_in_flight_than_allowed() -> None:
    with answering(lambda message: None) as server, Live(server.url, in_flight=3, seconds=0.7, deadline=0.2) as live:
        live.finish()
    check_sums(live)
    assert live.run.tally.sent == live.run.tally.lost == len(server.frames)
    assert 1 <= len(server.frames) <= 3


def test_answers_in_another_order_find_their_frames() -> None:
    held: list[FrameMessage] = []

    def respond(message: FrameMessage) -> list[Answer]:
        held.append(message)
        if len(held) < 2:
            return []
        answers = [nothing_found(each) for each in reversed(held)]
        held.clear()
        return answers

    with answering(respond) as server, Live(server.url, in_flight=2) as live:
        live.wait_for(4)
    assert [outcome.answer.frame for outcome in live.outcomes[:4]] == [1, 0, 3, 2]
    assert all(outcome.shot.captured == outcome.answer.captured for outcome in live.outcomes)
    check_sums(live)


@pytest.mark.parametrize(
    "said",
    [
        Answer(10**18, 0, 200, width=64, height=48),
        Answer(None, None, 429, "queue_full", "too much"),
        Answer(0, 0, 200, width=64, height=48),
        "no answer",
        b"\xff",
        "{}",
    ],
)
def test_what_a_hostile_server_says_beside_the_answers_changes_nothing(said: Any) -> None:
    with answering(lambda message: [nothing_found(message), said, said]) as server, Live(server.url) as live:
        live.wait_for(5)
    assert {outcome.answer.status for outcome in live.outcomes} == {200}
    check_sums(live)
    assert isinstance(live.error, (asyncio.CancelledError, type(None)))


def test_an_answer_without_end_closes_the_connection() -> None:
    with answering(lambda message: "x" * (5 << 20)) as server, Live(server.url, seconds=1.0) as live:
        live.finish()
    check_sums(live)
    assert live.run.tally.answered == 0
    assert live.run.tally.lost == live.run.tally.sent >= 1


@pytest.mark.parametrize("said", ["hello", "{}", b"\x00"])
def test_a_server_that_speaks_something_else_ends_the_run(said: Any) -> None:
    with answering(lambda message: said) as server, Live(server.url) as live:
        live.finish()
    assert isinstance(live.error, ServiceError)
    assert "is not an answer of a featcodec server" in str(live.error)
    check_sums(live)


@contextlib.contextmanager
def speaking(said: bytes) -> Iterator[int]:
    """The port of something that says the same to everybody, whatever it is asked."""

    def speak() -> None:
        with contextlib.suppress(OSError):
            while True:
                opened, _ = listener.accept()
                with opened:
                    opened.recv(1 << 12)
                    opened.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def refused(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("scheme", "said", "reason"),
    [
        ("ws", b"HTTP/1.0 404 Not Found\r\n\r\n", "is not a featcodec server"),
        ("ws", b"SSH-2.0-OpenSSH_9.2\r\n", "is not a featcodec server"),
        ("ws", b"\x00" * 100 + b"\r\n", "is not a featcodec server"),
        ("ws", refused("401 Unauthorized"), "the server refused the token"),
        ("ws", refused("403 Forbidden"), "check the address and its `token`"),
        ("wss", refused("400 Bad Request"), "does not speak TLS; use ws://"),
    ],
)
def test_what_is_no_server_of_ours_ends_the_run(scheme: str, said: bytes, reason: str) -> None:
    with speaking(said) as port, Live(f"{scheme}://127.0.0.1:{port}", seconds=20.0) as live:
        live.finish()
    assert isinstance(live.error, ServiceError)
    assert reason in str(live.error)


def test_the_last_picture_does_not_wait_for_a_bit_rate_without_end() -> None:
    """One frame of 10,000 bytes at 1 bit per second: the next one would be due in a day."""
    with (
        answering() as server,
        Live(server.url, Pictures(3, 0.05), Coder(10_000), qp=51, bitrate=1.0, deadline=0.5) as live,
    ):
        live.finish()
    assert live.error is None
    assert live.run.tally.frames == 3
    check_sums(live)


def test_other_networks_end_the_run() -> None:
    def respond(message: FrameMessage) -> Answer:
        return Answer(message.number, message.captured, 422, "networks", "made with networks 0011, not with 2233")

    with answering(respond) as server, Live(server.url) as live:
        live.finish()
    assert isinstance(live.error, ServiceError)
    assert "made with networks 0011, not with 2233" in str(live.error)


def test_refusals_are_counted_and_the_run_goes_on() -> None:
    def respond(message: FrameMessage) -> Answer:
        if message.number % 2:
            return Answer(message.number, message.captured, 429, "queue_full", "too much at once")
        return nothing_found(message)

    with answering(respond) as server, Live(server.url) as live:
        live.wait_for(6)
    check_sums(live)
    assert live.run.tally.refused >= 2
    assert live.run.tally.answered >= 3


def test_a_refused_token_ends_the_run() -> None:
    right = "right"
    with answering(token=right) as server:
        for token in (None, "wrong"):
            with Live(server.url, token=token) as live:
                live.finish()
            assert isinstance(live.error, ServiceError)
            assert "the server refused the token" in str(live.error)
        with Live(server.url, Pictures(3), token=right) as live:
            live.finish()
    assert live.error is None
    assert live.run.tally.answered >= 1


def test_a_lost_connection_is_opened_again() -> None:
    with answering() as server, Live(server.url) as live:
        live.wait_for(3)
        server.call(server.abort_all)
        live.wait_for(len(live.outcomes) + 5)
        assert server.connections == 2
    check_sums(live)
    assert len([note for note in live.notes if "trying again" in note]) == 1
    assert len([note for note in live.notes if "connected again" in note]) == 1
    restarted = [message.number for message in server.frames].index(0, 1)
    assert [message.number for message in server.frames[restarted:]] == list(
        range(len(server.frames) - restarted)
    )  # numbers begin again


def test_a_server_that_starts_later_is_found() -> None:
    with answering() as server:
        port = server.port
    with Live(f"ws://127.0.0.1:{port}") as live:
        while not live.notes:
            time.sleep(0.01)
        with AnsweringServer(nothing_found, port=port):
            live.wait_for(2)
    check_sums(live)
    assert "cannot be reached (Connection refused); trying again" in live.notes[0]


def test_without_any_connection_the_run_ends_in_an_error() -> None:
    with answering() as server:
        port = server.port
    with Live(f"ws://127.0.0.1:{port}", seconds=0.5) as live:
        live.finish()
    assert isinstance(live.error, ServiceError)
    assert "there was no connection" in str(live.error)
    assert live.run.tally.frames == 0


def test_two_seconds_without_network_are_survived() -> None:
    with answering() as server, slow_link(server.port) as link, Live(link.url, deadline=0.5) as live:
        live.wait_for(5)
        link.cut()
        cut_at = len(live.outcomes)
        time.sleep(2)
        link.mend()
        live.wait_for(cut_at + 10)
    check_sums(live)
    assert live.run.tally.dropped > 50  # time passed


def test_a_slow_link_makes_frames_drop_and_not_wait() -> None:
    """1 Mbit/s and 100 ms each way; the camera gives 2.4 Mbit/s."""
    with (
        answering() as server,
        slow_link(server.port, bits_per_second=1e6, delay=0.1) as link,
        Live(link.url, Pictures(None, 1 / 30), Coder(10_000), deadline=1.0, seconds=4.0) as live,
    ):
        live.finish()
    check_sums(live)
    tally = live.run.tally
    assert tally.dropped > tally.frames / 4
    assert tally.answered >= 10
    assert tally.late <= 0.1 * tally.answered


def test_a_bit_rate_steers_the_qp() -> None:
    class Model(Coder):
        def encode(self, picture: Pixels, qp: int) -> bytes:
            self.qps.append(qp)
            return b"x" * max(1, round(40_000 * 2 ** (-qp / 6)))

    coder = Model()
    with answering() as server, Live(server.url, Pictures(150, 0.02), coder, bitrate=400_000, qp=20) as live:
        live.finish()
    check_sums(live)
    assert coder.qps[0] == 20
    # 1,000 bytes of 50 frames per second: 6 * log2(40) = QP 32
    assert 29 <= np.median(coder.qps[-30:]) <= 35
    assert all(0 <= qp <= 51 for qp in coder.qps)


def test_an_error_of_the_coder_ends_the_run() -> None:
    class Broken:
        def encode(self, picture: Pixels, qp: int) -> bytes:
            raise InputError("the picture cannot be coded")

    with answering() as server, Live(server.url, coder=Broken()) as live:
        live.finish()
    assert isinstance(live.error, FeatcodecError)
    assert "cannot be coded" in str(live.error)


def test_a_full_disk_ends_the_run_and_is_not_taken_for_a_lost_connection() -> None:
    with answering() as server:
        live = Live(server.url)

        def report(outcome: Outcome) -> None:
            raise OSError(28, "No space left on device")

        live.run._report = report
        with live:
            live.finish()
    assert isinstance(live.error, OSError)
    assert "No space left" in str(live.error)
    assert live.notes == []
    assert server.connections == 1


def test_an_error_of_the_camera_ends_the_run() -> None:
    class Broken:
        name = "broken"

        def pictures(self, stop: threading.Event, note: Note) -> Iterator[Pixels | None]:
            yield PICTURE
            raise InputError("broken: is gone")

    with answering() as server, Live(server.url, camera=Broken()) as live:
        live.finish()
    assert isinstance(live.error, InputError)
    check_sums(live)


def test_frames_and_seconds_end_the_run() -> None:
    with answering() as server:
        with Live(server.url, Pictures(None, 0.001), frames=7) as live:
            live.finish()
        assert live.run.tally.frames == 7
        with Live(server.url, seconds=0.3) as live:
            live.finish()
    assert live.error is None
    check_sums(live)
