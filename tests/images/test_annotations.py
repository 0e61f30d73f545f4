"""COCO annotation and result files: matched to pictures and classes, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

import pytest

from featcodec.errors import InputError
from featcodec.images import annotations as module
from featcodec.images.annotations import Annotations, read_annotations, read_json, read_results

GOOD: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "train/000007.jpg"}, {"id": "x", "file_name": "shot.one.png"}],
    "annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
}
RESULT = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(function: Any, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        function(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.fixture
def good(tmp_path: Path) -> Annotations:
    return read_annotations(write(tmp_path / "instances.json", GOOD))


@pytest.mark.parametrize("number", [0, -1, 10**20, 1.5, "00012", "", True])
def test_image_ids_may_be_any_number_or_text(tmp_path: Path, number: Any) -> None:
    content = {**GOOD, "images": [{"id": number, "file_name": "a.jpg"}]}
    assert read_annotations(write(tmp_path / "a.json", content)).image_id(PurePath("a")) == number


def test_image_ids(good: Annotations) -> None:
    assert good.content == GOOD
    assert good.image_ids == {7, "x"}


def test_names_are_in_the_order_of_their_ids(tmp_path: Path, good: Annotations) -> None:
    assert good.names == ["cat", "dog"]
    categories = [{"id": 9, "name": "dog"}, {"id": 5, "name": 7}, {"id": 3, "name": "cat"}]
    assert read_annotations(write(tmp_path / "a.json", {**GOOD, "categories": categories})).names == ["cat", "7", "dog"]


@pytest.mark.parametrize("name", ["train/000007", "000007", "deep/folder/000007"])
def test_picture_is_matched_by_its_path_or_its_bare_name(good: Annotations, name: str) -> None:
    assert good.image_id(PurePath(name)) == 7


def test_a_name_with_dots_is_whole(good: Annotations) -> None:
    assert good.image_id(PurePath("shot.one")) == "x"
    with pytest.raises(InputError, match="lists no image of that name"):
        good.image_id(PurePath("shot"))


def test_unknown_picture_is_refused(good: Annotations) -> None:
    with pytest.raises(InputError, match=r"^other/000008: .*instances\.json lists no image"):
        good.image_id(PurePath("other/000008"))
    with pytest.raises(InputError, match=r"^s/other/000008\.266: .*instances\.json lists no image"):
        good.image_id(PurePath("other/000008"), Path("s/other/000008.266"))


def test_a_name_of_several_pictures_is_refused(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"cam{number}/1.png"} for number in (1, 2)]
    content = {**GOOD, "images": images, "annotations": []}
    annotations = read_annotations(write(tmp_path / "a.json", content))
    assert annotations.image_id(PurePath("cam2/1")) == 2
    with pytest.raises(InputError, match=r"^1: .*a\.json lists 2 images of that name; start from the folder"):
        annotations.image_id(PurePath("1"))


def test_categories_are_matched_by_name(good: Annotations) -> None:
    assert good.category_ids(["dog", "newt", "cat"]) == {0: 9, 2: 3}
    with pytest.raises(InputError, match=r"none of its categories is a class of the detector \('newt', 'toad'"):
        good.category_ids(["newt", "toad"])
    with pytest.raises(InputError, match=r"\('Cat' \(it has 'cat'\), 'newt'\); use annotations with the same"):
        good.category_ids(["newt", "Cat"])


def test_name_of_several_categories_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    categories = [*GOOD["categories"], {"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}]
    annotations = read_annotations(write(tmp_path / "a.json", {**GOOD, "categories": categories}))
    assert annotations.category_ids(["dog"]) == {0: 9}
    assert (annotations.category_id("dog"), annotations.category_id("newt")) == (9, None)
    with pytest.raises(InputError, match=r"a\.json: its categories 3 and 4 have the same name 'cat'; "):
        annotations.category_ids(["dog", "cat"])


def test_id_of_several_categories_is_refused(tmp_path: Path) -> None:
    categories = [*GOOD["categories"], {"id": 3.0, "name": "newt"}]
    message = refusal(read_annotations, write(tmp_path / "a.json", {**GOOD, "categories": categories}))
    assert "its categories 'cat' and 'newt' have the same id 3; " in message


def test_names_in_messages_are_few_and_say_what_is_alike(good: Annotations) -> None:
    assert good.in_words(["newt"]) == "'newt'"
    assert good.in_words(["newt", "CAT", "d_og"]) == "'CAT' (it has 'cat'), 'd_og' (it has 'dog'), 'newt'"
    assert good.in_words(list("abcdefgh")) == "'a', 'b', 'c', 'd', 'e' and 3 more"
    assert good.in_words(["cat+", "ca", "_"]) == "'cat+', 'ca', '_'"
    assert good.in_words(["new\nt", "?"]) == r"'new\nt', '?'"


def test_classes_without_a_category(good: Annotations) -> None:
    assert good.without_category(["dog", "Cat", "newt", "newt"]) == ["Cat", "newt"]
    assert good.without_category(["dog", "cat"]) == []


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, "text", 3, [3], [[]], [{}], [None]], ids=repr)
def test_file_that_lacks_something_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    message = refusal(read_annotations, write(tmp_path / "a.json", {**GOOD, key: value}))
    assert f"its '{key}' must be a list of entries with valid " in message


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_list_is_refused(tmp_path: Path, key: str) -> None:
    content = {name: value for name, value in GOOD.items() if name != key}
    assert key in refusal(read_annotations, write(tmp_path / "a.json", content))


DAMAGED: dict[str, tuple[str, dict[str, Any]]] = {
    "image id is a list": ("images", {"id": [7], "file_name": "a.jpg"}),
    "image id is null": ("images", {"id": None, "file_name": "a.jpg"}),
    "image of an annotation is a list": ("annotations", {"image_id": [7], "category_id": 3, "bbox": [1, 2, 3, 4]}),
    "category of an annotation is a list": ("annotations", {"image_id": 7, "category_id": [3], "bbox": [1, 2, 3, 4]}),
    "box of three": ("annotations", {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}),
    "box of five": ("annotations", {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4, 5]}),
    "box of text": ("annotations", {"image_id": 7, "category_id": 3, "bbox": ["1", "2", "3", "4"]}),
    "box is a number": ("annotations", {"image_id": 7, "category_id": 3, "bbox": 5}),
    "box is null": ("annotations", {"image_id": 7, "category_id": 3, "bbox": None}),
    "box with NaN": ("annotations", {"image_id": 7, "category_id": 3, "bbox": [1, 2, float("nan"), 4]}),
    "category id is text": ("categories", {"id": "three", "name": "cat"}),
    "category id is null": ("categories", {"id": None, "name": "cat"}),
    "category id is a truth value": ("categories", {"id": True, "name": "newt"}),
    "category id is a fraction": ("categories", {"id": 3.5, "name": "newt"}),
    "category of an annotation is a truth value": (
        "annotations",
        {"image_id": 7, "category_id": True, "bbox": [1, 2, 3, 4]},
    ),
    "category of an annotation is text": ("annotations", {"image_id": 7, "category_id": "3", "bbox": [1, 2, 3, 4]}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_entry_is_refused(tmp_path: Path, name: str) -> None:
    key, entry = DAMAGED[name]
    assert key in refusal(read_annotations, write(tmp_path / "a.json", {**GOOD, key: [*GOOD[key], entry]}))


def test_results_are_read(tmp_path: Path) -> None:
    assert read_results(write(tmp_path / "r.json", [RESULT, RESULT])) == [RESULT, RESULT]
    assert read_results(write(tmp_path / "r.json", [])) == []


@pytest.mark.parametrize("content", [{}, GOOD, "null", 3, {"results": [RESULT]}], ids=["{}", "GOOD", "null", "3", "in"])
def test_results_that_are_no_list_are_refused(tmp_path: Path, content: Any) -> None:
    assert "not a COCO results file" in refusal(read_results, write(tmp_path / "r.json", content))


@pytest.mark.parametrize("key", sorted(RESULT))
def test_result_that_lacks_something_is_refused(tmp_path: Path, key: str) -> None:
    broken = {name: value for name, value in RESULT.items() if name != key}
    message = refusal(read_results, write(tmp_path / "r.json", [RESULT, broken]))
    assert f"entry 2 lacks a valid {key}; " in message


@pytest.mark.parametrize("name", ["cat", "", "K\u00e4tzchen"])
def test_results_may_have_names(tmp_path: Path, name: str) -> None:
    named = {**RESULT, "category_name": name}
    assert read_results(write(tmp_path / "r.json", [RESULT, named])) == [RESULT, named]


@pytest.mark.parametrize("name", [None, 3, True, ["cat"], {"name": "cat"}])
def test_result_with_a_name_that_is_not_text_is_refused(tmp_path: Path, name: Any) -> None:
    message = refusal(read_results, write(tmp_path / "r.json", [RESULT, RESULT, {**RESULT, "category_name": name}]))
    assert "entry 3 lacks a valid category_name; " in message


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
        {"category_id": "3"},
        {"category_id": True},
        {"category_id": 3.5},
        {"category_id": None},
        {"category_id": [3]},
    ],
    ids=repr,
)
def test_damaged_result_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    refusal(read_results, write(tmp_path / "r.json", [RESULT, {**RESULT, **changes}]))


@pytest.mark.parametrize("entry", [None, 3, "text", []])
def test_result_that_is_no_object_is_refused(tmp_path: Path, entry: Any) -> None:
    refusal(read_results, write(tmp_path / "r.json", [entry]))


@pytest.mark.parametrize("text", ["", "{", "[1,", "not json", "[" * 200_000, "\x00", "1" * 5000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    assert "not JSON" in refusal(read_json, write(tmp_path / "a.json", text))


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "utf8.json").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa4"}')
    (tmp_path / "utf16.json").write_bytes('{"a": "ä"}'.encode("utf-16"))
    assert read_json(tmp_path / "utf8.json") == read_json(tmp_path / "utf16.json") == {"a": "ä"}
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe4"}')
    assert "not JSON" in refusal(read_json, tmp_path / "latin.json")


def test_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in refusal(read_annotations, tmp_path / "absent.json")
    assert "not a regular file" in refusal(read_annotations, tmp_path)
    monkeypatch.setattr(module, "_MAX_BYTES", 10)
    assert "over 10 bytes" in refusal(read_json, write(tmp_path / "a.json", GOOD))


def test_real_annotations(shared: Path) -> None:
    paths = sorted((shared / "data" / "coco128" / "annotations").glob("*.json"))
    assert paths
    for path in paths:
        annotations = read_annotations(path)
        assert len(annotations.image_ids) in {64, 128}
        assert annotations.category_ids(["person"]) == {0: 1}
