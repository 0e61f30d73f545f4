"""A video codec whose decoder runs in other processes, for streams from strangers.

A video decoder is a large program in C. A stream that nobody has thought of may crash it, never let it end, or make
it take all memory. In a worker process this costs one stream: the worker is replaced, and the run goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from featcodec.bitstream import Standard
from featcodec.errors import BitstreamError, EncoderError, InputError
from featcodec.packing.frames import Frame
from featcodec.video import guard
from featcodec.video.base import VideoCodec
from featcodec.video.worker import BROKEN, DECODED, READY, REFUSED, REPLY, REQUEST

LIMIT_BYTES = 6 << 30
"""Address space of a worker. The largest picture that the format allows (8192x8192, doubled) took 3.6 GB of it, and
1.3 GB of memory."""
LIMIT_SECONDS = 120.0
"""Time for one stream. That largest picture, without content, took 28 s on two cores with five times their work."""
_START_SECONDS = 60.0

_ROOT = Path(__file__).resolve().parents[2]
# The folder of the package takes the place of the working folder, which may hold modules of other people.
_CODE = "import sys; sys.path[0] = sys.argv[1]; from featcodec.video.worker import main; main()"


class LostWorkerError(BitstreamError):
    """A stream ended the worker that decoded it, or the worker was ended because it took too long.

    Attributes:
        was_late: it took longer than it may.
    """

    def __init__(self, message: str, *, was_late: bool) -> None:
        super().__init__(message)
        self.was_late = was_late


class _WorkerDiedError(Exception):
    """The pipe to a worker ended in the middle of a message."""


class IsolatedCodec:
    """Encodes like another video codec, and decodes like it, but in worker processes.

    There are as many workers as threads decode at a time. They start when they are needed and end with `close`, with
    this object, or with this process. The results are the same as those of the other codec.

    Args:
        codec: `ffmpeg`, `vvenc` or `hevc`, from `open_video_codec`.
        seconds: time for one stream; a worker that takes longer is killed.
        memory: bytes of address space per worker.

    Raises:
        InputError: the video codec is `none`, which has no decoder program.
    """

    def __init__(self, codec: VideoCodec, *, seconds: float = LIMIT_SECONDS, memory: int = LIMIT_BYTES) -> None:
        if codec.name == "none":
            raise InputError("`isolate` needs a video decoder; use `video_codec` ffmpeg, vvenc or hevc")
        self.codec = codec
        self.seconds = seconds
        self.memory = memory
        self._workers = _Workers(codec.name, memory)
        weakref.finalize(self, self._workers.end)

    def __reduce__(self) -> Any:
        """A copy in another process has workers of its own."""
        return partial(IsolatedCodec, self.codec, seconds=self.seconds, memory=self.memory), ()

    @property
    def name(self) -> str:
        """See `VideoCodec.name`."""
        return self.codec.name

    @property
    def standard(self) -> Standard:
        """See `VideoCodec.standard`."""
        return self.codec.standard

    @property
    def tag(self) -> int:
        """See `VideoCodec.tag`."""
        return self.codec.tag

    def encode(self, frames: Sequence[Frame], qp: int, *, threads: int = 1) -> list[bytes]:
        """See `VideoCodec.encode`."""
        return self.codec.encode(frames, qp, threads=threads)

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Frame:
        """See `VideoCodec.decode`.

        Raises:
            BitstreamError: also if the worker crashes, is killed, or takes more time or memory than it may.
            EncoderError: no worker can be started, or the decoder program cannot work, whatever the stream.
        """
        with self._workers.one() as worker:
            status, content = worker.ask(stream, shape, self.seconds)
        if status in (REFUSED, BROKEN):
            raise (BitstreamError if status == REFUSED else EncoderError)(content.decode(errors="surrogateescape"))
        if status != DECODED or len(content) != shape[0] * shape[1]:
            raise BitstreamError("its picture does not decode: the worker gave no answer; encode the image again")
        return np.frombuffer(content, np.uint8).reshape(shape)

    def close(self) -> None:
        """End all workers. Streams that are being decoded fail; a later `decode` starts new workers."""
        self._workers.end()


class _Workers:
    """The worker processes of a codec: those that decode, and those that wait for a stream."""

    def __init__(self, name: str, memory: int) -> None:
        self._arguments = (name, str(memory))
        self._lock = threading.Lock()
        self._waiting: list[_Worker] = []
        self._all: set[_Worker] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[_Worker]:
        """A worker for one stream. After an exception it is ended, and otherwise kept for the next stream."""
        worker = self._take()
        try:
            yield worker
        except BaseException:
            self._drop(worker)
            raise
        with self._lock:
            is_kept = worker in self._all
            if is_kept:
                self._waiting.append(worker)
        if not is_kept:
            worker.end()

    def end(self) -> None:
        with self._lock:
            waiting, busy = self._waiting, self._all.difference(self._waiting)
            self._waiting = []
            self._all.clear()
        for worker in waiting:
            worker.end()
        for worker in busy:
            worker.kill()  # the thread that waits for it closes its pipes

    def _take(self) -> _Worker:
        while True:
            with self._lock:
                worker = self._waiting.pop() if self._waiting else None
            if worker is None:
                break
            if worker.is_alive():
                return worker
            self._drop(worker)  # it was killed while it waited; no stream is lost
        worker = _Worker(self._arguments)
        with self._lock:
            self._all.add(worker)
        return worker

    def _drop(self, worker: _Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.end()


class _Worker:
    """One process of `featcodec.video.worker`, and the pipes to it.

    Raises:
        EncoderError: it cannot be started.
    """

    def __init__(self, arguments: tuple[str, str]) -> None:
        command = [sys.executable, "-c", _CODE, str(_ROOT), *arguments]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # each reserves address space
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **threads},
            )
        except OSError as error:
            raise EncoderError(
                f"no decoder process can be started ({error.strerror}); decode without `isolate`"
            ) from None
        self._requests, self._replies = cast("BinaryIO", self.process.stdin), cast("BinaryIO", self.process.stdout)
        try:
            guard.watch(self.process.pid)
            with self._at_most(_START_SECONDS):
                status, content = self._read()
        except BaseException as error:
            self.end()
            if isinstance(error, _WorkerDiedError):
                raise EncoderError("the decoder process ends at once; run `featcodec doctor`") from None
            raise
        if status != READY:
            self.end()
            raise EncoderError(content.decode(errors="surrogateescape"))

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, stream: bytes, shape: tuple[int, int], seconds: float) -> tuple[int, bytes]:
        """Send a stream and wait for the reply.

        Raises:
            LostWorkerError: the process ended, or did not answer in time.
        """
        with self._at_most(seconds) as late:
            try:
                self._requests.write(REQUEST.pack(len(stream), *shape) + stream)
                self._requests.flush()
                return self._read()
            except (OSError, _WorkerDiedError):
                self.process.wait()
        if late.is_set():
            raise LostWorkerError(
                f"its picture takes over {seconds:g} s to decode; encode the image again", was_late=True
            )
        raise LostWorkerError(
            f"its picture ends the decoder ({_cause(self.process.returncode)}); encode the image again", was_late=False
        )

    def kill(self) -> None:
        """End the process; the thread that waits for it notices."""
        self.process.kill()
        self.process.wait()
        guard.forget(self.process.pid)

    def end(self) -> None:
        """End the process and close the pipes."""
        self.kill()
        for pipe in (self._requests, self._replies):
            with contextlib.suppress(OSError):
                pipe.close()

    @contextlib.contextmanager
    def _at_most(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the process if the block takes longer; the event says so."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def _read(self) -> tuple[int, bytes]:
        header = self._replies.read(REPLY.size)
        if len(header) < REPLY.size:
            raise _WorkerDiedError
        status, size = REPLY.unpack(header)
        content = self._replies.read(size)
        if len(content) < size:
            raise _WorkerDiedError
        return status, content


def _cause(code: int) -> str:
    if code >= 0:
        return f"it ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"it was killed by {signal.Signals(-code).name}"
    return f"it was killed by signal {-code}"
