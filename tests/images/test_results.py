"""COCO results: read or refused in one sentence, and given to the annotated images that they are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from refusals import refusal_of

from featcodec.errors import InputError
from featcodec.images import results as results_module
from featcodec.images.annotations import Annotations
from featcodec.images.results import matched_ids, read_results, without_results
from featcodec.images.rle import encode

RESULT = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}
# As in many sets, the numbers in the file names are ids of other images.
LISTED = {1: "cam1/2.png", 2: "cam1/1.png", 3: "cam2/1.jpg", 4: "cam.01.png"}
TRUTH = Annotations(Path("truth.json"), {"images": [{"id": key, "file_name": name} for key, name in LISTED.items()]})


COLUMNS = {
    **{"image_id": [7, 8], "image_name": ["a", "b"], "image_width": [64, 64], "image_height": [48, 48]},
    **{"category_id": [3, 3], "category_name": ["cat", None]},
    **{"left": [1.0, 1.5], "top": [2.0, 2.0], "width": [3.0, 3.0], "height": [4.0, 4.0], "score": [0.5, 0.25]},
}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(function: Any, path: Path) -> str:
    return refusal_of(InputError, path, function)


def test_results_are_read(tmp_path: Path) -> None:
    assert read_results(write(tmp_path / "r.json", [RESULT, RESULT])) == [RESULT, RESULT]
    assert read_results(write(tmp_path / "r.json", [])) == []


@pytest.mark.parametrize("content", [{}, "null", 3, {"results": [RESULT]}], ids=["{}", "null", "3", "in"])
def test_results_that_are_no_list_are_refused(tmp_path: Path, content: Any) -> None:
    assert "not a COCO results file" in refusal(read_results, write(tmp_path / "r.json", content))


@pytest.mark.parametrize("key", sorted(RESULT))
def test_result_that_lacks_something_is_refused(tmp_path: Path, key: str) -> None:
    broken = {name: value for name, value in RESULT.items() if name != key}
    message = refusal(read_results, write(tmp_path / "r.json", [RESULT, broken]))
    assert f"entry 2 of the results has no {key}; make it with `featcodec decode`" in message


@pytest.mark.parametrize("name", ["cat", "", "K\u00e4tzchen"])
@pytest.mark.parametrize("field", ["category_name", "image_name"])
def test_results_may_have_names(tmp_path: Path, field: str, name: str) -> None:
    named = {**RESULT, field: name}
    assert read_results(write(tmp_path / "r.json", [RESULT, named])) == [RESULT, named]


@pytest.mark.parametrize("name", [None, 3, True, ["cat"], {"name": "cat"}])
@pytest.mark.parametrize("field", ["category_name", "image_name"])
def test_result_with_a_name_that_is_not_text_is_refused(tmp_path: Path, field: str, name: Any) -> None:
    message = refusal(read_results, write(tmp_path / "r.json", [RESULT, RESULT, {**RESULT, field: name}]))
    assert f"entry 3 of the results has the {field} {name!r}, not a text; " in message


@pytest.mark.parametrize(
    "changes",
    [
        {"bbox": [1, 2, 3]},
        {"bbox": None},
        {"bbox": "1234"},
        {"bbox": [1, 2, 3, "4"]},
        {"bbox": [1, 2, 3, None]},
        {"bbox": [1, 2, 3, float("nan")]},
        {"bbox": [1, 2, 3, 10**400]},
        {"bbox": [1, 2, 3, float("inf")]},
        {"score": "high"},
        {"score": None},
        {"score": float("nan")},
        {"image_id": [7]},
        {"image_id": None},
        {"category_id": "cat"},
        {"category_id": "03"},
        {"category_id": True},
        {"image_id": True},
        {"bbox": [1, 2, -3, 4]},
        {"bbox": []},
        {"score": True},
        {"category_id": 3.5},
        {"category_id": None},
        {"category_id": [3]},
    ],
    ids=repr,
)
def test_damaged_result_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    message = refusal(read_results, write(tmp_path / "r.json", [RESULT, {**RESULT, **changes}]))
    assert f"entry 2 of the results has the {next(iter(changes))} " in message


MASK = {"size": [3, 4], "counts": encode(np.eye(3, 4, dtype=bool))}


@pytest.mark.parametrize("size", [{}, {"image_size": [4, 3]}])
def test_results_may_have_masks_and_keypoints(tmp_path: Path, size: dict[str, Any]) -> None:
    runs = {"size": [3, 4], "counts": [0, 1, 3, 1, 3, 1, 3]}
    for further in ({"segmentation": MASK}, {"segmentation": runs}, {"keypoints": [1, 2.5, 0, -1, 0, 0.25]}):
        results = [{**RESULT, **size, **further}]
        assert read_results(write(tmp_path / "r.json", results)) == results


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"segmentation": None}, "an object with size and counts"),
        ({"segmentation": [[1, 1, 5, 1, 5, 5]]}, "an object with size and counts"),
        ({"segmentation": {**MASK, "size": [4, 4]}}, "the counts of a mask of 4x4 pixels"),
        ({"segmentation": {**MASK, "counts": "0" * 100}}, "the counts of a mask of 4x3 pixels"),
        ({"segmentation": {**MASK, "counts": 5}}, "counts that are a text or whole numbers"),
        ({"segmentation": {"size": [1 << 20, 1 << 20], "counts": [1 << 40]}}, "at most 1073741824 pixels"),
        ({"keypoints": None}, "a list of numbers"),
        ({"keypoints": "1 2 3"}, "a list of numbers"),
        ({"keypoints": []}, "a list of numbers"),
        ({"keypoints": [1, 2, 3, 4]}, "a list of numbers"),
        ({"keypoints": [1] * 3003}, "score of 1 to 1000 keypoints"),
        ({"keypoints": [1, 2, None]}, "numbers"),
        ({"keypoints": [1, 2, float("nan")]}, "numbers"),
        ({"keypoints": [1, 2, True]}, "numbers"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_damaged_masks_and_keypoints_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    message = refusal(read_results, write(tmp_path / "r.json", [RESULT, {**RESULT, **changes}]))
    assert f"entry 2 of the results has the {next(iter(changes))} " in message
    assert said in message


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    broken = {**RESULT, "segmentation": MASK, "image_size": [3, 4]}
    message = refusal(read_results, write(tmp_path / "r.json", [RESULT, broken]))
    assert "entry 2 of the results has a mask of 4x3 pixels on an image of 3x4; make it with" in message


@pytest.mark.parametrize("entry", [None, 3, "text", []])
def test_result_that_is_no_object_is_refused(tmp_path: Path, entry: Any) -> None:
    refusal(read_results, write(tmp_path / "r.json", [entry]))


def of(image_id: Any, name: str | None = None) -> dict[str, Any]:
    return {**RESULT, "image_id": image_id, **({} if name is None else {"image_name": name})}


@pytest.mark.parametrize(
    ("image_id", "name", "expected"),
    [
        (1, "cam1/1", 2),
        (1, "set/cam1/1", 2),
        (2, "2", 1),
        (99, "cam1/2", 1),
        ("cam.01", "cam.01", 4),
        (1, "cam.01.png", 4),
        (1, "cam2/1.jpg", 3),
        (1, None, 1),
        ("2", None, 2),
        (3.0, None, 3),
    ],
)
def test_the_name_says_the_image_and_without_a_name_the_id(image_id: Any, name: str | None, expected: int) -> None:
    assert matched_ids(TRUTH, [of(image_id, name)]) == [expected]


def test_each_result_gets_its_image(tmp_path: Path) -> None:
    results = [of(1, "cam1/1"), of(2, "cam1/2"), of(3), of(1, "cam1/1"), of(1, "cam1/1.png")]
    assert matched_ids(TRUTH, results) == [2, 1, 3, 2, 2]
    assert matched_ids(TRUTH, []) == []


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([of(1, "cam1/1"), of(2, "5"), of(3, "6"), of(2, "5")], "lists no image '5' (the results have 2 such images)"),
        ([of(1), of(77), of(78)], "lists no image 77 (the results have 2 such images)"),
        ([of(1, "7"), of(77)], "lists no image '7' (the results have 2 such images)"),
        ([of(1, "")], "lists no image '' (the results have 1 such images)"),
        ([of(2, "1")], "1: truth.json lists 2 images of that name"),
        ([of(3, "cam3/2"), of(4, "cam4/2")], "cam3/2 and cam4/2 would both be its image 1"),
    ],
    ids=["name", "id", "both", "empty", "several images", "one image"],
)
def test_a_result_of_no_image_or_of_several_is_refused(results: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError) as caught:
        matched_ids(TRUTH, results)
    assert said in str(caught.value)
    assert "truth.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("with_results", "said"),
    [
        (
            [],
            "2 of 4 images have annotated boxes but no results (the first is image 1), so these",
        ),
        ([2, 3, 4], "1 of 4 images have annotated boxes but no results (the first is image 1), so these boxes"),
        ([1, 2, 2], None),
    ],
    ids=["none", "some", "all"],
)
def test_images_with_boxes_and_without_results_are_said(with_results: list[int], said: str | None) -> None:
    boxes = [{"image_id": key, "iscrowd": crowd} for key, crowd in ((1, 0), (1, 0), (2, 0), (3, 1))]
    line = without_results(Annotations(Path("truth.json"), {**TRUTH.content, "annotations": boxes}), with_results)
    assert (line is None) == (said is None)
    assert (said or "") in (line or "")


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    assert read_results(write(path, "")) == []
    assert read_results(write(path, f"{json.dumps(RESULT)}\n\n{json.dumps(RESULT)}\r\n")) == [RESULT, RESULT]
    for broken in ('{"image_id": 7', "[" * 100_000, "1" * 5000, "\x00"):
        assert "line 2 is not JSON" in refusal(read_results, write(path, f"{json.dumps(RESULT)}\n{broken}\n"))
    write(path, f"{json.dumps(RESULT)}\n[]")
    assert "entry 2 of the results is [], not an object" in refusal(read_results, path)


def table(path: Path, **changes: Any) -> Path:
    columns = {name: values for name, values in {**COLUMNS, **changes}.items() if values is not None}
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet(tmp_path: Path) -> None:
    first, second = read_results(table(tmp_path / "r.parquet"))
    names = {"image_name": "a", "image_size": [64, 48], "category_name": "cat"}
    assert first == {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5, **names}
    assert "category_name" not in second
    few = dict.fromkeys(("image_name", "image_width", "image_height", "category_name"))
    assert read_results(table(tmp_path / "r.parquet", **few))[0] == RESULT
    texts = read_results(table(tmp_path / "r.parquet", image_id=["x", "8"], more=[["a"], []]))
    assert [result["image_id"] for result in texts] == ["x", "8"]
    floats = pa.array([0.5, 0.25], pa.float32())
    assert read_results(table(tmp_path / "r.parquet", score=floats, left=[1, 2]))[0] == first
    assert (
        read_results(table(tmp_path / "r.parquet", **{name: pa.array(values)[:0] for name, values in COLUMNS.items()}))
        == []
    )


@pytest.mark.parametrize("name", ["image_id", "category_id", "left", "top", "width", "height", "score"])
def test_parquet_without_a_column_is_refused(tmp_path: Path, name: str) -> None:
    assert f"has no column {name}; make it" in refusal(read_results, table(tmp_path / "r.parquet", **{name: None}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"left": [[1.0], [1.0]]}, "its column left is of the kind list"),
        ({"score": ["0.5", "0.5"]}, "its column score is of the kind string"),
        ({"image_name": [1, 2]}, "its column image_name is of the kind int64"),
        ({"image_id": [b"a", b"b"]}, "its column image_id is of the kind binary"),
        ({"category_id": [True, False]}, "its column category_id is of the kind bool"),
        ({"score": [0.5, None]}, "entry 2 of the results has the score None"),
        ({"score": [0.5, float("nan")]}, "entry 2 of the results has the score nan"),
        ({"width": [-1.0, 1.0]}, "entry 1 of the results has the bbox"),
        ({"image_width": [64, None]}, "entry 2 of the results has the image_size"),
    ],
)
def test_parquet_with_other_values_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal(read_results, table(tmp_path / "r.parquet", **changes))


def test_parquet_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    for content in ("", "PAR1", "{}"):
        assert "not a readable Parquet file" in refusal(read_results, write(path, content))
    data = table(path).read_bytes()
    path.write_bytes(data[:-20])
    assert "not a readable Parquet file" in refusal(read_results, path)


def test_a_small_parquet_file_cannot_stand_for_any_number_of_rows(tmp_path: Path) -> None:
    """A million equal rows are some KB."""
    rows = {name: pa.array([values[0]] * (1 << 20)) for name, values in COLUMNS.items()}
    path = table(tmp_path / "r.parquet", **rows)
    assert path.stat().st_size < 1 << 16
    assert "claims 1048576 rows in " in refusal(read_results, path)


def test_a_long_text_in_many_rows_is_held_once(tmp_path: Path) -> None:
    text = "x" * (1 << 20)
    first, *others = read_results(
        table(
            tmp_path / "r.parquet",
            **{
                name: pa.array([text if name == "image_name" else values[0]] * 1000) for name, values in COLUMNS.items()
            },
        )
    )
    assert all(other["image_name"] is first["image_name"] for other in others)


FRAME = {"image_width": [4, 4], "image_height": [3, 3]}


def test_parquet_holds_masks_and_keypoints_as_texts(tmp_path: Path) -> None:
    further = {"segmentation": [MASK["counts"], None], "keypoints": [None, "[1,2,0.5]"]}
    first, second = read_results(table(tmp_path / "r.parquet", **FRAME, **further))
    assert (first["segmentation"], first.get("keypoints")) == (MASK, None)
    assert (second.get("segmentation"), second["keypoints"]) == (None, [1, 2, 0.5])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"segmentation": ["0", "0"]}, "entry 1 of the results has the segmentation "),
        ({"segmentation": [MASK["counts"]] * 2, "image_height": None, "image_width": None}, "size [height, width]"),
        ({"segmentation": [1, 2]}, "its column segmentation is of the kind int64"),
        ({"segmentation": [["0"], ["0"]]}, "its column segmentation is of the kind list"),
        ({"keypoints": [[1.0, 2.0, 3.0]] * 2}, "its column keypoints is of the kind list"),
        ({"keypoints": ["[1,2,3]", "[1,2"]}, "entry 2 of the results has the keypoints '[1,2'"),
        ({"keypoints": ["[1,2,3]", "3"]}, "entry 2 of the results has the keypoints '3'"),
        ({"keypoints": ["[1,2,3]", "[" * 100_000]}, "entry 2 of the results has the keypoints "),
        ({"keypoints": ["[1,2,3]", '["a","b","c"]']}, "entry 2 of the results has the keypoints ['a', "),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_damaged_masks_and_keypoints_in_parquet_are_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(read_results, table(tmp_path / "r.parquet", **{**FRAME, **changes}))


def test_a_long_mask_in_many_rows_is_not_checked_for_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "MAX_BYTES", 1 << 20)
    rows = {name: pa.array([values[0]] * 1000) for name, values in COLUMNS.items()}
    path = table(tmp_path / "r.parquet", **rows, segmentation=pa.array(["0" * 2000] * 1000))
    assert "has masks and keypoints of over 1048576 characters" in refusal(read_results, path)
