"""The bootstrap of AP50: resamples against pycocotools on annotation files that hold the images as often."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcodec.evaluation.bootstrap import ap50_interval, resampled_ap50
from featcodec.evaluation.coco import match_boxes, score
from featcodec.images.annotations import Annotations

IMAGES, CATEGORIES = 6, 3


def random_set(seed: int) -> tuple[Annotations, list[dict[str, Any]]]:
    """Images with some boxes of each category, some of them crowds, and detections of which some hit."""
    random = np.random.default_rng(seed)
    boxes: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(IMAGES):
        for category in range(CATEGORIES):
            for _ in range(random.integers(0, 4)):
                left, top, width, height = (float(value) for value in random.integers(1, 90, 4))
                box = [left, top, width, height]
                crowd = int(random.random() < 0.15)
                boxes.append({"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd})
                if random.random() < 0.7:
                    near = [value + float(random.normal(0, 3)) for value in box]
                    results.append({"image_id": image, "category_id": category, "bbox": near})
            for _ in range(random.integers(0, 3)):
                anywhere = [float(value) for value in random.integers(1, 90, 4)]
                results.append({"image_id": image, "category_id": category, "bbox": anywhere})
    for result, confidence in zip(results, random.permutation(len(results)), strict=True):
        result["score"] = (confidence + 1) / (len(results) + 1)
    return annotations_of(boxes, range(IMAGES)), results


def annotations_of(boxes: list[dict[str, Any]], images: Any) -> Annotations:
    content = {
        "images": [{"id": image, "file_name": f"{image}.jpg"} for image in images],
        "annotations": boxes,
        "categories": [{"id": category, "name": str(category)} for category in range(CATEGORIES)],
    }
    return Annotations(Path("truth.json"), content)


def repeated(annotations: Annotations, results: list[dict[str, Any]], weights: list[int]) -> float:
    """AP50 by pycocotools, of a set that holds image n weights[n] times."""
    copies = [(image, 100 * copy + image) for image, weight in enumerate(weights) for copy in range(weight)]
    boxes, found = (
        [{**entry, "image_id": new} for old, new in copies for entry in entries if entry["image_id"] == old]
        for entries in (annotations.content["annotations"], results)
    )
    return score(annotations_of(boxes, [new for _, new in copies]), found).ap50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_resamples_are_scored_as_pycocotools_does(seed: int) -> None:
    annotations, results = random_set(seed)
    evaluation = match_boxes(annotations, results)
    weights = np.random.default_rng(seed).multinomial(IMAGES, [1 / IMAGES] * IMAGES, 12)
    weights[0] = 1
    computed = resampled_ap50(evaluation, weights)
    assert computed[0] == pytest.approx(score(annotations, results).ap50, abs=1e-9)
    for one, expected in zip(computed, weights.tolist(), strict=True):
        assert one == pytest.approx(repeated(annotations, results, expected), abs=1e-6)


def test_the_interval_is_seeded_and_holds_most_resamples() -> None:
    annotations, results = random_set(0)
    evaluation = match_boxes(annotations, results)
    interval = ap50_interval(evaluation, 500, seed=3)
    assert ap50_interval(evaluation, 500, seed=3) == interval
    assert ap50_interval(evaluation, 500, seed=4) != interval
    assert 0 < interval.low < score(annotations, results).ap50 < interval.high < 100


def test_equal_images_leave_nothing_to_chance() -> None:
    boxes = [{"image_id": n, "category_id": 0, "bbox": [5, 5, 30, 30]} for n in range(4)]
    results = [{**box, "score": 0.5} for box in boxes]
    interval = ap50_interval(match_boxes(annotations_of(boxes, range(4)), results), 50)
    assert (interval.low, interval.high) == pytest.approx((100, 100))


def test_nothing_found_and_nothing_annotated() -> None:
    boxes = [{"image_id": 0, "category_id": 0, "bbox": [5, 5, 30, 30]}]
    annotations = annotations_of(boxes, range(2))
    nothing = ap50_interval(match_boxes(annotations, []), 10)
    assert (nothing.low, nothing.high) == (0, 0)
    evaluation = match_boxes(annotations, [{**boxes[0], "score": 0.5}])
    values = resampled_ap50(evaluation, np.array([[2, 0], [0, 2]]))
    assert values[0] == pytest.approx(100)
    assert math.isnan(values[1])
