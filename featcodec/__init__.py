"""featcodec: code the feature tensor of a split YOLOv5 detector as a VVC picture.

    from featcodec import FeatureCodec

    codec = FeatureCodec.load("yolov5n")
    data = codec.encode(image_rgb, qp=38)   # HWC uint8 in [0, 255] -> the bytes of one `.266` file
    detections = codec.decode(data)         # xyxy in original pixels, scores, class ids, names

Names are imported on first use: `import featcodec` does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featcodec.version import __version__

if TYPE_CHECKING:
    from featcodec.codec import FeatureCodec
    from featcodec.detections import Detections

__all__ = ["Detections", "FeatureCodec", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "FeatureCodec":
        from featcodec.codec import FeatureCodec  # noqa: PLC0415

        return FeatureCodec
    if name == "Detections":
        from featcodec.detections import Detections  # noqa: PLC0415

        return Detections
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
