"""Writes what a camera saw as a video, with the boxes, masks and keypoints that were found."""

from __future__ import annotations

import queue
import threading
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import av.error
import numpy as np
from av.video.stream import VideoStream
from PIL import Image, ImageOps

from featcodec.detections.drawing import draw_boxes
from featcodec.edge.answered import detections_of
from featcodec.edge.cameras import Note, Pixels
from featcodec.edge.messages import OK
from featcodec.edge.tally import Outcome
from featcodec.errors import FeatcodecError, OutputError, reason_of
from featcodec.system.files import atomic_writer, check_writable

_WAITING = 32
_ROOM = 128 << 20
"""Pictures that wait to be drawn, and their bytes, at most. Others are left out: a run does not wait for drawings."""
_LONGEST_SIDE = 1920
_SUFFIX = ".mp4"
_TICK = Fraction(1, 1000)
"""Seconds. The pictures of a live run do not come at a fixed rate."""
_RATE = 25
"""Frames per second that the encoder plans its bits for."""
# Made for files that end at any time: the index is written piece by piece, so no byte is ever changed.
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


class Recording:
    """Draws answered pictures into an MP4 file, in a thread. The file appears when the block ends.

    Args:
        path: the file, `.mp4`.
        least_score: boxes with a lower score are left out.
        overwrite: replace a file that exists.
        note: called with a line when the file cannot be written any more: the run goes on without it.

    Raises:
        OutputError: the file cannot be written, or its name does not end in `.mp4`.

    Attributes:
        drawn: pictures in the video.
        skipped: answered pictures that are not in it, because drawing was too slow or an answer came after a later one.
    """

    def __init__(self, path: Path, least_score: float, *, overwrite: bool, note: Note = lambda _: None) -> None:
        if path.suffix.lower() != _SUFFIX:
            raise OutputError(f"{path}: is not the name of an {_SUFFIX} file; choose another `draw`")
        try:
            check_writable(path)
        except OutputError as error:
            raise _of_drawing(error) from None
        self.drawn = self.skipped = 0
        self._path = path
        self._least_score = least_score
        self._overwrite = overwrite
        self._waiting: queue.Queue[Outcome | None] = queue.Queue(_WAITING)
        self._error: FeatcodecError | None = None
        self._note = note
        self._is_noted = False
        self._begin: int | None = None
        self._last = -1
        self._is_over = False
        self._thread = threading.Thread(target=self._work, name="draw", daemon=True)

    def __enter__(self) -> Recording:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Finish the file. After an interruption, it holds what was drawn until then.

        Raises:
            OutputError: it cannot be written, unless another error is under way.
        """
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def add(self, outcome: Outcome) -> None:
        """Draw a picture, if it was answered."""
        if outcome.answer.status != OK:
            return
        if self._error is not None and not self._is_noted:
            self._is_noted = True
            self._note(f"{self._error}; the run goes on without the drawing")
        if self._waiting.qsize() * outcome.shot.pixels.nbytes > _ROOM:
            self.skipped += 1
            return
        try:
            self._waiting.put_nowait(outcome)
        except queue.Full:
            self.skipped += 1

    def _work(self) -> None:
        first = self._next()
        try:
            if first is not None:
                with atomic_writer(self._path, overwrite=self._overwrite) as sink:
                    self._write(cast("Any", sink), first)
        except OutputError as error:
            self._error = _of_drawing(error)
        except FeatcodecError as error:
            self._error = error
        except Exception as error:
            self._error = OutputError(f"{self._path}: cannot be written ({reason_of(error)}); choose another `draw`")
        while not self._is_over:  # nobody may wait for a thread that has failed
            self.skipped += self._next() is not None

    def _next(self) -> Outcome | None:
        """The next picture, or None at the end."""
        outcome = self._waiting.get()
        self._is_over = outcome is None
        return outcome

    def _write(self, sink: Any, outcome: Outcome | None) -> None:
        with av.open(sink, "w", format="mp4", options=_FRAGMENTED) as container:
            height, width = _even_size(outcome.shot.pixels) if outcome is not None else (2, 2)
            video = container.add_stream("libx264", rate=_RATE, options={"preset": "veryfast", "bf": "0"})
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            video.codec_context.time_base = _TICK
            video.codec_context.thread_count = 1
            while outcome is not None:
                container.mux(self._packets(video, outcome, (width, height)))
                outcome = self._next()
            container.mux(video.encode(None))

    def _packets(self, video: VideoStream, outcome: Outcome, size: tuple[int, int]) -> list[Any]:
        self._begin = outcome.shot.captured if self._begin is None else self._begin
        tick = (outcome.shot.captured - self._begin) // 1000
        if tick <= self._last:
            self.skipped += 1
            return []
        if (outcome.answer.height, outcome.answer.width) != outcome.shot.pixels.shape[:2]:  # the server is wrong
            self.skipped += 1
            return []
        drawn = draw_boxes(outcome.shot.pixels, detections_of(outcome.answer), least_score=self._least_score)
        frame = av.VideoFrame.from_ndarray(_fitted(drawn, size), format="rgb24")
        frame.pts, frame.time_base = tick, _TICK
        self._last = tick
        self.drawn += 1
        return list(video.encode(frame))


def _of_drawing(error: OutputError) -> OutputError:
    """The error with the name that the file has here."""
    return type(error)(str(error).replace("`output`", "`draw`"))


def _even_size(pixels: Pixels) -> tuple[int, int]:
    """Height and width of the video: even, as its chroma needs it, and not too large."""
    height, width = pixels.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def _fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture in the size of the video; one of another shape gets black bars."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), size))
