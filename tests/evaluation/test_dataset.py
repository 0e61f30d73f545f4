"""Matching images with annotations for a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pictures import save_texture

from featcodec.errors import InputError
from featcodec.evaluation.dataset import Dataset, open_dataset
from featcodec.images.annotations import read_annotations
from featcodec.system.paths import Source


def opened(folder: Path, *names: str) -> Dataset:
    sources = [Source(folder / name, Path(name)) for name in names]
    return open_dataset(sources, read_annotations(folder / "annotations.json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (7, 8, 9)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": number, "category_id": 1, "bbox": [0, 0, 9, 9]} for number in (7, 7, 9)],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    for name in ("7.jpg", "7.png", "8.jpg", "8.png", "9.jpg", "9.png", "10.jpg"):
        save_texture(tmp_path / name, 20, 12)
    return tmp_path


def test_only_the_given_images_count(folder: Path) -> None:
    dataset = opened(folder, "9.png", "8.png")
    assert dataset.image_ids == [9, 8]
    assert dataset.annotations.image_ids == {8, 9}
    assert [box["image_id"] for box in dataset.annotations.content["annotations"]] == [9]


def test_the_digest_names_annotations_and_images_in_any_order(folder: Path) -> None:
    digest = opened(folder, "7.jpg", "8.jpg").digest
    assert len(bytes.fromhex(digest)) == 8
    assert opened(folder, "8.jpg", "7.jpg").digest == digest
    assert opened(folder, "8.jpg", "9.jpg").digest != digest
    path = folder / "annotations.json"
    path.write_text(path.read_text().replace("[0, 0, 9, 9]", "[0, 0, 9, 8]"))
    assert opened(folder, "7.jpg", "8.jpg").digest != digest


def test_unknown_and_double_images_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"10\.jpg: .* lists no image of that name"):
        opened(folder, "7.jpg", "10.jpg")
    with pytest.raises(InputError, match=r"7\.\w+: another image has the same id"):
        opened(folder, "8.jpg", "7.jpg", "7.png")


def test_images_without_a_box_are_refused_before_they_are_coded(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"annotations\.json: has no box of an object on any of these 1 images, so there is nothing"
    ):
        opened(folder, "8.jpg")
    path = folder / "annotations.json"
    path.write_text(path.read_text().replace('"category_id"', '"iscrowd": 1, "category_id"'))
    with pytest.raises(InputError, match="has no box of an object on any of these 1 images"):
        opened(folder, "7.jpg")


def test_how_images_are_read_is_part_of_the_digest(folder: Path) -> None:
    sources = [Source(folder / "7.jpg", Path("7.jpg"))]
    annotations = read_annotations(folder / "annotations.json")
    stored = open_dataset(sources, annotations, ignore_exif=True)
    assert stored.ignore_exif
    assert stored.digest != open_dataset(sources, annotations).digest


def test_images_of_another_size_are_refused_before_they_are_coded(folder: Path) -> None:
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["images"][2].update(width=10, height=6)
    path.write_text(json.dumps(content))
    opened(folder, "7.jpg")
    with pytest.raises(InputError, match=r"lists other sizes than 1 of 2 images have \(.*9\.jpg: listed as 10x6, read"):
        opened(folder, "7.jpg", "9.jpg")
