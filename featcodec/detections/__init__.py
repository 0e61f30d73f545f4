"""What a detector found: boxes, the files they are written to, and drawing them. Knows nothing of torch."""

from __future__ import annotations

from featcodec.detections.boxes import BoxFilter, Detection, Detections

__all__ = ["BoxFilter", "Detection", "Detections"]
