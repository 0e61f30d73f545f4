"""Where the pictures of a live run come from: a video file, a device, an RTSP address or a folder of images.

A camera gives its pictures in its own time. A video file is played at its own rate, because it stands for a camera. A
device or an RTSP address that is lost during the run is opened again.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer

from featcodec.edge.backoff import Backoff
from featcodec.edge.thinning import Thinning
from featcodec.errors import InputError, reason_of
from featcodec.images.reading import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from featcodec.system.paths import expand_sources, is_file, is_folder

Pixels: TypeAlias = npt.NDArray[np.uint8]
Note: TypeAlias = Callable[[str], None]

FOLDER_RATE = 10.0
"""Pictures of a folder per second, where nobody says another rate."""
_TIMEOUT = (10.0, 5.0)
"""Seconds for opening a camera, and for its next picture."""
_LONGEST_GAP = 10.0
"""Seconds between two pictures of a video."""
_RTSP = ("rtsp", "rtsps")
# What a playlist or a description of a session may lead to: a file never to an address, nor an address to a file.
_PROTOCOLS = {"file": "file", "rtsp": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto"}
# Of formats, those that are videos: a playlist could name every file of this machine.
_FORMATS = (
    "asf,avi,flv,h264,hevc,ivf,matroska,webm,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,m4v,nut,ogg,vvc,yuv4mpegpipe,gif"
)


class Camera(Protocol):
    """Gives pictures, in its own time.

    Attributes:
        name: for messages; without the password of an address.
    """

    name: str

    def pictures(self, stop: threading.Event, note: Note) -> Generator[Pixels | None, None, None]:
        """The pictures, (height, width, 3) uint8 RGB each, until it has no more or `stop` is set.

        None stands for a picture that cannot be read. Close the generator to close the camera.

        Args:
            stop: ends it, also while it waits.
            note: called with one line on what went wrong, if it goes on all the same.

        Raises:
            InputError: there is no such camera, or it gives no pictures.
        """
        ...


def open_camera(source: str, *, fps: float | None = None, loop: bool = False) -> Camera:
    """The camera that a user names. It is opened when its pictures are asked for.

    Args:
        source: a video file, a folder of images, the number or path of a device (`0`, `/dev/video0`), or an RTSP
            address (`rtsp://HOST/PATH`).
        fps: most pictures per second; others are left out. Of a folder, this many; None means 10.
        loop: start a file or folder again at its end.

    Raises:
        InputError: there is nothing of that name.
    """
    if source.isascii() and source.isdigit():
        return _device(f"/dev/video{int(source[:4])}", fps)
    if urlsplit(source).scheme.lower() in _RTSP:
        return RtspCamera(source, fps)
    if "://" in source:
        raise InputError(f"{shown(source)}: not an rtsp:// address; give a video file, a folder, a device or rtsp://")
    path = Path(source)
    if source.startswith("/dev/"):
        return _device(source, fps)
    if source and is_folder(path):
        return ImageFolder(path, fps or FOLDER_RATE, loop)
    if not is_file(path):
        raise InputError(f"{source or repr(source)}: no such file; give a video file, a folder, a device or rtsp://")
    return VideoFile(path, fps, loop)


def _device(path: str, fps: float | None) -> Device:
    """A device that is there now; later, one that is lost is waited for."""
    device = Device(path, fps)
    device.check()
    return device


def shown(address: str) -> str:
    """An address as messages show it: without user name and password."""
    scheme, separator, rest = address.partition("://")
    host = rest.partition("/")[0]
    return f"{scheme}{separator}{rest[host.rfind('@') + 1 :]}" if separator else address


class ImageFolder:
    """The images of a folder, at a fixed rate, sorted by name."""

    def __init__(self, path: Path, fps: float, loop: bool) -> None:
        self.name = str(path)
        self._paths = [source.path for source in expand_sources([str(path)], IMAGE_SUFFIXES, "images")]
        self._fps = fps
        self._loop = loop

    def pictures(self, stop: threading.Event, note: Note) -> Generator[Pixels | None, None, None]:
        due = time.monotonic()
        while True:
            for path in self._paths:
                picture = _read_or_note(path, note)
                if stop.wait(max(0.0, due - time.monotonic())):
                    return
                yield picture
                due += 1 / self._fps
            if not self._loop:
                return


def _read_or_note(path: Path, note: Note) -> Pixels | None:
    try:
        return read_image(path)
    except InputError as error:
        note(str(error))
        return None


class VideoFile:
    """A video file, played at its own rate."""

    def __init__(self, path: Path, fps: float | None, loop: bool) -> None:
        self.name = str(path)
        self._path = path
        self._fps = fps
        self._loop = loop

    def pictures(self, stop: threading.Event, note: Note) -> Generator[Pixels | None, None, None]:
        while True:
            count = 0
            options = {"protocol_whitelist": _PROTOCOLS["file"], "format_whitelist": _FORMATS}
            with _opened(str(self._path.absolute()), self.name, options=options) as container:
                began, thin = time.monotonic(), Thinning(self._fps)
                for seconds, frame in _frames_of(container, self.name):
                    if not thin.takes(seconds):
                        continue
                    if stop.wait(max(0.0, began + seconds - time.monotonic())):
                        return
                    count += 1
                    yield None if frame is None else _rgb(frame, self.name)
            if not count:
                raise InputError(f"{self.name}: holds no picture that can be decoded; copy or convert it again")
            if not self._loop:
                return


class _LiveCamera(ABC):
    """What devices and addresses share: they have no end, and are opened again when they are lost."""

    def __init__(self, name: str, fps: float | None) -> None:
        self.name = name
        self._fps = fps

    @abstractmethod
    def _open(self) -> contextlib.AbstractContextManager[InputContainer]:
        """Open it once."""

    def pictures(self, stop: threading.Event, note: Note) -> Generator[Pixels | None, None, None]:
        backoff, was_there = Backoff(), False
        while not stop.is_set():
            try:
                with self._open() as container:
                    thin, began = Thinning(self._fps), time.monotonic()
                    for _, frame in _frames_of(container, self.name):
                        if stop.is_set():
                            return
                        was_there = True
                        backoff.reset()
                        if thin.takes(time.monotonic() - began):
                            yield None if frame is None else _rgb(frame, self.name)
                reason = "it sends no more pictures"
            except InputError as error:
                if not was_there:
                    raise
                reason = str(error)
            if not was_there:
                raise InputError(f"{self.name}: sends no pictures; check the camera")
            note(f"{self.name}: lost ({reason}); it is opened again")
            stop.wait(backoff.next())


class Device(_LiveCamera):
    """A camera of this machine, by Video4Linux."""

    def __init__(self, path: str, fps: float | None) -> None:
        super().__init__(path, fps)
        if not sys.platform.startswith("linux"):
            raise InputError(f"{path}: devices are read on Linux alone; give a video file or an rtsp:// address")

    def check(self) -> None:
        """Check that the device is there.

        Raises:
            InputError: it is not.
        """
        if not Path(self.name).exists():
            raise InputError(f"{self.name}: no such device; plug the camera in, or choose one of /dev/video*")

    def _open(self) -> contextlib.AbstractContextManager[InputContainer]:
        self.check()
        return _opened(self.name, self.name, format="v4l2")


class RtspCamera(_LiveCamera):
    """A camera behind an RTSP address, over TCP: over UDP, pictures arrive damaged."""

    def __init__(self, address: str, fps: float | None) -> None:
        super().__init__(shown(address), fps)
        self._address = address

    def _open(self) -> contextlib.AbstractContextManager[InputContainer]:
        options = {"rtsp_transport": "tcp", "protocol_whitelist": _PROTOCOLS["rtsp"], "allowed_media_types": "video"}
        return _opened(self._address, self.name, options=options)


@contextlib.contextmanager
def _opened(address: str, name: str, **settings: Any) -> Generator[InputContainer, None, None]:
    """An open container with a video in it. What goes wrong in the block becomes an InputError, too."""
    try:
        with av.open(address, timeout=_TIMEOUT, **settings) as container:
            if not container.streams.video:
                raise InputError(f"{name}: holds no video; give a video file, a folder, a device or rtsp://")
            context = container.streams.video[0].codec_context
            _check_size(context.width, context.height, name)
            context.options = {"max_pixels": str(MAX_PIXELS)}
            context.thread_type = "AUTO"
            yield container
    except InputError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:  # the texts of PyAV's errors hold the address
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise InputError(f"{name}: cannot be read as a video ({reason}); check it with ffprobe") from None


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: {width}x{height} pixels are too many; use a smaller video")


def _frames_of(container: InputContainer, name: str) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """The frames of the first video, with the seconds since the first; None for what cannot be decoded."""
    stream = container.streams.video[0]
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    first: float | None = None
    seconds = -1 / rate
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            yield max(seconds, 0.0), None
            continue
        for frame in frames:
            expected = seconds + 1 / rate
            time_of = expected if frame.time is None else frame.time
            # Times may be missing, go back or leap: a file is not to stand still for years.
            if first is None or not 0 <= time_of - first - seconds <= _LONGEST_GAP:
                first = time_of - expected
            seconds = time_of - first
            yield seconds, frame


def _rgb(frame: av.VideoFrame, name: str) -> Pixels:
    """A frame as (height, width, 3) uint8 RGB, as a person would see it."""
    _check_size(frame.width, frame.height, name)
    pixels: Pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
