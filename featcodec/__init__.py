"""featcodec: code the feature tensor of a split YOLOv5 detector as a VVC picture.

    from featcodec import FeatureCodec

    codec = FeatureCodec.load("yolov5n")
    data = codec.encode(image_rgb, qp=38)   # HWC uint8 in [0, 255] -> the bytes of one `.266` file
    detections = codec.decode(data)         # xyxy in original pixels, scores, class ids, names

Names are imported on first use: `import featcodec` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featcodec.version import __version__

if TYPE_CHECKING:
    from featcodec.codec import FeatureCodec
    from featcodec.detections import BoxFilter, Detections
    from featcodec.errors import FeatcodecError

__all__ = ["BoxFilter", "Detections", "FeatcodecError", "FeatureCodec", "__version__"]

_HOMES = {
    "BoxFilter": "featcodec.detections.boxes",
    "Detections": "featcodec.detections.boxes",
    "FeatcodecError": "featcodec.errors",
    "FeatureCodec": "featcodec.codec",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
