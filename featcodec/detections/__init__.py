"""The detections of an image: boxes, masks and keypoints; writing them to files, and drawing them.

This package does not use torch.
"""

from __future__ import annotations

from featcodec.detections.boxes import BoxFilter, Detection, Detections
from featcodec.detections.masks import Mask

__all__ = ["BoxFilter", "Detection", "Detections", "Mask"]
