"""The columns that identify the points of a method in a sweep (`points.IDENTITY`), without rate and data set."""

from __future__ import annotations

import av
import imageio_ffmpeg
import numpy as np

from featcodec.codec import FeatureCodec
from featcodec.evaluation.points import Row, number
from featcodec.version import __version__
from featcodec.video.ffmpeg import FfmpegCodec
from featcodec.video.hevc import HevcCodec


def common_identity(codec: FeatureCodec, fingerprint: bytes) -> Row:
    """Return the columns that every method has: networks, letterbox and boxes. Columns of coding settings are empty.

    Args:
        codec: holds the letterbox and the detector.
        fingerprint: 8 bytes that name the networks.
    """
    return {
        **dict.fromkeys(
            ("preset", "encoder_params", "split", "clip_low", "clip_high", "bits", "layout", "restoration"), ""
        ),
        "fingerprint": fingerprint.hex(),
        "image_size": str(codec.image_size),
        "square": "yes" if codec.square else "no",
        "precision": codec.model.precision,
        "conf": number(codec.boxes.conf),
        "iou": number(codec.boxes.iou),
        "max_det": str(codec.boxes.max_det),
        "version": __version__,
    }


def vvc_identity(codec: FeatureCodec) -> Row:
    """Return the columns of the video codec and its settings."""
    identity = {"codec": codec.video_codec.name, "codec_version": ""}
    settings = getattr(codec.video_codec, "settings", None)
    if settings is not None:
        identity["preset"] = settings.preset
        identity["encoder_params"] = settings.chosen_text
    if isinstance(codec.video_codec, FfmpegCodec):
        identity["codec_version"] = imageio_ffmpeg.get_ffmpeg_version()
    if isinstance(codec.video_codec, HevcCodec):
        identity["codec_version"] = f"PyAV {av.__version__}, {codec.video_codec.encoder}"
    return identity


def short(value: float) -> str:
    """Write a float32 as a person does, for example -0.2786."""
    return f"{float(str(np.float32(value))):.9g}"
