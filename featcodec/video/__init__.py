"""Codes frames as VVC or HEVC pictures: one interface, four video codecs.

    codec = open_video_codec("ffmpeg", EncoderSettings(preset="faster"))
    streams = codec.encode([frame, frame], qp=38)   # one standalone Annex B stream per frame
    frame = codec.decode(streams[0], (height, width))

Every video codec keeps this contract. tests/video/test_codecs.py tests it for every video codec that is installed.

- A stream holds exactly one intra picture and decodes alone. Its bytes depend on the frame, the QP and the settings,
  never on the other frames of the call.
- `decode` returns the samples that any conforming decoder gets from the bitstream, rounded back to 8 bits. It never
  uses the encoder's own decoded picture.
- A call that cannot return every picture raises `EncoderError` (encode) or `BitstreamError` (decode).
"""

from __future__ import annotations

import numpy as np

from featcodec.errors import InputError
from featcodec.packing.frames import Frame
from featcodec.video.base import VideoCodec
from featcodec.video.profiles import DEFAULT_PROFILE, PROFILES, choose_profile, encoder_of, profiles_for
from featcodec.video.settings import PRESETS, EncoderSettings

__all__ = [
    "CODECS",
    "DEFAULT_PROFILE",
    "PRESETS",
    "PROFILES",
    "EncoderSettings",
    "Frame",
    "VideoCodec",
    "choose_profile",
    "open_tried_video_codec",
    "open_video_codec",
    "profiles_for",
]

CODECS = ("ffmpeg", "vvenc", "hevc", "none")


def open_video_codec(
    name: str = "ffmpeg", settings: EncoderSettings | None = None, hardware: str | None = None
) -> VideoCodec:
    """The video codec of that name.

    Args:
        name: `ffmpeg` (embedded VVC: imageio-ffmpeg's libvvenc encodes, PyAV decodes), `vvenc` (the official vvencapp
            and vvdecapp), `hevc` (embedded HEVC: PyAV's x265 encodes, PyAV decodes) or `none` (raw samples, to measure
            the cost of coding). All but `none` decode streams of both standards.
        settings: encoder settings, of the codec's own encoder; `none` ignores them.
        hardware: with `hevc`, the hardware encoder: one of `featcodec.video.hevc.HARDWARE`; None means x265.

    Raises:
        InputError: there is no video codec of that name, the settings are of another encoder, or `hardware` is given
            with another codec than `hevc`.
        EncoderError: its programs are not installed.
    """
    if settings is None:
        settings = choose_profile(video_codec=name).latent if name == "hevc" else EncoderSettings()
    if name in CODECS and name != "none" and settings.encoder.name != encoder_of(name).name:
        raise InputError(f"`video_codec` {name} does not take settings of {settings.encoder.name}")
    if hardware is not None and name != "hevc":
        raise InputError(f"`hardware` {hardware} needs `video_codec` hevc; hardware does not encode VVC")
    if name == "ffmpeg":
        from featcodec.video.ffmpeg import FfmpegCodec  # noqa: PLC0415

        return FfmpegCodec(settings)
    if name == "vvenc":
        from featcodec.video.vvenc import VvencCodec  # noqa: PLC0415

        return VvencCodec(settings)
    if name == "hevc":
        from featcodec.video.hevc import HevcCodec  # noqa: PLC0415

        return HevcCodec(settings, hardware)
    if name == "none":
        from featcodec.video.raw import RawCodec  # noqa: PLC0415

        return RawCodec()
    raise InputError(f"unknown video codec {name!r}; choose one of {', '.join(CODECS)}")


def open_tried_video_codec(name: str, settings: EncoderSettings, hardware: str | None = None) -> VideoCodec:
    """The video codec. If the user chose encoder parameters or hardware, they are tried first on a small frame.

    Raises:
        InputError, EncoderError: as in `open_video_codec`; EncoderError also if the encoder refuses the parameters.
    """
    codec = open_video_codec(name, settings, hardware)
    if settings.parameters or hardware:
        codec.encode([np.zeros((64, 64), np.uint8)], 38)
    return codec
