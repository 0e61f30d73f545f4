"""private.json: what is read, how images are found in it, and what is refused in one line."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path, PurePath
from typing import Any

import pytest
from refusals import refusal_of

from featcodec.errors import InputError
from featcodec.privacy import private_details
from featcodec.privacy.private_details import PrivateDetail, ReadablePlate, read_private_details
from featcodec.scenes.dataset import Truth, private_content
from featcodec.scenes.scene import draw_scene

BOX = [10.5, 20, 70, 18.25]
PLATE = {"image_id": 1, "kind": "plate", "bbox": BOX, "text": "AB12CDE", "readable": True}
GOOD: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "000001.png"}, {"id": "two", "file_name": "in/b.x.jpg"}],
    "details": [
        PLATE,
        {**PLATE, "text": "XY99XYZ", "readable": False},
        {**PLATE, "kind": "face", "text": None},
        {**PLATE, "kind": "poster", "text": "OPEN AIR"},
        {**PLATE, "text": None},
        {**PLATE, "image_id": "two", "text": "ZZ00ZZZ"},
    ],
}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(path: Path) -> str:
    message = refusal_of(InputError, path, read_private_details)
    assert len(message) < len(str(path)) + 200
    return message


def test_all_of_it_is_read(tmp_path: Path) -> None:
    details = read_private_details(write(tmp_path / "p.json", GOOD))
    assert list(details.by_name) == [PurePath("000001"), PurePath("in/b.x")]
    of_first = details.by_name[PurePath("000001")]
    assert [one.kind for one in of_first] == ["plate", "plate", "face", "poster", "plate"]
    assert of_first[0] == PrivateDetail("plate", (10.5, 20.0, 70.0, 18.25), "AB12CDE", True)


def test_an_image_is_found_by_its_name_and_only_plates_that_can_be_read_count(tmp_path: Path) -> None:
    details = read_private_details(write(tmp_path / "p.json", GOOD))
    plate = ReadablePlate((10.5, 20.0, 70.0, 18.25), "AB12CDE")
    for name in ("000001.png", "any/where/000001.jpg"):
        assert details.lists(Path(name))
        assert details.plates(Path(name)) == [plate]
    assert [one.text for one in details.plates(Path("b.x.png"))] == ["ZZ00ZZZ"]
    assert not details.lists(Path("b.png"))
    assert details.plates(Path("b.png")) == []


CAMERAS = {
    "images": [{"id": number, "file_name": f"cam{number}/1.png"} for number in (1, 2)],
    "details": [{**PLATE, "image_id": number, "text": f"AB1{number}CDE"} for number in (1, 2)],
}


def test_images_of_one_bare_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    details = read_private_details(write(tmp_path / "p.json", CAMERAS))
    for name, text in (("cam1/1.png", "AB11CDE"), ("cam2/1.266", "AB12CDE"), ("set/cam2/1.jpg", "AB12CDE")):
        assert [plate.text for plate in details.plates(PurePath(name))] == [text]
    details.check([PurePath("cam1/1.png"), PurePath("cam2/1.png"), PurePath("other.png")])
    for name in ("1.png", "cam3/1.png"):
        for find in (details.lists, details.plates, lambda image: details.check([image])):
            with pytest.raises(InputError, match=rf"^{name}: .*p\.json lists 2 images of that name; start from"):
                find(PurePath(name))


def test_two_images_that_would_be_one_listed_image_are_refused(tmp_path: Path) -> None:
    details = read_private_details(
        write(tmp_path / "p.json", {**CAMERAS, "images": CAMERAS["images"][:1], "details": []})
    )
    with pytest.raises(InputError, match=r"p\.json: cam1/1\.png and cam3/1\.png would both be its image cam1/1; give"):
        details.check([PurePath("cam1/1.png"), PurePath("other.png"), PurePath("cam3/1.png")])


def test_what_scenes_writes_is_read(tmp_path: Path) -> None:
    scene = draw_scene(5, 0)
    truth = Truth(0, scene.objects, scene.details)
    details = read_private_details(write(tmp_path / "p.json", private_content([truth])))
    found = details.by_name[PurePath("000000")]
    assert [(one.kind, one.text, one.readable) for one in found] == [
        (one.kind, one.text, one.readable) for one in scene.details
    ]
    assert {one.kind for one in found} >= {"face", "plate"}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("kind", [None, 1, "x" * 300]),
        ("bbox", [None, "abcd", BOX[:3], [*BOX, 1], [1, 2, 0, 4], [1, 2, 3, -4], [1, 2, "3", 4], [True, 2, 3, 4]]),
        ("bbox", [[float("nan"), 2, 3, 4], [1, 2, float("inf"), 4], [1, 2, 1e300, 4], [1, 2, 3, 10**400]]),
        ("text", [1, ["A"], "A" * 300]),
        ("readable", [None, 1, "true"]),
        ("image_id", [None, 7, True, [], {}, 1.0]),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, field: str, values: list[Any]) -> None:
    for value in values:
        entries = {**GOOD, "details": [*GOOD["details"], {**PLATE, field: value}]}
        assert f"a detail's {field} is " in refusal(write(tmp_path / "p.json", entries)), value
    lacking = {name: value for name, value in PLATE.items() if name != field}
    if field != "text":  # which may be absent, as null
        assert f"a detail's {field} is None" in refusal(write(tmp_path / "p.json", {**GOOD, "details": [lacking]}))


@pytest.mark.parametrize(
    ("image", "part"),
    [
        ({"id": 1, "file_name": "other.png"}, "id is a number"),
        ({"id": None, "file_name": "other.png"}, "id is None"),
        ({"id": 3.5, "file_name": "other.png"}, "id is 3.5"),
        ({"id": 3}, "file_name is None"),
        ({"id": 3, "file_name": ""}, "file_name is ''"),
        ({"id": 3, "file_name": 5}, "file_name is "),
        ({"id": 3, "file_name": "000001.jpg"}, "file_name is '000001.jpg'"),
        ({"id": 3, "file_name": ".\\000001.png"}, "file_name is "),
        ({"id": 3, "file_name": "/"}, "file_name is '/'"),
    ],
)
def test_a_wrong_image_is_refused(tmp_path: Path, image: dict[str, Any], part: str) -> None:
    content = copy.deepcopy(GOOD)
    content["images"].append(image)
    assert part in refusal(write(tmp_path / "p.json", content))


NO_DETAILS = ("", "nothing", "[]", "7", "[" * 100_000, "\xff", '{"images": []}', '{"images": {}, "details": []}')


@pytest.mark.parametrize(
    "content",
    [*NO_DETAILS, *(json.dumps({**GOOD, name: [*GOOD[name], entry]}) for name in GOOD for entry in (1, None, []))],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content.encode("latin-1"))
    refusal(path)


def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "check the path" in refusal(tmp_path / "absent.json")
    assert "not a regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300))
    monkeypatch.setattr(private_details, "_MAX_BYTES", 100)
    assert "over 100 bytes" in refusal(write(tmp_path / "p.json", GOOD))
    monkeypatch.undo()
    many = {**GOOD, "details": [PLATE] * 1001}
    assert "over 1000 details on '000001'" in refusal(write(tmp_path / "p.json", many))
    assert len(read_private_details(write(tmp_path / "p.json", {**many, "details": [PLATE] * 1000})).by_name) == 2
