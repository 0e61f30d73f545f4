"""COCO annotation files: matched to pictures and classes, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

import pytest
from refusals import refusal_of

from featcodec.errors import InputError
from featcodec.images import annotations as module
from featcodec.images.annotations import Annotations, listed_size, read_annotations, read_json

GOOD: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "train/000007.jpg"}, {"id": "x", "file_name": "shot.one.png"}],
    "annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(function: Any, path: Path) -> str:
    return refusal_of(InputError, path, function)


@pytest.fixture
def good(tmp_path: Path) -> Annotations:
    return read_annotations(write(tmp_path / "instances.json", GOOD))


@pytest.mark.parametrize("number", [0, -1, 10**20, 1.5, "00012", ""])
def test_image_ids_may_be_any_number_or_text(tmp_path: Path, number: Any) -> None:
    content = {**GOOD, "images": [{"id": number, "file_name": "a.jpg"}], "annotations": []}
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
@pytest.mark.parametrize("value", [None, {}, "text", 3], ids=repr)
def test_what_is_no_list_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    message = refusal(read_annotations, write(tmp_path / "a.json", {**GOOD, key: value}))
    assert f"its '{key}' must be a list of entries" in message


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [3, [], None, "text"], ids=repr)
def test_entry_that_is_no_object_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    message = refusal(read_annotations, write(tmp_path / "a.json", {**GOOD, key: [*GOOD[key], value]}))
    assert f"entry {len(GOOD[key]) + 1} of '{key}' is {value!r}, not an object with fields; " in message


@pytest.mark.parametrize(
    ("key", "field"),
    [(key, field) for key, entries in GOOD.items() for field in entries[0]],
)
def test_entry_that_lacks_a_field_is_refused(tmp_path: Path, key: str, field: str) -> None:
    lacking = {name: value for name, value in GOOD[key][0].items() if name != field}
    message = refusal(read_annotations, write(tmp_path / "a.json", {**GOOD, key: [*GOOD[key], lacking]}))
    assert f"entry {len(GOOD[key]) + 1} of '{key}' has no {field}; correct the entry" in message


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_list_is_refused(tmp_path: Path, key: str) -> None:
    content = {name: value for name, value in GOOD.items() if name != key}
    assert key in refusal(read_annotations, write(tmp_path / "a.json", content))


BOX = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}
# The list, a good entry with one wrong field, and the field.
DAMAGED: dict[str, tuple[str, dict[str, Any], str]] = {
    **{
        f"image id {value!r}": ("images", {"id": value, "file_name": "a.jpg"}, "id")
        for value in ([7], {}, None, True, float("nan"), float("inf"))
    },
    **{
        f"file name {value!r}": ("images", {"id": 8, "file_name": value}, "file_name")
        for value in (None, "", ["a"], {}, True)
    },
    **{
        f"image of an annotation {value!r}": ("annotations", {**BOX, "image_id": value}, "image_id")
        for value in ([7], None, True, False, "007", "7.0", " 7", "", "seven")
    },
    **{
        f"category of an annotation {value!r}": ("annotations", {**BOX, "category_id": value}, "category_id")
        for value in ([3], None, True, "03", "cat", "", 3.5)
    },
    **{
        f"box {value!r}": ("annotations", {**BOX, "bbox": value}, "bbox")
        for value in (
            *([], [1, 2, 3], [1, 2, 3, 4, 5], ["1", "2", "3", "4"], 5, None, [1, 2, True, 4], [1, 2, -3, 4]),
            *([1, 2, 3, -0.5], [1, 2, float("nan"), 4], [1, 2, 3, float("inf")], [-1e30, 2, 3, 4], [[1], 2, 3, 4]),
        )
    },
    **{
        f"crowd {value!r}": ("annotations", {**BOX, "iscrowd": value}, "iscrowd")
        for value in ("yes", 2, [0], "", 0.5, float("nan"))
    },
    **{
        f"category id {value!r}": ("categories", {"id": value, "name": "newt"}, "id")
        for value in ("three", None, True, 3.5, "03", "", [4])
    },
    **{
        f"category name {value!r}": ("categories", {"id": 4, "name": value}, "name")
        for value in (None, "", ["newt"], {}, True)
    },
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_entry_is_refused(tmp_path: Path, name: str) -> None:
    key, entry, field = DAMAGED[name]
    good = {**GOOD, "images": GOOD["images"][:1]}
    message = refusal(read_annotations, write(tmp_path / "a.json", {**good, key: [*good[key], entry]}))
    assert f"entry {len(good[key]) + 1} of '{key}' has the {field} " in message


@pytest.mark.parametrize(
    ("listed", "written"), [(3, "3"), (3, 3.0), ("3", 3), ("3", 3.0), (3.0, "3"), (3.0, 3), ("a", "a"), (-3, "-3")]
)
def test_ids_that_can_mean_only_one_image_are_accepted(tmp_path: Path, listed: Any, written: Any) -> None:
    images = [{"id": listed, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}]
    content = {**GOOD, "images": images, "annotations": [{**BOX, "image_id": written}]}
    annotations = read_annotations(write(tmp_path / "a.json", content))
    (box,) = annotations.content["annotations"]
    image_id = annotations.image_id(PurePath("a"))
    assert (box["image_id"], type(box["image_id"])) == (image_id, type(image_id))
    assert annotations.listed_id(written) == image_id


@pytest.mark.parametrize(
    ("written", "expected"),
    [((100, 80), (100, 80)), (("100", "80"), (100, 80)), ((0, 80), None), (("a", 80), None), ((True, 80), None)],
)
def test_the_size_of_an_image(written: tuple[Any, Any], expected: tuple[float, float] | None) -> None:
    """Sizes as texts were as if there were none, so nothing was compared with them."""
    assert listed_size({"width": written[0], "height": written[1]}) == expected


@pytest.mark.parametrize(("listed", "written"), [(3, "3"), ("3", 3), (3.0, "3"), ("3", "3")])
def test_categories_are_whole_numbers_however_they_are_written(tmp_path: Path, listed: Any, written: Any) -> None:
    categories, box = [{"id": listed, "name": "cat"}], {**BOX, "category_id": written}
    content = {**GOOD, "categories": categories, "annotations": [box]}
    read = read_annotations(write(tmp_path / "a.json", content)).content
    ids = [read["categories"][0]["id"], read["annotations"][0]["category_id"]]
    assert (ids, [type(each) for each in ids]) == ([3, 3], [int, int])


@pytest.mark.parametrize(
    ("written", "expected"), [("0", 0), ("1", 1), (False, 0), (True, 1), (0.0, 0), (1, 1), (None, None)]
)
def test_crowds_are_0_or_1_however_they_are_written(tmp_path: Path, written: Any, expected: Any) -> None:
    path = write(tmp_path / "a.json", {**GOOD, "annotations": [{**BOX, "iscrowd": written}]})
    assert read_annotations(path).content["annotations"][0]["iscrowd"] is expected


@pytest.mark.parametrize(
    ("listed", "written", "kind"), [(7, "x", "numbers"), ("x", 7, "texts")], ids=["numbers", "texts"]
)
def test_ids_of_another_kind_are_refused(tmp_path: Path, listed: Any, written: Any, kind: str) -> None:
    content = {**GOOD, "images": [{"id": listed, "file_name": "a.jpg"}], "annotations": [{**BOX, "image_id": written}]}
    message = refusal(read_annotations, write(tmp_path / "a.json", content))
    assert f"entry 1 of 'annotations' has the image_id {written!r}, but the ids in 'images' are {kind}; " in message


@pytest.mark.parametrize(
    ("field", "value", "key"),
    [("image_id", 8, "images"), ("image_id", 7.5, "images"), ("category_id", 4, "categories")],
)
def test_annotations_of_what_is_not_listed_are_left_out_with_a_note(
    tmp_path: Path, field: str, value: Any, key: str
) -> None:
    entries = [BOX, {**BOX, field: value}, BOX, {**BOX, field: value}]
    path = write(tmp_path / "a.json", {**GOOD, "annotations": entries})
    notes: list[str] = []
    assert read_annotations(path, notes.append).content["annotations"] == [BOX, BOX]
    assert notes == [
        f"note: {path}: 2 of 4 annotations have {field}s that {key!r} does not list (the first is entry 2, {value}); "
        "they are left out"
    ]
    message = refusal(read_annotations, write(path, {**GOOD, "annotations": entries[1:2]}))
    assert "1 of 1 annotations have" in message
    assert message.endswith("; no box is left, so correct the ids")


@pytest.mark.parametrize("other", [7, "7", 7.0])
def test_an_id_of_two_images_is_refused(tmp_path: Path, other: Any) -> None:
    images = [*GOOD["images"], {"id": other, "file_name": "b.jpg"}]
    message = refusal(read_annotations, write(tmp_path / "a.json", {**GOOD, "images": images}))
    assert "entries 1 and 3 of 'images' have the same id " in message


def test_an_image_that_is_listed_twice_alike_is_one_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {**GOOD, "images": [*GOOD["images"], {**GOOD["images"][0], "licence": 1}]})
    assert read_annotations(path).content == GOOD
    other = {**GOOD["images"][0], "width": 9}
    refusal(read_annotations, write(tmp_path / "a.json", {**GOOD, "images": [*GOOD["images"], other]}))


def boxes(*values: list[float], **size: int) -> dict[str, Any]:
    images = [{"id": 7, "file_name": "a.jpg", **(size or {"width": 100, "height": 80})}]
    return {**GOOD, "images": images, "annotations": [{**BOX, "bbox": value} for value in values]}


def test_boxes_that_look_like_corners_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", boxes([10, 10, 30, 30], [60, 10, 90, 40], [0, 50, 100, 80]))
    message = refusal(read_annotations, path)
    assert "entry 2 of 'annotations' has the bbox [60, 10, 90, 40], which reaches out of its image" in message
    assert message.endswith("write left, top, width, height")


def test_boxes_in_fractions_of_the_image_are_refused(tmp_path: Path) -> None:
    """Each of them would be a box of less than a pixel, and AP 0."""
    for content in (boxes([0, 0, 1, 1], [0.1, 0.25, 0.5, 0.5]), boxes([0, 0.5, 1, 0.5], id=7)):
        message = refusal(read_annotations, write(tmp_path / "a.json", content))
        assert "all boxes are within the first pixel, as if they were fractions of the image" in message
        assert message.endswith("write pixels")


@pytest.mark.parametrize(
    "content",
    [
        boxes([0, 0, 1, 1]),
        boxes([0.1, 0.25, 0.5, 0.5], [0, 0, 1.5, 1]),
        boxes([10, 10, 30, 30], [60, 10, 30, 40]),
        boxes([10, 10, 90.5, 30]),
        boxes([60, 10, 90, 40], [50, 50, 5, 5]),
        boxes([60, 10, 90, 40], id=7),
        boxes([0, 0, 100, 80]),
        boxes([1, 1, 110, 80]),
        boxes(),
    ],
    ids=[
        *("one pixel", "small", "left, top, width, height", "a little beyond", "another is not a corner"),
        *("no size", "whole", "neither", "none"),
    ],
)
def test_other_boxes_are_not_taken_for_corners(tmp_path: Path, content: dict[str, Any]) -> None:
    assert read_annotations(write(tmp_path / "a.json", content)).content == content


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
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    assert "over 10 bytes" in refusal(read_json, write(tmp_path / "a.json", GOOD))


def test_real_annotations(shared: Path) -> None:
    paths = sorted((shared / "data" / "coco128" / "annotations").glob("*.json"))
    assert paths
    for path in paths:
        annotations = read_annotations(path)
        assert len(annotations.image_ids) in {64, 128}
        assert annotations.category_ids(["person"]) == {0: 1}
