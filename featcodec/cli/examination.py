"""The checks of `featcodec doctor`: versions, video codecs (proven by a real encode), weights and devices."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from featcodec.cli.console import with_options
from featcodec.errors import FeatcodecError
from featcodec.system.paths import weights_folder
from featcodec.version import __version__
from featcodec.video import open_video_codec
from featcodec.video.hevc import HARDWARE, HevcCodec
from featcodec.video.process import run

_PACKAGES = ("torch", "torchvision", "ultralytics-opencv-headless", "imageio-ffmpeg", "av", "pycocotools")
_PROOF_QP = 22
_PROOF_SHAPE = (256, 320)
"""Hardware encoders refuse smaller pictures."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        topic: what was checked.
        status: "ok", "missing" (optional and not there) or "broken".
        detail: versions, paths, or the reason and the remedy.
    """

    topic: str
    status: str
    detail: str


def examine() -> Iterator[Check]:
    """Check everything that featcodec needs or can use."""
    yield Check("featcodec", "ok", f"{__version__} on Python {platform.python_version()} ({sys.executable})")
    yield from _packages()
    yield _codec("ffmpeg", optional=False)
    yield _codec("vvenc", optional=True)
    yield _codec("hevc", optional=False)
    for hardware in HARDWARE:
        yield _codec("hevc", hardware, optional=True)
    yield _devices()
    yield from _weights()


def _packages() -> Iterator[Check]:
    for package in _PACKAGES:
        try:
            yield Check(package, "ok", version(package))
        except PackageNotFoundError:
            yield Check(package, "broken", "not installed; run bin/quickstart, or pip install featcodec")


def _codec(name: str, hardware: str | None = None, *, optional: bool) -> Check:
    """Check a video codec: code and decode a frame."""
    topic = f"codec {name}" if hardware is None else f"codec {name}, {hardware}"
    rows, columns = np.mgrid[0 : _PROOF_SHAPE[0], 0 : _PROOF_SHAPE[1]]
    frame = (128 + 60 * np.sin(rows / 7) * np.cos(columns / 9)).astype(np.uint8)
    try:
        codec = open_video_codec(name, None, hardware)
    except FeatcodecError as error:
        return Check(topic, "missing" if optional else "broken", with_options(str(error)))
    try:
        (stream,) = codec.encode([frame], _PROOF_QP)
        decoded = codec.decode(stream, _PROOF_SHAPE)
    except FeatcodecError as error:
        # Only an attempt shows whether there is such hardware.
        return Check(topic, "broken" if hardware is None else "missing", with_options(str(error)))
    mean_error = float(np.abs(decoded.astype(int) - frame).mean())
    if mean_error > 2:
        return Check(topic, "broken", f"a test picture came back wrong by {mean_error:.1f} per sample; reinstall it")
    return Check(topic, "ok", f"{_codec_version(codec)}; coded a test picture to {len(stream)} bytes and back")


def _codec_version(codec: object) -> str:
    executable = getattr(codec, "executable", None)
    if executable is not None:
        first = run([executable, "-version"]).decode(errors="replace").split("\n", 1)[0]
        return f"{first.split(' Copyright')[0]}, libvvenc ({executable})"
    if isinstance(codec, HevcCodec):
        return f"PyAV {version('av')}, {codec.encoder}"
    programs = [getattr(codec, "encoder", ""), getattr(codec, "decoder", "")]
    return ", ".join(program for program in programs if program)


def _devices() -> Check:
    import torch

    devices = [f"cpu ({torch.get_num_threads()} threads)"]
    devices += [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return Check("devices", "ok", ", ".join(devices))


def _weights() -> Iterator[Check]:
    from featcodec.networks.weights import list_models

    models = list_models()
    here = [model["name"] for model in models if model["weights"] == "present"]
    damaged = [model["name"] for model in models if model["weights"].startswith("damaged")]
    shipped = [model["name"] for model in models if model["weights"].startswith("ships")]
    if damaged:
        yield Check("weights", "broken", f"{', '.join(damaged)} in {weights_folder()} have a wrong sha256; delete them")
    if here:
        yield Check("weights", "ok", f"{', '.join(here)} in {weights_folder()}")
    else:
        yield Check("weights", "missing", f"none in {weights_folder()}; photographs need some, see `featcodec models`")
    yield Check("shipped weights", "ok" if shipped else "broken", ", ".join(shipped) or "none; install featcodec again")
    existing = next(folder for folder in weights_folder().absolute().parents if folder.is_dir())
    yield Check("disk", "ok", f"{shutil.disk_usage(existing).free >> 30} GiB free in {existing}")
