"""The side info of a letterboxed image, from plain values: an edge without torch makes it from a file."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from featcodec.bitstream import SideInfo
from featcodec.bitstream.side_info import TensorShape
from featcodec.images.letterbox import Letterboxed
from featcodec.packing.frames import Packing


def side_info_for(
    image: Letterboxed,
    shapes: Sequence[TensorShape],
    packing: Packing,
    split: int,
    fingerprint: bytes,
    qp: int,
    video_tag: int,
) -> SideInfo:
    """The side info of one image's stream, checked.

    Args:
        image: the image as the front-end sees it.
        shapes: channels, height and width of each tensor that the front-end makes of it, the finest first.
        packing: how the tensors lie in the frame.
        split: the last layer of the front-end.
        fingerprint: 8 bytes that name the model and the layout.
        qp: 0..63, with HEVC 0..51; or `RAW_QP`.
        video_tag: what names the settings of the video codec (`VideoCodec.tag`).

    Raises:
        BitstreamError: the frame would be larger than a bitstream may hold.
    """
    letterbox = image.letterbox
    (channels, height, width), *further = shapes
    side_info = SideInfo(
        original_width=letterbox.original_width,
        original_height=letterbox.original_height,
        letterboxed_width=letterbox.width,
        letterboxed_height=letterbox.height,
        channels=channels,
        feature_height=height,
        feature_width=width,
        tile_rows=packing.grid.rows,
        tile_cols=packing.grid.cols,
        clip_low=packing.quantizer.low,
        clip_high=packing.quantizer.high,
        bits=packing.quantizer.bits,
        split=split,
        fingerprint=fingerprint,
        qp=qp,
        encoder_tag=zlib.crc32(image.pixels.tobytes(), video_tag) & 0xFFFF,
        further=tuple(further),
    )
    # Check before any time is spent on coding the frame.
    side_info.check()
    return side_info
