"""A drive as a file: a video in H.264, or a folder of JPEG pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec.errors import OutputError
from featcodec.scenes.drive import HEIGHT, WIDTH, Drive
from featcodec.system.batching import cores, read_ahead
from featcodec.system.files import atomic_writer, check_folder, check_new, write_once
from featcodec.system.workers import processes

SUFFIX = ".mp4"
"""A drive under a name with this ending is a video."""

_QUALITY = 92
_H264 = {"preset": "veryfast", "crf": "21", "bf": "0"}
_WHOLE = {"movflags": "frag_keyframe+empty_moov"}
"""Such a file is written from its beginning to its end, so it need not be held in memory."""

Picture = npt.NDArray[np.uint8]


def write_drive(
    output: Path, count: int, fps: int, seed: int = 0, *, workers: int | None = None, overwrite: bool = False
) -> Generator[int, None, None]:
    """Draw a drive of `count / fps` seconds. It depends on its length and the seed alone.

    After the last picture, the first one fits again, if the drive takes 20 seconds or more.

    Args:
        output: a video, if the name ends in .mp4; any other name is that of a folder for JPEG files.
        count: number of pictures.
        fps: pictures per second, 1 to 120.
        seed: 0 or more.
        workers: processes that draw; None: one per core.
        overwrite: replace files that exist.

    Yields:
        the number of each picture that is drawn, from 0.

    Raises:
        ExistsError: a file is there, and `overwrite` is False.
        OutputError: nothing can be written there, or this PyAV has no encoder for H.264.
    """
    draw = partial(_picture, seed, count / fps)
    pictures = _drawn(draw, [number / fps for number in range(count)], workers or cores())
    with contextlib.closing(pictures):
        if output.suffix.lower() == SUFFIX:
            check_new(output, overwrite=overwrite)
            yield from _video(output, pictures, fps, overwrite)
        else:
            check_folder(output)
            yield from _folder(output, pictures, overwrite)


def _video(output: Path, pictures: Iterable[Picture], fps: int, overwrite: bool) -> Iterator[int]:
    with atomic_writer(output, overwrite=overwrite) as file, av.open(file, "w", "mp4", options=_WHOLE) as container:
        try:
            stream = container.add_stream("libx264", rate=fps, options=_H264)
        except (av.error.FFmpegError, ValueError):
            raise OutputError(
                f"{output}: this PyAV has no encoder for H.264; choose a folder as `output`, for JPEG files"
            ) from None
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1  # with more, the bytes depend on the machine
        for number, picture in enumerate(pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            yield number
        container.mux(stream.encode(None))


def _folder(output: Path, pictures: Iterable[Picture], overwrite: bool) -> Iterator[int]:
    for number, picture in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=_QUALITY)
        write_once(output / f"{number:06d}.jpg", buffer.getvalue(), overwrite=overwrite)
        yield number


def _drawn(draw: partial[Picture], moments: list[float], workers: int) -> Generator[Picture, None, None]:
    workers = min(workers, len(moments))
    if workers == 1:
        yield from map(draw, moments)
        return
    killed = OutputError("a process that draws was killed (out of memory?); use fewer `workers`")
    with processes(workers, killed, __name__) as pool:
        yield from read_ahead(pool, draw, moments, depth=4 * workers)


def _picture(seed: int, loop: float, seconds: float) -> Picture:
    return _plan(seed, loop).picture(seconds)


@lru_cache(maxsize=1)
def _plan(seed: int, loop: float) -> Drive:
    return Drive.plan(seed, loop)
