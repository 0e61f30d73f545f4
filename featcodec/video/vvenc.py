"""The official VVC programs: vvencapp encodes and vvdecapp decodes, each in its own process.

featcodec looks for them in $FEATCODEC_VVC_BIN, then in the checkout's `bin/`, then on PATH.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcodec.bitstream import VVC
from featcodec.bitstream.nal import standard_of_stream
from featcodec.errors import BitstreamError, EncoderError
from featcodec.packing.frames import Frame
from featcodec.video import process
from featcodec.video.base import (
    check_frames,
    coded_shape,
    from_10_bits,
    prove_decodable,
    split_batch,
    to_gray10,
)
from featcodec.video.embedded import decode_frame
from featcodec.video.settings import GRAY, EncoderSettings

_CHECKOUT_BIN = Path(__file__).resolve().parents[2] / "bin"
_UNKNOWN = "this vvencapp does not know one of the options; update vvencapp, or check `encoder_parameters`"
_HINTS = (
    ("Unknown argument", _UNKNOWN),
    ("Unknown option", _UNKNOWN),
    ("Parameter Check Error", "the encoder refuses these settings; check `encoder_parameters` and `preset`"),
    ("Error parsing option", "the encoder refuses these settings; check `encoder_parameters` and `preset`"),
    process.DISK_FULL_HINT,
)
_Y4M_HEADER = re.compile(rb"YUV4MPEG2 [^\n]*?W(\d{1,5}) H(\d{1,5})(?: [^\n]*)?\n")
_Y4M_FRAME = b"FRAME\n"


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
    standard = VVC

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
            source.write_bytes(b"".join(map(to_gray10, frames)))
            options = {**self.settings.options(qp), **GRAY}
            # With -1 vvencapp chooses the number of threads; with 0 it would use none.
            command = [
                *(self.encoder, "--verbosity", "1", "--input", str(source), "--size", f"{width}x{height}"),
                *("--format", "yuv400_10", "--framerate", "1", "--preset", self.settings.preset, "--qp", str(qp)),
                *("--qpa", "0", "--threads", str(threads or -1), "--output", str(output)),
                *("--additional", " ".join(f"{name}={value}" for name, value in options.items())),
            ]
            process.run(command, hints=_HINTS)
            stream = output.read_bytes() if output.exists() else b""
        streams = split_batch(stream, len(frames), "vvencapp")
        if self.settings.parameters:
            prove_decodable(self, streams, shape)
        return streams

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Frame:
        """See `VideoCodec.decode`. The official programs know VVC alone, so HEVC goes to the embedded decoder."""
        if standard_of_stream(stream) is not VVC:
            return decode_frame(stream, shape)
        with process.temporary_folder() as folder:
            source, output = folder / "picture.266", folder / "picture.y4m"
            source.write_bytes(stream)
            # Two pictures are enough to see that there is more than one.
            command = [self.decoder, "-b", str(source), "-o", str(output), "-f", "2", "-t", "1", "-v", "0"]
            try:
                process.run(command)
            except EncoderError as error:
                raise BitstreamError(f"its VVC picture does not decode: {error}") from None
            luma = _read_luma(output, [coded_shape(shape), coded_shape(shape, doubled=True)])
        return from_10_bits(luma, shape)


def _read_luma(path: Path, shapes: Sequence[tuple[int, int]]) -> npt.NDArray[np.uint16]:
    """The 10-bit luma of the one picture that vvdecapp wrote.

    The header of the file says the size of the picture. The size of the file says the rest: two bytes per sample, with
    4:2:0 chroma or without chroma. In the header, vvdecapp says 4:2:0 in both cases.

    Args:
        path: the file, in the format YUV4MPEG2; it may be missing.
        shapes: the allowed (height, width) pairs.

    Raises:
        BitstreamError: the file does not hold exactly one picture of one of these shapes in 10 bits.
    """
    height, width = shapes[0]
    size = path.stat().st_size if path.exists() else 0
    with path.open("rb") if size else io.BytesIO() as file:
        header = _Y4M_HEADER.match(file.readline(256))
        found = (int(header[2]), int(header[1])) if header else (0, 0)
        samples = found[0] * found[1]
        left = size - file.tell() - len(_Y4M_FRAME)
        if found not in shapes or left not in (2 * samples, 3 * samples) or file.readline(256) != _Y4M_FRAME:
            raise BitstreamError(
                f"its VVC stream decodes to {size} bytes of {found[1]}x{found[0]} samples, not to one {width}x{height} "
                "picture"
            )
        return np.frombuffer(file.read(2 * samples), "<u2").reshape(found)
