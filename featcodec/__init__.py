"""featcodec: code the feature tensor of a split YOLOv5 detector as a VVC picture.

    from featcodec import FeatureCodec

    codec = FeatureCodec.load("yolov5n")
    data = codec.encode("photograph.jpg", qp=38)  # a path, a PIL image or an array -> the bytes of one `.266` file
    detections = codec.decode(data)  # boxes in original pixels, scores, class names
    for box in detections.filter(0.5):
        print(box.name, box.score, box.xyxy)

Each name is imported on first use, so `import featcodec` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featcodec.version import __version__

if TYPE_CHECKING:
    from featcodec.bitstream.rate import bits_per_pixel
    from featcodec.codec import FeatureCodec
    from featcodec.detections import BoxFilter, Detection, Detections
    from featcodec.detections.drawing import draw_boxes
    from featcodec.errors import (
        BitstreamError,
        EncoderError,
        FeatcodecError,
        InputError,
        OutputError,
        ServiceError,
        TrainingError,
        WeightsError,
    )
    from featcodec.images.reading import read_image
    from featcodec.split_model import SplitModel

__all__ = [
    "BitstreamError",
    "BoxFilter",
    "Detection",
    "Detections",
    "EncoderError",
    "FeatcodecError",
    "FeatureCodec",
    "InputError",
    "OutputError",
    "ServiceError",
    "SplitModel",
    "TrainingError",
    "WeightsError",
    "__version__",
    "bits_per_pixel",
    "draw_boxes",
    "read_image",
]

_HOMES = {
    "BoxFilter": "featcodec.detections",
    "Detection": "featcodec.detections",
    "Detections": "featcodec.detections",
    "FeatureCodec": "featcodec.codec",
    "SplitModel": "featcodec.split_model",
    "bits_per_pixel": "featcodec.bitstream.rate",
    "draw_boxes": "featcodec.detections.drawing",
    "read_image": "featcodec.images.reading",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "featcodec.errors")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
