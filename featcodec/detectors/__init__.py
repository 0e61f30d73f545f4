"""Detectors that are split in two halves. `load_detector` reads a checkpoint, `SplitDetector` runs the halves.

detector = load_detector("yolov5n")
features = detector.front(images)          # (B, C, H/8, W/8) float32, the output of layer model.4
predictions = detector.back(features)      # (B, 4 + classes, boxes)
"""

from __future__ import annotations

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before any submodule imports ultralytics)
from featcodec.detectors.families import configuration_of
from featcodec.detectors.load import detector_outline, load_detector
from featcodec.detectors.postprocess import detections_of
from featcodec.detectors.split import SplitDetector
from featcodec.detectors.stored import FamilyConfig, build_detector, read_detector, save_detector
from featcodec.detectors.task import Task
from featcodec.detectors.yolov5 import DetectorConfig, build_yolov5

__all__ = [
    "DetectorConfig",
    "FamilyConfig",
    "SplitDetector",
    "Task",
    "build_detector",
    "build_yolov5",
    "configuration_of",
    "detections_of",
    "detector_outline",
    "load_detector",
    "read_detector",
    "save_detector",
]
