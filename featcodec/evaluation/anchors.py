"""Anchors of a sweep: the letterboxed image itself is coded, as VVC or as JPEG, and the whole detector runs on it.

They are methods as `featcodec.evaluation.methods.Method` describes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import PIL

from featcodec.bitstream import nal
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.errors import InputError
from featcodec.evaluation.identity import common_identity, vvc_identity
from featcodec.evaluation.jpeg import decode_jpeg, encode_jpeg, scan_bytes
from featcodec.evaluation.methods import Picture, Samples
from featcodec.evaluation.points import Row
from featcodec.images.letterbox import Letterbox, Letterboxed
from featcodec.video.colour import ColourCodec
from featcodec.video.ffmpeg import FfmpegCodec


class _PictureMethod:
    """An anchor: the letterboxed picture is coded, and the whole detector runs on the decoded picture."""

    parameter = "qp"
    recnet = ""

    def __init__(self, codec: FeatureCodec) -> None:
        self.codec = codec

    def prepare(self, batch: Sequence[Letterboxed]) -> list[tuple[None, Samples]]:
        """See `Method.prepare`."""
        return [(None, image.pixels) for image in batch]

    def back_end(self, batch: Sequence[Letterboxed]) -> list[Detections]:
        """See `Method.back_end`."""
        return self.codec.detect_letterboxed(batch)

    def attack(self, batch: Sequence[Letterboxed]) -> list[Picture]:
        """See `Method.attack`."""
        return []

    def _letterbox(self, original: tuple[int, int]) -> Letterbox:
        return self.codec.fitting.letterbox(*original)


class InputVvcMethod(_PictureMethod):
    """The picture in VVC, 4:2:0, with the preset and the parameters of the codec, but without the tools of a profile.

    Args:
        codec: holds the detector, the letterbox and the VVC settings.

    Raises:
        InputError: its video codec is not ffmpeg. Only ffmpeg codes colour.
    """

    name = "input-vvc"

    def __init__(self, codec: FeatureCodec) -> None:
        if not isinstance(codec.video_codec, FfmpegCodec):
            raise InputError(f"{self.name} needs `video_codec` ffmpeg; leave out the method or the option")
        # The tools were chosen for frames. On pictures they would be a disadvantage for the anchor.
        video_codec = FfmpegCodec(dataclasses.replace(codec.video_codec.settings, tools={}))
        super().__init__(dataclasses.replace(codec, video_codec=video_codec))
        self._colour = ColourCodec(video_codec)

    def identity(self) -> Row:
        """See `Method.identity`."""
        common = common_identity(self.codec, self.codec.model.detector.fingerprint)
        return {**common, **vvc_identity(self.codec), "method": self.name}

    def encode(self, batch: Sequence[tuple[None, Samples]], value: int | None) -> list[bytes]:
        """See `Method.encode`."""
        return self._colour.encode([samples for _, samples in batch], value or 0)

    def slice_bytes(self, data: bytes) -> int:
        """See `Method.slice_bytes`."""
        return sum(len(unit) for unit in nal.split_units(data) if nal.is_slice(unit))

    def decode(self, data: bytes, original: tuple[int, int]) -> Letterboxed:
        """See `Method.decode`."""
        letterbox = self._letterbox(original)
        return Letterboxed(letterbox, self._colour.decode(data, (letterbox.height, letterbox.width)))


class InputJpegMethod(_PictureMethod):
    """The picture as JPEG.

    Args:
        codec: holds the detector and the letterbox.
        subsampling: subsampling of chroma, one of `featcodec.evaluation.jpeg.SUBSAMPLINGS`.
    """

    name = "input-jpeg"
    parameter = "quality"

    def __init__(self, codec: FeatureCodec, subsampling: str = "4:2:0") -> None:
        super().__init__(codec)
        self.subsampling = subsampling

    def identity(self) -> Row:
        """See `Method.identity`."""
        return {
            **common_identity(self.codec, self.codec.model.detector.fingerprint),
            "method": self.name,
            "codec": "pillow",
            "codec_version": PIL.__version__,
            "encoder_params": f"subsampling={self.subsampling}",
        }

    def encode(self, batch: Sequence[tuple[None, Samples]], value: int | None) -> list[bytes]:
        """See `Method.encode`."""
        return [encode_jpeg(samples, value or 0, self.subsampling) for _, samples in batch]

    def slice_bytes(self, data: bytes) -> int:
        """See `Method.slice_bytes`."""
        return scan_bytes(data)

    def decode(self, data: bytes, original: tuple[int, int]) -> Letterboxed:
        """See `Method.decode`."""
        letterbox = self._letterbox(original)
        return Letterboxed(letterbox, decode_jpeg(data, (letterbox.height, letterbox.width)))
