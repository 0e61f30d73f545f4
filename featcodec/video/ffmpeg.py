"""The embedded VVC codec: imageio-ffmpeg's libvvenc encodes in its own process, PyAV decodes in this process."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg

from featcodec.bitstream import VVC
from featcodec.errors import EncoderError
from featcodec.packing.frames import Frame
from featcodec.video import process
from featcodec.video.base import (
    check_frames,
    coded_shape,
    prove_decodable,
    split_batch,
    to_yuv420p10,
)
from featcodec.video.embedded import decode_frame
from featcodec.video.settings import GRAY, EncoderSettings

_BUFFER_TOO_SMALL = "Error submitting video frame to the encoder"
_HINTS = (
    (
        _BUFFER_TOO_SMALL,
        "this picture has too much noise at this QP for the bundled encoder's output buffer; use a higher QP "
        "(every picture fits from about QP 16 on), or the official encoder with `video_codec` vvenc",
    ),
    ("Could not open encoder", "the encoder refuses these settings; check `encoder_parameters` and `preset`"),
    ("Unknown encoder 'libvvenc'", "this ffmpeg has no libvvenc; unset IMAGEIO_FFMPEG_EXE to use the bundled ffmpeg"),
    process.DISK_FULL_HINT,
)


class FfmpegCodec:
    """VVC through ffmpeg's libvvenc and PyAV.

    Args:
        settings: encoder settings.

    Raises:
        EncoderError: there is no ffmpeg.
    """

    name = "ffmpeg"
    standard = VVC

    def __init__(self, settings: EncoderSettings) -> None:
        self.settings = settings
        try:
            self.executable: str = imageio_ffmpeg.get_ffmpeg_exe()
        except RuntimeError as error:
            raise EncoderError(f"no ffmpeg found ({error}); reinstall imageio-ffmpeg") from None
        if shutil.which(self.executable) is None:
            raise EncoderError(
                f"{self.executable} is not a program; unset IMAGEIO_FFMPEG_EXE to use the bundled ffmpeg"
            )

    @property
    def tag(self) -> int:
        """See `VideoCodec.tag`."""
        return self.settings.tag(self.name)

    def command(self, shape: tuple[int, int], qp: int, threads: int, output: Path, *, gray: bool) -> list[str]:
        """The ffmpeg command line that codes raw yuv420p10le pictures of a coded shape from stdin.

        With `gray`, only their luma is coded, as 4:0:0. The input is still 4:2:0, because ffmpeg gives libvvenc only
        4:2:0 pictures.
        """
        settings = {**self.settings.options(qp), **(GRAY if gray else {})}
        options = ":".join(f"{name}={value}" for name, value in settings.items())
        return [
            *(self.executable, "-nostdin", "-hide_banner", "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", f"{shape[1]}x{shape[0]}", "-r", "1", "-i", "pipe:0"),
            *("-c:v", "libvvenc", "-threads", str(threads), "-preset", self.settings.preset),
            *("-qp", str(qp), "-qpa", "0", "-vvenc-params", options),
            # Do not write to stdout: libvvenc prints its configuration warnings there, between the stream's bytes.
            *("-f", "vvc", str(output)),
        ]

    def encode(self, frames: Sequence[Frame], qp: int, *, threads: int = 1) -> list[bytes]:
        """See `VideoCodec.encode`."""
        check_frames(frames, qp)
        try:
            return self._encode(frames, qp, threads)
        except process.ProgramError as error:
            if _BUFFER_TOO_SMALL not in error.output:
                raise
        if len(frames) > 1:
            # Code each frame by itself: only the frames that need it are doubled, and bytes do not depend on the batch.
            return [stream for frame in frames for stream in self.encode([frame], qp, threads=threads)]
        return self._encode(frames, qp, threads, doubled=True)

    def _encode(self, frames: Sequence[Frame], qp: int, threads: int, *, doubled: bool = False) -> list[bytes]:
        shape = check_frames(frames, qp)
        pictures = [to_yuv420p10(frame, doubled=doubled) for frame in frames]
        streams = self.encode_raw(pictures, coded_shape(shape, doubled=doubled), qp, threads, gray=True)
        if self.settings.parameters:
            prove_decodable(self, streams, shape)
        return streams

    def encode_raw(
        self, pictures: Sequence[bytes], shape: tuple[int, int], qp: int, threads: int, *, gray: bool = False
    ) -> list[bytes]:
        """One standalone Annex B stream per raw yuv420p10le picture of a coded (height, width).

        Args:
            pictures: at least one picture.
            shape: the (height, width) of their luma.
            qp: quantization parameter, 0 (finest) to 63.
            threads: encoder threads.
            gray: code only the luma, as 4:0:0.

        Raises:
            EncoderError: as in `VideoCodec.encode`.
        """
        with process.temporary_folder() as folder:
            output = folder / "pictures.266"
            process.run(self.command(shape, qp, threads, output, gray=gray), b"".join(pictures), hints=_HINTS)
            stream = output.read_bytes() if output.exists() else b""
        return split_batch(stream, len(pictures), "ffmpeg's libvvenc")

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Frame:
        """See `VideoCodec.decode`."""
        return decode_frame(stream, shape)
