"""A live run: a camera's pictures are coded, sent and answered, each within its deadline or not at all.

    camera --Newest--> picture --Edge.encode--> bitstream --Link--> server --Link--> Outcome

Always the newest picture is coded; what it overtakes is dropped. A picture that cannot be answered within its deadline
is dropped before it is coded (`Window`). The QP is fixed, or steered to a bit rate (`RateController`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from featcodec.edge.cameras import Camera, Note, Pixels
from featcodec.edge.link import Link
from featcodec.edge.messages import OK, Answer, FrameMessage
from featcodec.edge.newest import Newest, Shot
from featcodec.edge.rate_control import RateController
from featcodec.edge.tally import Outcome, Tally
from featcodec.edge.window import Window
from featcodec.errors import ServiceError

_TOO_MUCH = 429
OTHER_NETWORKS = 422
UNAUTHORIZED = 401
_LOOK_AGAIN = 0.05
"""Seconds after which conditions that depend on time are looked at again."""
_FORGET = 5.0
"""Seconds without an answer after which a frame counts as lost; at least two deadlines."""


class Edge(Protocol):
    """Codes pictures: `FeatureCodec`, or `EdgeEncoder` without torch."""

    def encode(self, picture: Pixels, qp: int) -> bytes:
        """The bitstream of a (height, width, 3) uint8 RGB picture."""
        ...


@dataclass(frozen=True)
class LiveSettings:
    """How a live run goes.

    Attributes:
        url: of `server_url.stream_url`.
        token: the server's token, or None.
        qp: of every frame, or of the first one if there is a bit rate.
        most_qp: 63 with VVC, 51 with HEVC.
        bitrate: bits per second to steer the QP to, or None.
        deadline: seconds from the capture of a picture to its answer.
        in_flight: frames that are sent and not answered yet, at most.
        seconds: end after this time, or None.
        frames: end after so many pictures of the camera, or None.
    """

    url: str
    token: str | None = None
    qp: int = 38
    most_qp: int = 51
    bitrate: float | None = None
    deadline: float = 1.0
    in_flight: int = 4
    seconds: float | None = None
    frames: int | None = None


@dataclass(frozen=True, eq=False)
class _Flight:
    """A frame in flight. `started`: when its coding began, on the monotonic clock."""

    shot: Shot
    qp: int
    size: int
    started: float


class LiveRun:
    """One run.

    Args:
        camera: gives the pictures.
        edge: codes them. It is called in one thread.
        settings: how the run goes.
        report: called with each outcome.
        note: called with a line about what goes wrong while the run goes on.

    Attributes:
        tally: what became of the frames; valid also after an error or an interruption.
    """

    def __init__(
        self, camera: Camera, edge: Edge, settings: LiveSettings, report: Callable[[Outcome], None], note: Note
    ) -> None:
        self.tally = Tally()
        self._camera = camera
        self._edge = edge
        self._settings = settings
        self._report = report
        self._note = note
        self._window = Window(settings.in_flight, settings.deadline)
        self._controller = None
        if settings.bitrate is not None:
            self._controller = RateController(settings.bitrate, most=settings.most_qp, start=settings.qp)
        self._flights: dict[int, _Flight] = {}
        self._next_number = 0
        self._is_first_answer = True

    async def run(self) -> None:
        """Run until the camera or the time is over, or the task is cancelled.

        Raises:
            InputError: the camera failed.
            ServiceError: the server refuses the token or these networks, or is not a featcodec server; or there never
                was a connection.
            FeatcodecError: a picture cannot be coded.
            OSError: of `report`, for example that the disk is full.
        """
        self._changed = asyncio.Event()
        self._link = Link(self._settings.url, self._settings.token, self._answered, self._lost, self._note)
        with (
            ThreadPoolExecutor(1, "encode") as self._coder,
            Newest(self._camera, self._note, self._settings.frames) as self._newest,
        ):
            began = time.monotonic()
            self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            tasks = [asyncio.create_task(self._link.run()), asyncio.create_task(self._pump()), self._failure]
            try:
                done, _ = await asyncio.wait(tasks, timeout=self._settings.seconds, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                await self._settle(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._count(began)
        if not self._link.was_open:
            raise ServiceError(f"{self._settings.url.partition('?')[0]}: there was no connection; check the address")

    def _count(self, began: float) -> None:
        """What can only be counted at the end."""
        tally = self.tally
        self._lost()
        tally.seconds = time.monotonic() - began
        tally.frames, tally.unreadable = self._newest.frames, self._newest.unreadable
        tally.dropped = tally.frames - tally.unreadable - tally.sent

    async def _settle(self, tasks: Sequence[asyncio.Future[None]]) -> None:
        """Take no more pictures, and wait for what is in flight, at most one deadline."""
        link, pump, failure = tasks
        pump.cancel()
        until = time.monotonic() + self._settings.deadline
        while self._flights and not link.done() and not failure.done() and time.monotonic() < until:
            await self._change()
        for each in (link, failure):
            if each.done():
                each.result()

    async def _pump(self) -> None:
        """Send the newest picture whenever one may be sent, until the camera is over."""
        await self._link.is_open.wait()
        self._newest.start()
        while await self._room():
            shot = await self._newest.take()
            if shot is None:
                return
            if self._window.can_make_it(shot.at, time.monotonic()) and self._link.is_open.is_set():
                await self._send(shot)

    async def _room(self) -> bool:
        """Wait until a frame may be sent. False if the camera ended, and its last picture will not be sent."""
        began = time.monotonic()
        while True:
            now = time.monotonic()
            self._forget(now)
            is_affordable = self._controller is None or self._controller.may_send(now)
            if not self._link.is_open.is_set():
                if self._newest.has_ended:
                    return False
            elif not is_affordable and self._newest.has_ended and now - began > self._settings.deadline:
                return False  # the last picture is too old by now
            elif self._newest.is_over or (self._window.has_room and is_affordable):
                return True
            await self._change()

    async def _send(self, shot: Shot) -> None:
        qp = self._settings.qp if self._controller is None else self._controller.qp
        started = time.monotonic()
        stream = await asyncio.get_running_loop().run_in_executor(self._coder, self._edge.encode, shot.pixels, qp)
        now = time.monotonic()
        if now - shot.at > self._settings.deadline or not self._link.is_open.is_set():
            return
        number, self._next_number = self._next_number, self._next_number + 1
        self._flights[number] = _Flight(shot, qp, len(stream), started)
        self._window.sent(now)
        self.tally.sent += 1
        self.tally.bytes += len(stream)
        if self._controller is not None:
            self._controller.sent(len(stream), now)
        await self._link.send(FrameMessage(number, shot.captured, stream).to_bytes())

    def _answered(self, answer: Answer) -> None:
        first, self._is_first_answer = self._is_first_answer, False
        if answer.status == UNAUTHORIZED or (first and answer.status == OTHER_NETWORKS):
            raise ServiceError(f"the server refuses these frames: {answer.detail or answer.reason or answer.status}")
        flight = None if answer.frame is None else self._flights.pop(answer.frame, None)
        if flight is None:  # of an earlier connection, forgotten, or invented
            return
        now = time.monotonic()
        latency = now - flight.shot.at
        self._window.answered(flight.shot.at, flight.started, now, refused=answer.status == _TOO_MUCH)
        is_late = latency > self._settings.deadline
        outcome = Outcome(flight.shot, flight.qp, flight.size, latency, is_late and answer.status == OK, answer)
        self.tally.add(outcome)
        self._changed.set()
        try:
            self._report(outcome)
        except OSError as error:  # not one of the connection, which would only be opened again
            if not self._failure.done():
                self._failure.set_exception(error)

    def _lost(self) -> None:
        """The connection is gone, and with it what was in flight. Numbers begin at 0 in the next one."""
        for number in list(self._flights):
            self._drop(number)
        self._next_number = 0
        self._is_first_answer = True
        self._changed.set()

    def _forget(self, now: float) -> None:
        oldest = now - max(_FORGET, 2 * self._settings.deadline)
        for number in [number for number, flight in self._flights.items() if flight.started < oldest]:
            self._drop(number)

    def _drop(self, number: int) -> None:
        del self._flights[number]
        self._window.lost(time.monotonic())
        self.tally.lost += 1

    async def _change(self) -> None:
        """Wait until an answer came or the connection changed, or a moment is over."""
        self._changed.clear()
        # Not asyncio.wait_for: before Python 3.12, it may swallow a cancellation.
        alarm = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            alarm.cancel()
