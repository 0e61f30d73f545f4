"""The uncoded detector reaches the accuracy that the original YOLOv5 code reaches on the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcodec.codec import FeatureCodec
from featcodec.detections import BoxFilter
from featcodec.evaluation.coco import score
from featcodec.images.annotations import read_annotations
from featcodec.images.reading import read_image
from featcodec.networks.known import KNOWN

# Original YOLOv5 code, yolov5n.pt, the same 64 pictures at 512, pycocotools.
MINIMUM_RECTANGLE = (36.95, 54.19)
SQUARE = (34.01, 50.52)
# Its resize and its order of operations differ in details that a score near the threshold can notice.
TOLERANCE = 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("square", "expected"), [(False, MINIMUM_RECTANGLE), (True, SQUARE)])
def test_accuracy_is_that_of_yolov5(
    shared: Path, yolov5n_path: Path, square: bool, expected: tuple[float, float]
) -> None:
    codec = FeatureCodec.load(yolov5n_path, square=square, device="cpu")
    annotations = read_annotations(shared / "data" / "coco128" / "annotations" / "instances_val2017.json")
    results = []
    for entry in annotations.content["images"]:
        detections = codec.detect(read_image(shared / "data" / "coco128" / "images" / "val2017" / entry["file_name"]))
        assert (detections.width, detections.height) == (entry["width"], entry["height"])
        results += detections.to_coco(entry["id"])
    accuracy = score(annotations, results)
    assert accuracy.images == 64
    assert (accuracy.ap, accuracy.ap50) == pytest.approx(expected, abs=TOLERANCE)


# ultralytics' families: the boxes of ultralytics' own `predict`, where the weights are on this machine.

FAMILIES = (
    *("yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov9t", "yolov10n", "yolo11n", "yolo11n-seg", "yolo11n-pose"),
    *("yolo12n", "yolo26n", "yolo26n-seg", "yolo26n-pose", "yolov5n6u"),
)
PIXELS = 2.0
"""A box may differ by so much: the two resize pictures in other ways."""


def weights_of(shared: Path, name: str) -> Path:
    """The file in the weights folder, or in the shared one."""
    places = KNOWN[name].path, shared / "weights" / f"{name}.pt"
    for place in places:
        if place.is_file():
            return place
    pytest.skip(f"no test data: put {KNOWN[name].url} into {places[0].parent} or {places[1].parent}")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_boxes_are_those_of_ultralytics(shared: Path, name: str) -> None:
    """Every box that ultralytics is sure of is found, and no other that we are sure of; on eight pictures."""
    path = weights_of(shared, name)
    from ultralytics import YOLO

    codec = FeatureCodec.load(path, bottleneck="none", image_size=640, device="cpu", boxes=BoxFilter(conf=0.25))
    model: Any = YOLO(path, verbose=False)
    files = sorted((shared / "data" / "coco128" / "images" / "val2017").iterdir())[:8]
    sure = 0
    for file in files:
        found = codec.detect(read_image(file))
        result: Any = model.predict(file, imgsz=640, conf=0.25, iou=codec.boxes.iou, verbose=False, device="cpu")[0]
        theirs = np.column_stack(
            [result.boxes.xyxy.numpy(), result.boxes.conf.numpy(), result.boxes.cls.numpy()]  # x, y, x, y, score, class
        )
        ours = np.column_stack([found.xyxy, found.scores, found.class_ids])
        for some, others in ((theirs, ours), (ours, theirs)):
            for box in some[some[:, 4] > 0.4]:
                near = np.abs(others[:, :4] - box[:4]).max(1) < max(PIXELS, 0.02 * np.ptp(box[:4]))
                assert (near & (others[:, 5] == box[5]) & (np.abs(others[:, 4] - box[4]) < 0.1)).any(), (file, box)
                sure += 1
    assert sure > 20
