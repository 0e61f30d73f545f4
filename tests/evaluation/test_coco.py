"""COCO average precision against cases that are computed by hand, and against plain pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from featcodec.errors import InputError
from featcodec.evaluation.bootstrap import ap50_interval
from featcodec.evaluation.coco import FIELDS, Accuracy, Kind, kinds_of, match_boxes, score
from featcodec.images.annotations import Annotations, read_annotations
from featcodec.images.results import read_results
from featcodec.images.rle import encode, runs_of


def truth(*boxes: tuple[int, int, list[float]], images: int = 2, **further: Any) -> Annotations:
    """Annotations of (image, category, box), as short as a person would write them."""
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(1, images + 1)],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": box, **further} for image, category, box in boxes
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    return Annotations(Path("truth.json"), content)


def found(image: int, category: int, box: list[float], confidence: float = 0.9) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": confidence}


A, B, C = [10.0, 10.0, 100.0, 100.0], [200.0, 50.0, 60.0, 80.0], [0.0, 300.0, 40.0, 40.0]
BOXES = ((1, 1, A), (1, 1, B), (2, 5, C))


def assert_accuracy(accuracy: Accuracy, ap: float, ap50: float, ap75: float, images: int = 2) -> None:
    assert (accuracy.ap, accuracy.ap50, accuracy.ap75) == pytest.approx((ap, ap50, ap75), abs=1e-9)
    assert accuracy.images == images


def test_perfect_detections() -> None:
    assert_accuracy(score(truth(*BOXES), [found(*box) for box in BOXES]), 100, 100, 100)


def test_half_of_the_boxes() -> None:
    """One of two cats: precision 1 at the 51 of 101 recall levels up to 0.5, and 0 beyond."""
    half = 100 * 51 / 101
    assert_accuracy(score(truth((1, 1, A), (1, 1, B)), [found(1, 1, A)]), half, half, half)


def test_false_alarm_with_a_higher_score_halves_precision() -> None:
    results = [found(1, 1, C, 0.95), found(1, 1, A, 0.9)]
    assert_accuracy(score(truth((1, 1, A)), results), 50, 50, 50)
    results = [found(1, 1, C, 0.5), found(1, 1, A, 0.9)]
    assert_accuracy(score(truth((1, 1, A)), results), 100, 100, 100)


def test_false_alarm_in_a_picture_without_boxes_counts() -> None:
    assert_accuracy(score(truth((1, 1, A)), [found(2, 1, A, 0.95), found(1, 1, A)]), 50, 50, 50)


def test_inexact_box_counts_up_to_its_overlap() -> None:
    """IoU 0.64: a match at 0.50, 0.55 and 0.60, three of ten thresholds; IoU 0.8: at seven of ten."""
    assert_accuracy(score(truth((1, 1, A)), [found(1, 1, [10, 10, 64, 100])]), 30, 100, 0)
    assert_accuracy(score(truth((1, 1, A)), [found(1, 1, [10, 10, 100, 81])]), 70, 100, 100)


def test_classes_are_averaged() -> None:
    assert_accuracy(score(truth((1, 1, A), (1, 5, B)), [found(1, 1, A)]), 50, 50, 50)
    assert_accuracy(score(truth((1, 1, A), (1, 5, B)), [found(1, 5, A), found(1, 1, B)]), 0, 0, 0)


def test_second_detection_of_a_box_is_a_false_alarm() -> None:
    results = [found(1, 1, A, 0.9), found(1, 1, A, 0.8), found(1, 1, B, 0.7)]
    expected = 100 * (51 + 50 * 2 / 3) / 101
    assert_accuracy(score(truth((1, 1, A), (1, 1, B)), results), expected, expected, expected)


def test_every_listed_picture_counts() -> None:
    third = 100 * 34 / 101  # recall levels 0.00 .. 0.33
    annotations = truth((1, 1, A), (2, 1, A), (3, 1, A), images=3)
    assert_accuracy(score(annotations, [found(1, 1, A)]), third, third, third, images=3)


def test_no_results_are_zero() -> None:
    assert_accuracy(score(truth(*BOXES), []), 0, 0, 0)


@pytest.mark.parametrize("first", [0, 1, 41])
def test_annotation_ids_do_not_matter(first: int) -> None:
    """pycocotools takes a match with the annotation of id 0 for no match."""
    annotations = truth(*BOXES)
    for number, annotation in enumerate(annotations.content["annotations"], first):
        annotation["id"] = number
    assert_accuracy(score(annotations, [found(*box) for box in BOXES]), 100, 100, 100)


def test_missing_and_repeated_annotation_ids_do_not_matter() -> None:
    annotations = truth(*BOXES)
    for number, annotation in zip((2, 2, None), annotations.content["annotations"], strict=True):
        if number is not None:
            annotation["id"] = number
    assert_accuracy(score(annotations, [found(*box) for box in BOXES]), 100, 100, 100)


def test_crowds_are_neither_hits_nor_misses() -> None:
    annotations = truth((1, 1, A), (1, 1, B))
    annotations.content["annotations"][1]["iscrowd"] = 1
    assert_accuracy(score(annotations, [found(1, 1, A, 0.5), found(1, 1, B, 0.9)]), 100, 100, 100)
    assert_accuracy(score(annotations, [found(1, 1, A)]), 100, 100, 100)


def test_nothing_but_crowds_is_refused() -> None:
    """The accuracy would be NaN."""
    with pytest.raises(InputError, match=r"truth\.json: has only boxes of crowds \(iscrowd\), so there is nothing to"):
        score(truth((1, 1, A), iscrowd=1), [found(1, 1, A)])


def test_text_ids() -> None:
    annotations = truth((1, 1, A))
    for entry in annotations.content["images"]:
        entry["id"] = f"image-{entry['id']}"
    annotations.content["annotations"][0]["image_id"] = "image-1"
    assert score(annotations, [{**found(1, 1, A), "image_id": "image-1"}]).ap == pytest.approx(100)


def test_unknown_image_is_refused() -> None:
    results = [found(1, 1, A), found(77, 1, A), found(78, 1, A)]
    with pytest.raises(InputError, match=r"truth\.json: lists no image 77 \(the results have 2 such images\)"):
        score(truth(*BOXES), results)
    with pytest.raises(InputError, match="lists no image '01' "):
        score(truth(*BOXES), [{**found(1, 1, A), "image_id": "01"}])


@pytest.mark.parametrize("image_id", [1, "1", 1.0])
def test_image_ids_that_can_mean_only_one_image(image_id: object) -> None:
    assert score(truth((1, 1, A)), [{**found(1, 1, A), "image_id": image_id}]).ap == pytest.approx(100)


def test_images_are_matched_by_name_whatever_their_ids() -> None:
    """The ids come from file names, and the annotations have given these ids to other images."""
    results = [{**found(3 - image, category, box), "image_name": f"{image}"} for image, category, box in BOXES]
    assert_accuracy(score(truth(*BOXES), results), 100, 100, 100)
    with pytest.raises(InputError, match=r"truth\.json: lists no image '3' \(the results have 1 such images\)"):
        score(truth(*BOXES), [*results, {**found(1, 1, A), "image_name": "3"}])


def test_the_size_is_compared_with_that_of_the_image_of_that_name() -> None:
    annotations = truth(*BOXES)
    for image, width in zip(annotations.content["images"], (640, 480), strict=True):
        image.update(width=width, height=500)
    result = {**found(2, 1, A), "image_name": "1"}
    assert score(annotations, [{**result, "image_size": [640, 500]}]).ap > 0
    with pytest.raises(InputError, match="image 1: listed as 640x500, coded as 480x500"):
        score(annotations, [{**result, "image_size": [480, 500]}])


@pytest.mark.parametrize("category", [0, 99, -1, 1.5])
def test_unknown_category_is_refused(category: float) -> None:
    """Else class ids would count as category ids wherever both begin with small numbers."""
    results = [*(found(*box) for box in BOXES), {**found(1, 1, A), "category_id": category}, found(1, 77, A)]
    with pytest.raises(
        InputError, match=rf"^truth\.json: has no category {category}, .* entry 4 .*; decode again"
    ) as caught:
        score(truth(*BOXES), results)
    assert "\n" not in str(caught.value)


NAMES = {1: "cat", 5: "dog"}


def named(image: int, name: str, box: list[float], category: int = 0) -> dict[str, Any]:
    return {**found(image, category, box), "category_name": name}


@pytest.mark.parametrize("shift", [-1, 0, 4, 100])
def test_categories_are_matched_by_name_whatever_their_ids(shift: int) -> None:
    """4: the class id of cats is then the category id of dogs."""
    results = [named(image, NAMES[category], box, category + shift) for image, category, box in BOXES]
    accuracy = score(truth(*BOXES), results)
    assert_accuracy(accuracy, 100, 100, 100)
    assert accuracy.unmatched == {}


def test_right_id_of_the_wrong_name_is_no_hit() -> None:
    assert_accuracy(score(truth((1, 1, A)), [named(1, "dog", A, 1)]), 0, 0, 0)


def test_names_that_the_file_lacks_are_counted_and_left_out() -> None:
    results = [named(image, NAMES[category], box) for image, category, box in BOXES]
    results += [named(1, "newt", A, 1), named(2, "newt", A, 1), named(1, "Dog", B, 5), named(2, "toad", B, 99)]
    accuracy = score(truth(*BOXES), results)
    assert_accuracy(accuracy, 100, 100, 100)
    assert list(accuracy.unmatched.items()) == [("newt", 2), ("Dog", 1), ("toad", 1)]


def test_names_of_which_the_file_has_none_are_refused() -> None:
    results = [named(1, "Cat", A, 1), named(1, "newt", A, 1)]
    expected = r"^truth\.json: .*none .*'Cat' \(it has 'cat'\), 'newt'.*; "
    with pytest.raises(InputError, match=expected) as caught:
        score(truth(*BOXES), results)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="none"):
        score(truth(*BOXES), [*results, found(1, 1, A)])


def test_entries_without_a_name_keep_their_id() -> None:
    results = [named(1, "cat", A, 5), found(1, 1, B), named(2, "dog", C, 1)]
    assert_accuracy(score(truth(*BOXES), results), 100, 100, 100)
    with pytest.raises(InputError, match=r"has no category 0, .* entry 4 "):
        score(truth(*BOXES), [*results, found(1, 0, A)])


def test_whole_numbers_are_ids_however_they_are_written() -> None:
    annotations = truth(*BOXES)
    annotations.content["categories"][0]["id"] = 1.0
    annotations.content["annotations"][2]["category_id"] = 5.0
    unnamed: list[dict[str, Any]] = [found(1, 1, A), {**found(1, 1, B), "category_id": 1.0}, found(2, 5, C)]
    assert_accuracy(score(annotations, unnamed), 100, 100, 100)
    assert_accuracy(score(annotations, [named(image, NAMES[id_], box) for image, id_, box in BOXES]), 100, 100, 100)


def test_name_of_two_categories_is_refused_where_results_bear_it() -> None:
    annotations = truth(*BOXES)
    annotations.content["categories"].append({"id": 7, "name": "dog"})
    assert score(annotations, [named(1, "cat", A)]).ap50 > 0
    with pytest.raises(InputError, match=r"truth\.json: its categories 5 and 7 .*'dog'.*; "):
        score(annotations, [named(2, "dog", C, 5)])
    annotations = truth(*BOXES)
    annotations.content["categories"].append({"id": 5, "name": "dog"})  # merely written twice
    assert_accuracy(score(annotations, [named(image, NAMES[id_], box) for image, id_, box in BOXES]), 100, 100, 100)


def test_unknown_images_of_unknown_names_are_still_refused() -> None:
    with pytest.raises(InputError, match="lists no image 77"):
        score(truth(*BOXES), [named(1, "cat", A), named(77, "newt", A)])


def test_pycocotools_takes_results_with_names(tmp_path: Path) -> None:
    annotations = truth(*BOXES)
    results = tmp_path / "results.json"
    results.write_text(json.dumps([named(image, NAMES[category], box, category) for image, category, box in BOXES]))
    coco = COCO()
    coco.dataset = annotations.content
    for number, annotation in enumerate(coco.dataset["annotations"], 1):
        annotation["id"] = number
    coco.createIndex()
    assert coco.loadRes(str(results)).getAnnIds(catIds=[1]) == [1, 2]


def test_image_ids_of_two_kinds_are_refused() -> None:
    annotations = truth(*BOXES)
    annotations.content["images"][0]["id"] = "one"
    with pytest.raises(InputError, match=r"truth\.json: some image ids are numbers and some are texts"):
        score(annotations, [])


@pytest.mark.parametrize("key", ["caption", "segmentation", "keypoints", "area", "id"])
def test_results_may_say_more_than_a_box(key: str) -> None:
    """pycocotools would take them for captions, masks or key points."""
    results = [{**found(*box), key: "a cat on a mat"} for box in BOXES]
    assert_accuracy(score(truth(*BOXES), results), 100, 100, 100)


def test_no_categories_are_refused() -> None:
    annotations = truth(*BOXES)
    annotations.content["categories"] = []
    with pytest.raises(InputError, match=r"truth\.json: has no boxes or no categories"):
        score(annotations, [found(*box) for box in BOXES])


def test_nothing_annotated_is_refused() -> None:
    with pytest.raises(InputError, match="has no boxes or no categories"):
        score(truth(), [])


def test_arguments_stay_as_they_are_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    annotations, results = truth(*BOXES), [found(*box) for box in BOXES]
    before = copy.deepcopy((annotations.content, results))
    first = score(annotations, results)
    assert (annotations.content, results) == before
    assert score(annotations, results) == first
    assert capsys.readouterr() == ("", "")


def plain(truth_file: Path, results: Path, kind: str) -> list[float]:
    """AP, AP50 and AP75 in percent by pycocotools alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth_file))
        evaluation = COCOeval(coco, coco.loadRes(str(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * float(value) for value in evaluation.stats[:3]]


def random_set(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """People with polygons, masks and keypoints, one in six a crowd, and detections that are more or less near."""
    random = np.random.default_rng(seed)
    objects: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, 7):
        for _ in range(random.integers(1, 5)):
            left, top, width, height = (int(value) for value in random.integers(5, 40, 4))
            right, bottom = left + width, top + height
            points = np.stack((random.uniform(left, right, 17), random.uniform(top, bottom, 17)), 1)
            pixels = np.zeros((90, 100), bool)
            pixels[top:bottom, left:right] = random.random((height, width)) < 0.8
            crowd = int(random.random() < 1 / 6)
            forms: list[Any] = [
                {"size": [90, 100], "counts": runs_of(encode(pixels), 100, 90).tolist()},
                {"size": [90, 100], "counts": encode(pixels)},
                [[left, top, right, top, right, bottom, left, bottom - 2]],
            ]
            seen = random.integers(0, 3, 17) * (random.random() < 0.8)
            objects.append(
                {
                    **{"id": len(objects) + 11, "image_id": image, "category_id": 1},
                    **{"bbox": [left, top, width, height], "iscrowd": crowd, "area": 0.6 * width * height},
                    "segmentation": forms[0 if crowd else random.integers(0, 3)],
                    "num_keypoints": int((seen > 0).sum()),
                    "keypoints": np.concatenate((points, seen[:, None]), 1).ravel().tolist(),
                }
            )
            for _ in range(random.integers(0, 3)):
                moved = np.roll(pixels, random.integers(-2, 3, 2), (0, 1))
                near = np.concatenate((points + random.normal(0, 1.5, (17, 2)), random.random((17, 1))), 1)
                results.append(
                    {
                        **{"image_id": image, "category_id": 1, "score": float(random.random())},
                        "bbox": [left + float(random.normal(0, 2)), top, width, height],
                        "segmentation": {"size": [90, 100], "counts": encode(moved)},
                        "keypoints": near.ravel().tolist(),
                    }
                )
    images = [{"id": image, "file_name": f"{image}.jpg", "width": 100, "height": 90} for image in range(1, 7)]
    return {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "person"}]}, results


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
def test_figures_are_those_of_pycocotools(tmp_path: Path, kind: Kind, seed: int) -> None:
    content, results = random_set(seed)
    (tmp_path / "t.json").write_text(json.dumps(content))
    (tmp_path / "r.json").write_text(json.dumps(results))
    read = read_results(tmp_path / "r.json")
    before = copy.deepcopy(read)
    accuracy = score(read_annotations(tmp_path / "t.json"), read, kind)
    assert [accuracy.ap, accuracy.ap50, accuracy.ap75] == plain(tmp_path / "t.json", tmp_path / "r.json", kind)
    assert 0 < accuracy.ap < accuracy.ap50 < 100
    assert read == before
    interval = ap50_interval(match_boxes(Annotations(Path("t.json"), content), read, kind), 20)
    assert interval.low <= interval.high


def test_what_results_can_be_scored_as() -> None:
    assert kinds_of([]) == kinds_of([found(1, 1, A)]) == ("bbox",)
    assert kinds_of([found(1, 1, A), {**found(1, 1, A), "segmentation": 1}]) == ("bbox", "segm")
    assert kinds_of([{**found(1, 1, A), "keypoints": 1}]) == ("bbox", "keypoints")


def refused(kind: Kind, change: Callable[[dict[str, Any], list[dict[str, Any]]], Any]) -> str:
    """The one line that refuses a set in which something was changed."""
    content, results = random_set(0)
    change(content, results)
    with pytest.raises(InputError) as caught:
        score(Annotations(Path("truth.json"), content), results, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"segmentation": None},
            r": 1 of \d+ annotations have no segmentation \(the first is of image 1\); give ",
        ),
        ({"segmentation": []}, r": 1 of \d+ annotations have no segmentation"),
        (
            {"segmentation": [[1, 2, 3, 4]]},
            r": the annotation with the id 12 \(of image 1\) has a segmentation that is",
        ),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e12]]}, "is not polygons within the image of 100x90 pixels; correct it"),
        ({"segmentation": {"size": [90, 99], "counts": [8910]}}, "is not a mask of the image's 100x90 pixels"),
        ({"segmentation": {"size": [90, 100], "counts": [9001]}}, "is not the counts of a mask of 100x90 pixels"),
        ({"segmentation": "a cat"}, "is not a list of polygons"),
        ({"segmentation": [[1, 2, 3, 4]], "id": None}, r": annotation 2 \(of image 1\) has a segmentation"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_annotations_without_masks_are_refused(changes: dict[str, Any], said: str) -> None:
    message = refused("segm", lambda content, _: content["annotations"][1].update(changes))
    assert message.startswith("truth.json: ")
    assert re.search(said, message)
    assert "`task` bbox" in message


def test_masks_need_the_size_of_the_image() -> None:
    message = refused("segm", lambda content, _: content["images"][0].pop("height"))
    assert "its image 1 has no width and height in whole pixels, which masks need; add them, or use" in message
    message = refused("segm", lambda content, _: content["images"][0].update(width=100.5))
    assert "in whole pixels" in message
    other = {"size": [100, 90], "counts": encode(np.eye(100, 90, dtype=bool))}
    message = refused("segm", lambda _, results: results[2].update(image_id=5, segmentation=other))
    assert "truth.json: lists image 5 as 100x90, but entry 3 of the results has a mask of 90x100 pixels" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"keypoints": [1, 2, 3]},
            "has 1 keypoints, but most annotations have 17; give annotations and results of the",
        ),
        ({"keypoints": "nose"}, "has keypoints, num_keypoints or area that are not a list of numbers: x, y and score"),
        ({"keypoints": [None] * 51}, "that are not numbers"),
        ({"num_keypoints": "17"}, "that are not a number"),
        ({"area": None}, "that are not an area from 0, in square pixels; correct it"),
        ({"area": -1}, "that are not an area"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_annotations_with_other_keypoints_are_refused(changes: dict[str, Any], said: str) -> None:
    message = refused("keypoints", lambda content, _: content["annotations"][1].update(changes))
    assert message.startswith("truth.json: the annotation with the id 12 (of image 1) has ")
    assert said in message


def test_annotations_without_keypoints_are_refused() -> None:
    def remove(content: dict[str, Any], _: Any) -> None:
        for annotation in content["annotations"]:
            del annotation["keypoints"]

    message = refused("keypoints", remove)
    assert message == "truth.json: its annotations have no keypoints; give annotations with them, or use `task` bbox"
    message = refused("keypoints", lambda _, results: results[1].update(keypoints=[1, 2, 3]))
    assert "truth.json: entry 2 of the results has 1 keypoints, but most annotations have 17; give" in message


@pytest.mark.parametrize("kind", ["segm", "keypoints"])
def test_results_that_lack_what_is_compared_are_refused(kind: Kind) -> None:
    message = refused(kind, lambda _, results: results[3].pop(FIELDS[kind]))
    assert f"truth.json: entry 4 of the results has no {FIELDS[kind]} to compare with it; use another `task`" in message


def test_objects_without_keypoints_are_neither_found_nor_missed() -> None:
    """And the keypoints that are seen are counted if their number is not given."""
    content, results = random_set(1)
    expected = score(Annotations(Path("truth.json"), content), results, "keypoints")
    for annotation in content["annotations"]:
        if annotation["num_keypoints"] == 0:
            annotation["keypoints"] = None
            del annotation["area"]
        del annotation["num_keypoints"]
    assert any(annotation["keypoints"] is None for annotation in content["annotations"])
    assert score(Annotations(Path("truth.json"), content), results, "keypoints") == expected


def test_other_numbers_of_keypoints_have_equal_tolerances() -> None:
    """Four keypoints, each with the tolerance 1/4: OKS is exp(-distance^2 / (2 area (2/4)^2))."""
    box = {"bbox": [0, 0, 100, 100], "image_id": 1, "category_id": 1}
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": [{**box, "keypoints": [50, 50, 2] * 4, "area": 10_000}],
        "categories": [{"id": 1, "name": "frog"}],
    }
    for distance, levels in ((0, 10), (30, 7), (60, 0)):
        similar = math.exp(-(distance**2) / (2 * 10_000 / 4))
        assert sum(similar >= 0.5 + 0.05 * step for step in range(10)) == levels
        results = [{**box, "keypoints": [50, 50 + distance, 0.1] * 4, "score": 0.5}]
        accuracy = score(Annotations(Path("truth.json"), content), results, "keypoints")
        assert accuracy.ap == pytest.approx(10 * levels)
