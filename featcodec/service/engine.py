"""The engine: bitstreams of all clients wait here, their video is decoded, and the networks take them in batches.

    submit -> waiting -> video decoding (threads, each with a process) -> ready -> networks (threads) -> outcome

Nothing waits without a bound. `waiting` serves clients in turns; when it is full, the greediest is refused at once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from featcodec.bitstream import SideInfo
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.errors import reason_of
from featcodec.packing.frames import Frame
from featcodec.pipeline.common import NETWORK_PIXELS, network_parts, one_bad_apart
from featcodec.service.fair_queue import Client, FairQueue
from featcodec.service.metrics import Metrics
from featcodec.service.refusals import RefusedError, ending, refusal_of
from featcodec.service.settings import Settings
from featcodec.video.isolated import IsolatedCodec, LostWorkerError

log = logging.getLogger("featcodec.service")
_FAILED = 500
_ITSELF = Client()
_ON_A_GPU = 2
"""Batches at a time on a GPU: while one computes, the next is made ready."""


@dataclass(frozen=True)
class Outcome:
    """What became of a bitstream.

    Attributes:
        side_info: of the bitstream.
        frame: the decoded frame, (height, width) uint8.
        detections: the boxes.
        queue_ms: how long it waited.
        decode_ms: how long it was worked on, with its batch.
    """

    side_info: SideInfo
    frame: Frame
    detections: Detections
    queue_ms: float
    decode_ms: float


@dataclass(eq=False)
class _Job:
    stream: bytes
    done: Future[Outcome] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)
    decoding: float = 0.0
    decoded: float = 0.0
    computing: float = 0.0

    def fail(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):  # the client has gone meanwhile
            self.done.set_exception(refusal_of(error))


class Engine:
    """Decodes bitstreams of one codec in threads. Safe for threads.

    Args:
        codec: the codec; its video codec should be isolated.
        settings: the bounds.
        metrics: what is counted.
    """

    def __init__(self, codec: FeatureCodec, settings: Settings, metrics: Metrics) -> None:
        self.codec = codec
        self.settings = settings
        self.metrics = metrics
        self._changed = threading.Condition()
        self._waiting: FairQueue[_Job] = FairQueue(settings.max_queue)
        self._ready: dict[Hashable, deque[tuple[_Job, SideInfo, Frame]]] = {}
        self._in_work = 0
        self._is_ending = False
        self._is_abandoned = False
        self._threads: list[threading.Thread] = []
        # On a CPU the networks take one frame after the other, so a batch is only what one thread takes at once.
        self._is_cpu = codec.model.device.type == "cpu"
        self._networks = settings.workers if self._is_cpu else _ON_A_GPU
        ahead = self._networks + 1
        self._room = max(ahead, settings.max_batch) if self._is_cpu else ahead * settings.max_batch
        metrics.queue.set_function(lambda: len(self._waiting) + self._count_ready())

    def start(self) -> None:
        """Start the threads."""
        torch.set_num_threads(1)  # one network per thread: OpenMP threads would wait for each other
        work: list[Callable[[], None]] = [self._decode] * self.settings.workers + [self._compute] * self._networks
        self._threads = [threading.Thread(target=each, daemon=True) for each in work]
        for thread in self._threads:
            thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether no frame waits."""
        return not self._waiting and not self._ready

    def submit(self, stream: bytes, client: Client = _ITSELF) -> Future[Outcome]:
        """Queue a bitstream.

        Args:
            stream: the bitstream.
            client: who sends it. Its turn comes after those of other clients, however many frames it has.

        Returns:
            its outcome, later. A failure is a RefusedError: also when the queue is full, and a client comes that has
            fewer frames in it. Who does not want it any more cancels it.

        Raises:
            RefusedError: too many of this client wait, or the engine ends.
        """
        job = _Job(stream)
        with self._changed:
            if self._is_ending:
                raise ending()
            lost = self._waiting.put(client, job)
            self._changed.notify_all()
        if lost is not None:
            full = RefusedError(
                429, "queue_full", f"{self.settings.max_queue} frames wait already; send fewer frames per second"
            )
            if lost is job:
                raise full
            lost.fail(full)
        return job.done

    def drain(self, seconds: float) -> bool:
        """Take no more, and wait until all that was taken is done.

        Returns:
            whether it is done; False if it takes longer, or after `abandon`.
        """
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._left() == 0 or self._is_abandoned, seconds)
            return self._left() == 0

    def abandon(self) -> None:
        """Who drains waits no longer."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End the threads and the decoder processes. What waits is refused."""
        with self._changed:
            self._is_ending = True
            left = [*self._waiting.clear(), *(job for group in self._ready.values() for job, _, _ in group)]
            self._ready.clear()
            self._changed.notify_all()
        for job in left:
            job.fail(ending())
        if isinstance(self.codec.video_codec, IsolatedCodec):
            self.codec.video_codec.close()
        for thread in self._threads:
            thread.join()
        if isinstance(self.codec.video_codec, IsolatedCodec):
            self.codec.video_codec.close()  # one that was started meanwhile

    def _left(self) -> int:
        return len(self._waiting) + self._in_work + self._count_ready()

    def _count_ready(self) -> int:
        return sum(map(len, list(self._ready.values())))

    def _decode(self) -> None:
        """A thread that decodes video."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        (self._waiting and self._count_ready() < self._room) or (self._is_ending and not self._left())
                    )
                )
                if not self._waiting:
                    return
                job = self._waiting.take()
                self._in_work += 1
            result = self._decoded(job)
            with self._changed:
                self._in_work -= 1
                if result is not None:
                    side_info, frame = result
                    self._ready.setdefault(_kind(side_info), deque()).append((job, side_info, frame))
                self._changed.notify_all()

    def _decoded(self, job: _Job) -> tuple[SideInfo, Frame] | None:
        if not job.done.set_running_or_notify_cancel():
            return None
        job.decoding = time.monotonic()
        try:
            self._check(self.codec.check_stream(job.stream))
            result = self.codec.decode_frame(job.stream)
        except Exception as error:  # whatever a stream does, the thread goes on
            self._note(error)
            job.fail(error)
            return None
        job.decoded = time.monotonic()
        return result

    def _check(self, side_info: SideInfo) -> None:
        """Refuse what would take too much memory."""
        original = side_info.original_width * side_info.original_height
        letterboxed = side_info.letterboxed_width * side_info.letterboxed_height
        if original > self.settings.max_pixels or letterboxed > NETWORK_PIXELS:
            raise RefusedError(
                413,
                "too_many_pixels",
                f"a picture of {original} pixels, {letterboxed} of them for the networks, is over the server's limit "
                f"({self.settings.max_pixels} and {NETWORK_PIXELS}); make it smaller",
            )

    def _note(self, error: Exception) -> None:
        if isinstance(error, LostWorkerError):
            self.metrics.replaced.inc()
            log.warning("a video decoder was replaced: %s", error)
        elif refusal_of(error).status == _FAILED:
            log.error("a bitstream cannot be decoded: %s: %s", type(error).__name__, reason_of(error))

    def _compute(self) -> None:
        """A thread that runs networks."""
        while batch := self._next_batch():
            computing = time.monotonic()
            self.metrics.batches.observe(len(batch))
            try:
                self._finish(batch, computing)
            except Exception as error:
                log.error("a batch failed: %s", reason_of(error))
                for job, _, _ in batch:
                    job.fail(error)
            with self._changed:
                self._in_work -= len(batch)
                self._changed.notify_all()

    def _next_batch(self) -> list[tuple[_Job, SideInfo, Frame]]:
        with self._changed:
            while True:
                now = time.monotonic()
                kind, due = self._due()
                if kind is not None and due <= now:
                    group = self._ready[kind]
                    share = -(-len(group) // self._networks) if self._is_cpu else len(group)
                    batch = [group.popleft() for _ in range(min(share, self.settings.max_batch))]
                    if not group:
                        del self._ready[kind]
                    self._in_work += len(batch)
                    self._changed.notify_all()
                    return batch
                if self._is_ending and not self._left():
                    return []
                self._changed.wait(None if kind is None else due - now)

    def _due(self) -> tuple[Hashable | None, float]:
        """The kind whose batch leaves next, and when."""
        has_room = self._count_ready() < self._room
        wait = self.settings.batch_wait_ms / 1000 if has_room and not self._is_ending else 0.0
        best: tuple[Hashable | None, float] = None, 0.0
        for kind, group in self._ready.items():
            due = group[0][0].decoded + (0.0 if len(group) >= self.settings.max_batch else wait)
            if best[0] is None or due < best[1]:
                best = kind, due
        return best

    def _finish(self, batch: list[tuple[_Job, SideInfo, Frame]], computing: float) -> None:
        pixels = batch[0][1].letterboxed_width * batch[0][1].letterboxed_height
        parts = ([each] for each in batch) if self._is_cpu else network_parts(batch, pixels)
        for part in parts:
            found = one_bad_apart(self.codec.back_end, [(side_info, frame) for _, side_info, frame in part], pixels)
            for (job, side_info, frame), (_, result) in zip(part, found, strict=True):
                if isinstance(result, str):
                    job.fail(RefusedError(500, "failed", result))
                    continue
                now = time.monotonic()
                queued = job.decoding - job.submitted + computing - job.decoded
                worked = job.decoded - job.decoding + now - computing
                self._observe(queued, worked)
                outcome = Outcome(side_info, frame, result, 1000 * queued, 1000 * worked)
                with contextlib.suppress(Exception):
                    job.done.set_result(outcome)

    def _observe(self, queued: float, worked: float) -> None:
        self.metrics.streams.inc()
        for part, seconds in (("queue", queued), ("decode", worked), ("total", queued + worked)):
            self.metrics.latency.labels(part).observe(seconds)


def _kind(side_info: SideInfo) -> Hashable:
    """What must be equal in a batch."""
    return side_info.letterboxed_width, side_info.letterboxed_height, side_info.split
