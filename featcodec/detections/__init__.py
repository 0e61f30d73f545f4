"""The detections of an image: boxes, writing them to files, and drawing them. This package does not use torch."""

from __future__ import annotations

from featcodec.detections.boxes import BoxFilter, Detection, Detections

__all__ = ["BoxFilter", "Detection", "Detections"]
