"""The uncoded detector reaches the accuracy that the original YOLOv5 code reaches on the same pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from featcodec.codec import FeatureCodec
from featcodec.evaluation.coco import score
from featcodec.images.annotations import read_annotations
from featcodec.images.reading import read_image

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
