"""A small copy of training images: the same labels and the same order, within the bytes that there are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featcodec.errors import FeatcodecError, InputError, OutputError
from featcodec.training.data.coco import read_coco
from featcodec.training.data.datasets import LabelledImage, hold_out, labelled_image, read_unlabelled
from featcodec.training.data.shrinking import ANNOTATIONS, LABELLED, QUALITIES, UNLABELLED, shrink_images

NAMES = ("cat", "dog")
MANY = 10_000_000


def images_in(folder: Path) -> list[LabelledImage]:
    """Three labelled images, wide, high and small, and two without labels."""
    rng = np.random.default_rng(0)
    boxes = ([[0.1, 0.2, 0.5, 0.8], [0, 0, 1, 1]], [[0.25, 0.25, 0.5, 0.75]], [])
    found = []
    for number, (width, height) in enumerate([(300, 100), (80, 240), (20, 30), (64, 64), (200, 128)]):
        noise = rng.integers(0, 256, (height, width, 3), np.uint8)
        path = folder / f"{'zyxwv'[number]}.png"
        Image.fromarray(noise).save(path)
        own = np.array(boxes[number] if number < 3 else [], np.float64).reshape(-1, 4)
        found.append(labelled_image(path, own, np.arange(len(own)) % 2, labelled=number < 3))
    return found


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.jpg"))


def test_labels_and_order_stay_and_only_large_images_shrink(tmp_path: Path) -> None:
    images = images_in(tmp_path)
    assert shrink_images(images, NAMES, tmp_path / "copy", image_size=120, limit=MANY) == QUALITIES[0]
    copies = read_coco(tmp_path / "copy" / ANNOTATIONS, tmp_path / "copy" / LABELLED, NAMES)
    assert len(copies) == 3
    for copy, image in zip(copies, images, strict=False):
        np.testing.assert_allclose(copy.boxes, image.boxes, atol=1e-4)
        np.testing.assert_array_equal(copy.classes, image.classes)
    sizes = [copy.read().shape[:2] for copy in (*copies, *read_unlabelled([str(tmp_path / "copy" / UNLABELLED)]))]
    assert sizes == [(40, 120), (120, 40), (30, 20), (64, 64), (77, 120)]


def test_what_is_held_out_stays_the_same(tmp_path: Path) -> None:
    images = sorted(images_in(tmp_path)[:3], key=lambda image: image.path)
    shrink_images(images, NAMES, tmp_path / "copy", image_size=512, limit=MANY)
    copies = read_coco(tmp_path / "copy" / ANNOTATIONS, tmp_path / "copy" / LABELLED, NAMES)
    held_out, same = (hold_out(each, 1)[1][0].boxes for each in (images, copies))
    np.testing.assert_allclose(held_out, same, atol=1e-4)


def test_the_best_quality_that_fits_is_taken(tmp_path: Path) -> None:
    images = images_in(tmp_path)
    shrink_images(images, NAMES, tmp_path / "best", image_size=120, limit=MANY)
    room = total(tmp_path / "best")
    assert shrink_images(images, NAMES, tmp_path / "same", image_size=120, limit=room) == QUALITIES[0]
    assert shrink_images(images, NAMES, tmp_path / "less", image_size=120, limit=room - 1) == QUALITIES[1]
    assert total(tmp_path / "less") < room


def test_what_cannot_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="5 images of 120 pixels do not fit into 1,000 bytes; give a smaller size"):
        shrink_images(images_in(tmp_path), NAMES, tmp_path / "copy", image_size=120, limit=1000)
    assert not (tmp_path / "copy").exists()


def test_a_folder_that_holds_files_stays_as_it_is(tmp_path: Path) -> None:
    images = images_in(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match="holds other things"):
        shrink_images(images, NAMES, tmp_path, image_size=120, limit=MANY)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("image_size", [0, -5])
def test_a_size_below_1_is_refused(image_size: int, tmp_path: Path) -> None:
    with pytest.raises(FeatcodecError, match="is below 1"):
        shrink_images(images_in(tmp_path), NAMES, tmp_path / "copy", image_size=image_size, limit=MANY)


def test_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images to copy"):
        shrink_images([], NAMES, tmp_path / "copy", image_size=120, limit=MANY)


def test_annotations_are_coco_with_areas(tmp_path: Path) -> None:
    shrink_images(images_in(tmp_path), NAMES, tmp_path / "copy", image_size=120, limit=MANY)
    content = json.loads((tmp_path / "copy" / ANNOTATIONS).read_text())
    assert [category["name"] for category in content["categories"]] == list(NAMES)
    assert content["images"][0] == {"id": 1, "file_name": "0000000.jpg", "width": 120, "height": 40}
    first = content["annotations"][0]
    assert first["area"] == pytest.approx(first["bbox"][2] * first["bbox"][3], rel=1e-3)
