"""The official VVC programs: vvencapp encodes and vvdecapp decodes, each in its own process.

featcodec looks for them in $FEATCODEC_VVC_BIN, then in the checkout's `bin/`, then on PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featcodec.errors import BitstreamError, EncoderError
from featcodec.packing.frames import Frame
from featcodec.video import process
from featcodec.video.base import (
    check_frames,
    coded_shape,
    from_10_bits,
    prove_decodable,
    split_batch,
    to_yuv420p10,
)
from featcodec.video.settings import EncoderSettings

_CHECKOUT_BIN = Path(__file__).resolve().parents[2] / "bin"
_HINTS = (
    (
        "Unknown argument",
        "this vvencapp does not know one of the options; update vvencapp, or check `encoder_parameters`",
    ),
    process.DISK_FULL_HINT,
)


def find_program(name: str) -> str:
    """The path of `vvencapp` or `vvdecapp`.

    Raises:
        EncoderError: the program is not found; the message names the folders that were searched.
    """
    folders = [os.environ.get("FEATCODEC_VVC_BIN", ""), str(_CHECKOUT_BIN)]
    for folder in filter(None, folders):
        if found := shutil.which(name, path=folder):
            return found
    if found := shutil.which(name):
        return found
    raise EncoderError(
        f"{name} not found in $FEATCODEC_VVC_BIN, {_CHECKOUT_BIN} or PATH; build it from "
        "https://github.com/fraunhoferhhi and put it there, or use `video_codec` ffmpeg"
    )


class VvencCodec:
    """VVC through vvencapp and vvdecapp.

    Args:
        settings: encoder settings.

    Raises:
        EncoderError: vvencapp or vvdecapp is not found.
    """

    name = "vvenc"

    def __init__(self, settings: EncoderSettings) -> None:
        self.settings = settings
        self.encoder = find_program("vvencapp")
        self.decoder = find_program("vvdecapp")

    @property
    def tag(self) -> int:
        """See `VideoCodec.tag`."""
        return self.settings.tag(self.name)

    def encode(self, frames: Sequence[Frame], qp: int, *, threads: int = 1) -> list[bytes]:
        """See `VideoCodec.encode`."""
        shape = check_frames(frames, qp)
        height, width = coded_shape(shape)
        with process.temporary_folder() as folder:
            source, output = folder / "pictures.yuv", folder / "pictures.266"
            source.write_bytes(b"".join(map(to_yuv420p10, frames)))
            # With -1 vvencapp chooses the number of threads; with 0 it would use none.
            command = [
                *(self.encoder, "--verbosity", "1", "--input", str(source), "--size", f"{width}x{height}"),
                *("--format", "yuv420_10", "--framerate", "1", "--preset", self.settings.preset, "--qp", str(qp)),
                *("--qpa", "0", "--threads", str(threads or -1), "--output", str(output)),
                *("--additional", " ".join(f"{name}={value}" for name, value in self.settings.options(qp).items())),
            ]
            process.run(command, hints=_HINTS)
            stream = output.read_bytes() if output.exists() else b""
        streams = split_batch(stream, len(frames), "vvencapp")
        if self.settings.parameters:
            prove_decodable(self, streams, shape)
        return streams

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Frame:
        """See `VideoCodec.decode`."""
        height, width = coded_shape(shape)
        with process.temporary_folder() as folder:
            source, output = folder / "picture.266", folder / "picture.yuv"
            source.write_bytes(stream)
            command = [self.decoder, "-b", str(source), "-o", str(output), "-t", "1", "-v", "0"]
            try:
                process.run(command)
            except EncoderError as error:
                raise BitstreamError(f"its VVC picture does not decode: {error}") from None
            size = output.stat().st_size if output.exists() else 0
            # The picture is 4:2:0 or gray, single or doubled (`coded_shape`), with two bytes per sample.
            if size not in (3 * height * width, 2 * height * width, 6 * height * width, 4 * height * width):
                raise BitstreamError(f"its VVC stream decodes to {size} bytes, not to one {width}x{height} picture")
            luma = np.fromfile(output, "<u2", count=height * width).reshape(height, width)
        return from_10_bits(luma, shape)
