"""data/training_{set,samples,batches}: the same labels from every format, boxes that stay on objects, resuming."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pictures import make_bad_pictures, save_texture
from PIL import Image

import featcodec.training.data.samples as module
from featcodec.errors import InputError
from featcodec.images.letterbox import Letterbox
from featcodec.images.reading import read_image
from featcodec.training.data.batches import TrainingBatch, letterboxed_batches, training_batches
from featcodec.training.data.coco import read_coco
from featcodec.training.data.datasets import (
    LabelledImage,
    hold_out,
    read_unlabelled,
)
from featcodec.training.data.samples import Augmentation, TrainingSample, TrainingSamples
from featcodec.training.data.yolo import read_class_names, read_data_yaml

SIZE = 64
NAMES = ("lime", "red", "blue")  # the detector's; the data sets number them otherwise
COLOURS = {1: (255, 0, 0), 2: (0, 0, 255)}
STILL = Augmentation(image_size=SIZE, mosaic=0, hsv_h=0, hsv_s=0, hsv_v=0, scale=0, translate=0, fliplr=0)
MOVING = Augmentation(image_size=SIZE, hsv_h=0, hsv_s=0, hsv_v=0)
ALL = Augmentation(image_size=SIZE)

# Size of the picture, then class, left, top, width, height of its rectangles, all in pixels.
PICTURES: dict[str, tuple[tuple[int, int], list[tuple[int, int, int, int, int]]]] = {
    "a.png": ((128, 96), [(1, 4, 8, 40, 30), (2, 80, 50, 44, 40)]),
    "b.png": ((96, 128), [(2, 0, 0, 50, 40)]),
    "c.png": ((64, 64), []),
    "deep/d.png": ((60, 40), [(1, 20, 4, 36, 12)]),
    "e.png": ((100, 100), [(1, 50, 0, 50, 45), (2, 5, 60, 30, 35)]),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of coloured rectangles on gray: images/, labels/, coco.json and data.yaml."""
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "red"}]}
    coco["categories"] += [{"id": 3, "name": "blue"}, {"id": 9, "name": "mauve"}]
    for number, (name, ((width, height), boxes)) in enumerate(PICTURES.items()):
        pixels = np.full((height, width, 3), 114, np.uint8)
        lines = []
        for class_id, left, top, box_width, box_height in boxes:
            pixels[top : top + box_height, left : left + box_width] = COLOURS[class_id]
            fractions = (left + box_width / 2) / width, (top + box_height / 2) / height
            lines.append([2 - class_id, *fractions, box_width / width, box_height / height])
            box = {
                "image_id": number,
                "category_id": {1: 7, 2: 3}[class_id],
                "bbox": [left, top, box_width, box_height],
            }
            coco["annotations"].append(box)
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        coco["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        if lines:
            label_file = (tmp_path / "labels" / name).with_suffix(".txt")
            label_file.parent.mkdir(parents=True, exist_ok=True)
            label_file.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "data.yaml").write_text("train: images\nnames: [blue, red, mauve]\n")
    return tmp_path


@pytest.fixture
def images(data: Path) -> list[LabelledImage]:
    return read_coco(data / "coco.json", data / "images", NAMES)


@pytest.fixture
def mixed(images: list[LabelledImage], tmp_path: Path) -> list[LabelledImage]:
    """Three photographs without labels, white, before and between the others."""
    for name in ("x.png", "y.png", "z.png"):
        path = tmp_path / "photographs" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((50, 70, 3), 255, np.uint8)).save(path)
    unlabelled = read_unlabelled([str(tmp_path / "photographs")])
    return [unlabelled[0], *images[:2], *unlabelled[1:], *images[2:]]


def edit_coco(data: Path, **changes: Any) -> Path:
    """coco.json with other lists; a function gets the old one."""
    content = json.loads((data / "coco.json").read_text())
    content.update({key: change(content[key]) if callable(change) else change for key, change in changes.items()})
    path = data / "edited.json"
    path.write_text(json.dumps(content))
    return path


def as_lists(images: Iterable[LabelledImage]) -> list[tuple[Any, ...]]:
    return [(image.path.name, image.boxes.tolist(), image.classes.tolist(), image.labelled) for image in images]


def same(one: Any, other: Any) -> bool:
    """Whether two samples or batches have the same content in every field."""
    assert type(one) is type(other)
    pairs = [(value, vars(other)[name]) for name, value in vars(one).items()]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def all_same(one: Iterable[Any], other: Iterable[Any]) -> bool:
    return all(same(x, y) for x, y in zip(one, other, strict=True))


def coloured(image: torch.Tensor, class_id: int) -> npt.NDArray[np.bool_]:
    """(S, S), where a (3, S, S) RGB image is clearly of the colour of a class."""
    pixels = image.permute(1, 2, 0).numpy().astype(int)
    return np.asarray(np.abs(pixels - COLOURS[class_id]).max(axis=2) < 60)


def inside(boxes: npt.NDArray[np.float32], grow: float) -> npt.NDArray[np.bool_]:
    """(S, S), what boxes cover that are made larger by some pixels on each side."""
    mask = np.zeros((SIZE, SIZE), bool)
    for x, y, width, height in boxes * SIZE:
        left, top = round(x - width / 2 - grow), round(y - height / 2 - grow)
        right, bottom = round(x + width / 2 + grow), round(y + height / 2 + grow)
        mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return mask


def check_boxes_on_colours(image: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor) -> tuple[int, int]:
    """Every box is filled with its colour; returns how many pixels have a colour, and how many of them outside."""
    total = outside = 0
    for class_id in COLOURS:
        those = boxes[classes == class_id].numpy()
        colour = coloured(image, class_id)
        for box in those:
            core = inside(box[None], -2)
            assert not core.any() or colour[core].mean() > 0.98
        total += int(colour.sum())
        outside += int((colour & ~inside(those, 1.5)).sum())
    return total, outside


# Reading


def test_coco_by_hand(data: Path, images: list[LabelledImage]) -> None:
    assert [image.path for image in images] == [data / "images" / name for name in sorted(PICTURES)]
    first = images[0]
    assert first.boxes.dtype == np.float32
    assert first.classes.dtype == np.int64
    np.testing.assert_allclose(first.boxes[0], [24 / 128, 23 / 96, 40 / 128, 30 / 96])
    assert first.classes.tolist() == [1, 2]
    assert images[2].boxes.shape == (0, 4)
    assert images[2].classes.shape == (0,)
    assert all(image.labelled for image in images)


def test_coco_and_yolo_text_give_the_same(data: Path, images: list[LabelledImage]) -> None:
    texts = read_data_yaml(data / "data.yaml", NAMES)
    assert [image.path for image in texts] == [image.path for image in images]
    for text, coco in zip(texts, images, strict=True):
        np.testing.assert_allclose(text.boxes, coco.boxes, atol=1e-6)
        np.testing.assert_array_equal(text.classes, coco.classes)
        assert text.labelled


def test_coco_leaves_out_what_is_no_object_of_ours(data: Path) -> None:
    kept = {"image_id": 2, "category_id": 3, "bbox": [-10, 54, 30, 99]}
    annotations = [
        kept,
        kept,
        {**kept, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {**kept, "bbox": [64, 0, 9, 9]},
        {**kept, "bbox": [5, 5, 0, 9]},
        {**kept, "category_id": 9},
        {**kept, "image_id": 1000},
    ]
    notes: list[str] = []
    images = read_coco(edit_coco(data, annotations=annotations), data / "images", NAMES, notes.append)
    assert [len(image.classes) for image in images] == [0, 0, 1, 0, 0]
    assert ["1 of 7 annotations have" in note for note in notes] == [True, False]
    assert "boxes reach out of 1 of 5 images (the first is image 2 of 64x64)" in notes[1]
    np.testing.assert_allclose(images[2].boxes, [[10 / 64, 59 / 64, 20 / 64, 10 / 64]])


@pytest.mark.parametrize("change", [{"iscrowd": 1}, {"bbox": [900, 900, 5, 5]}, {"category_id": 9}], ids=str)
def test_labels_without_any_object_are_refused(data: Path, change: dict[str, Any]) -> None:
    """Training would find that nothing is on the images, with a loss near 0."""
    edited = edit_coco(data, annotations=lambda entries: [{**entry, **change} for entry in entries])
    with pytest.raises(InputError, match=r"\.json: no box of a class of the detector is on its 5 images"):
        read_coco(edited, data / "images", NAMES)
    for label_file in (data / "labels").rglob("*.txt"):
        label_file.write_text("2 0.5 0.5 0.1 0.1\n" if "category_id" in change else "")
    with pytest.raises(InputError, match=r"data\.yaml: no box of a class of the detector is on its 5 images"):
        read_data_yaml(data / "data.yaml", NAMES)


def test_coco_without_sizes_and_folders(data: Path, images: list[LabelledImage]) -> None:
    bare = edit_coco(
        data, images=lambda entries: [{"id": e["id"], "file_name": "x/" + e["file_name"]} for e in entries]
    )
    assert as_lists(read_coco(bare, data / "images", NAMES)) == as_lists(images)


def test_coco_file_names_do_not_lead_out_of_the_folder(data: Path) -> None:
    outside = save_texture(data / "outside.png")
    for name in ("../outside.png", str(outside)):
        listed = edit_coco(data, images=[{"id": 0, "file_name": name}])
        with pytest.raises(InputError, match="no such file"):
            read_coco(listed, data / "images", NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 1, "file_name": "gone.png"}]}, r"images/gone\.png: no such file.*edited\.json lists it"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 0, "height": 9}]}, r"edited\.json: a\.png has the size"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 9}]}, "has the size"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 10**400, "height": 9}]}, "has the size"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 5e-324, "height": 9}]}, "has the size"),
        ({"images": []}, "lists no image"),
        ({"categories": [{"id": 7, "name": "mauve"}]}, "none of its categories is a class of the detector"),
        ({"annotations": [{}]}, "entry 1 of 'annotations' has no image_id"),
        ({"categories": [{"id": 7, "name": "red"}, {"id": 3, "name": "red"}]}, "categories 3 and 7 have the same name"),
        (
            {"categories": [{"id": 7, "name": "Red"}, {"id": 3, "name": "blue"}]},
            r"edited\.json: .*'red' \(it has 'Red'\)",
        ),
    ],
)
def test_damaged_coco_is_refused(data: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_coco(edit_coco(data, **changes), data / "images", NAMES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [("red", "blue", "red"), ("red", "red")])
def test_class_names_that_repeat_are_refused(data: Path, names: tuple[str, ...]) -> None:
    """Which of them would a box of that name be?"""
    for read in (
        lambda: read_coco(data / "coco.json", data / "images", names),
        lambda: read_data_yaml(data / "data.yaml", names),
    ):
        with pytest.raises(InputError, match=r"(coco\.json|data\.yaml): the detector has several classes 'red'; "):
            read()
    assert len(read_coco(data / "coco.json", data / "images", ("lime", "lime", "red"))) == len(PICTURES)


def test_coco_name_that_is_there_twice_is_refused(data: Path) -> None:
    for folder in ("one", "two"):
        save_texture(data / "images" / folder / "twice.png")
    with pytest.raises(InputError, match=r"twice\.png: listed in .* holds 2 files"):
        read_coco(edit_coco(data, images=[{"id": 1, "file_name": "twice.png"}]), data / "images", NAMES)


def test_coco_name_that_is_there_twice_is_found_by_its_folder(data: Path) -> None:
    for name in ("one", "two"):
        save_texture(data / "images/deep" / name / "twice.png", 20, 10)
    listed = [{"id": number, "file_name": f"{name}/twice.png"} for number, name in enumerate(("two", "one"))]
    found = read_coco(edit_coco(data, images=listed), data / "images", NAMES)
    assert [image.path.parent.name for image in found] == ["one", "two"]


def test_one_file_for_two_listed_images_is_refused(data: Path) -> None:
    save_texture(data / "images/1.png", 20, 10)
    listed = [{"id": number, "file_name": f"cam{number}/1.png"} for number in (1, 2)]
    with pytest.raises(InputError, match=r"cam1/1\.png and cam2/1\.png would both be the file .*images/1\.png; "):
        read_coco(edit_coco(data, images=listed), data / "images", NAMES)


def test_names_that_are_lists_are_refused(data: Path) -> None:
    (data / "lists.yaml").write_text("train: images\nnames: [[a, b], red]\n")
    with pytest.raises(InputError, match=r"lists\.yaml: its names have \['a', 'b'\], which is not a name; correct"):
        read_data_yaml(data / "lists.yaml", NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images\nnames: {0: blue, 1: red}",
        "path: {folder}\ntrain: [images]\nnames: {{'0': blue, '1': red}}",
        "train: ../images\nnames: [blue, red]",
        "train: list.txt\nval: nowhere\nnames: [blue, red]",
        "train: [images/deep, shallow.txt, images/c.png]\nnames: [blue, red]",
    ],
)
def test_data_yaml_of_every_form(data: Path, images: list[LabelledImage], text: str) -> None:
    names = [name for name in PICTURES if "deep" not in name]
    (data / "list.txt").write_text("\n".join(f"./images/{name}" for name in PICTURES) + "\n\n", encoding="utf-8-sig")
    (data / "shallow.txt").write_text("\n".join(f"images/{name}" for name in names if name != "c.png"))
    path = data / "other.yaml"
    path.write_text(text.format(folder=data) if "{folder}" in text else text)
    read = read_data_yaml(path, NAMES)
    assert [(image.path, image.classes.tolist()) for image in read] == [
        (image.path, image.classes.tolist()) for image in images
    ]


@pytest.mark.parametrize("names", ["[blue, 7]", "{1: 7, 0: blue}", "{'1': 7, '0': blue}"])
def test_class_names_of_data_yaml(tmp_path: Path, names: str) -> None:
    (tmp_path / "a.yaml").write_text(f"names: {names}")
    assert read_class_names(tmp_path / "a.yaml") == ["blue", "7"]


@pytest.mark.parametrize("text", ["names: red", "names: []", "names: {a: red}", "train: images", "- red"])
def test_data_yaml_without_class_names_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=r"a\.yaml: "):
        read_class_names(tmp_path / "a.yaml")


def test_polygons_repeats_and_rounded_edges(data: Path) -> None:
    lines = ["1 0.1 0.2 0.5 0.2 0.5 0.8 0.3 0.9", "0 0.5 0.5 1.005 1", "0 0.5 0.5 1.005 1", "", "2 0.5 0.5 0.1 0.1"]
    (data / "labels" / "c.txt").write_text("\r\n".join([*lines, "0 0.5 0.5 0 0.5"]))
    image = read_data_yaml(data / "data.yaml", NAMES)[2]
    np.testing.assert_allclose(image.boxes, [[0.3, 0.55, 0.4, 0.7], [0.5, 0.5, 1, 1]], rtol=1e-6)
    assert image.classes.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.1", "4 columns"),
        ("1 0.5 0.5 0.1 0.1 0.9", "6 columns"),
        ("1", "1 columns"),
        ("red 0.5 0.5 0.1 0.1", "not numbers"),
        ("3 0.5 0.5 0.1 0.1", "class 3 is not in"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is not in"),
        ("0.5 0.5 0.5 0.1 0.1", r"class 0\.5 is not in"),
        ("nan 0.5 0.5 0.1 0.1", "class nan is not in"),
        ("1 50 50 10 10", "not fractions"),
        ("1 0.5 nan 0.1 0.1", "not fractions"),
        ("1 0.5 0.5 -0.005 0.1", "negative size"),
    ],
)
def test_damaged_label_is_refused_with_its_line(data: Path, line: str, message: str) -> None:
    path = data / "labels" / "c.txt"
    path.write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(InputError, match=rf"^{path}, line 3: .*{message}"):
        read_data_yaml(data / "data.yaml", NAMES)


def test_label_file_that_is_no_text_is_refused(data: Path) -> None:
    (data / "labels" / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"labels/c\.txt: not UTF-8"):
        read_data_yaml(data / "data.yaml", NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [red", r"other\.yaml: not YAML \("),
        ("- red", "not the YAML of a data set"),
        ("", "not the YAML of a data set"),
        ("train: images", "its names are neither a list"),
        ("train: images\nnames: {a: red}", "its names are neither a list"),
        ("train: images\nnames: [mauve]", r"none of its names is a class of the detector \(lime, red, blue"),
        ("train: images\nnames: [blue, Red]", r"other\.yaml: has no class 'red' \(it has 'Red'\); "),
        ("val: images\nnames: [red]", "'train' is not a folder"),
        ("train: 3\nnames: [red]", "'train' is not a folder"),
        ("train: []\nnames: [red]", "'train' is not a folder"),
        ("train: nowhere\nnames: [red]", "nowhere is neither a folder nor a list of images"),
        ("path: nowhere\ntrain: images\nnames: [red]", "its path nowhere is not a folder"),
        ("train: empty\nnames: [red]", "no images found"),
        ("train: wrong.txt\nnames: [red]", r"wrong\.txt, line 2: gone\.png: no such file"),
        ("train: photographs\nnames: [red]", r"none of the 1 images of 'train' has labels"),
        ("train: images\nnames: [red]\nkpt_shape: [2, 2]", "keypoints"),
    ],
)
def test_damaged_data_yaml_is_refused(data: Path, text: str, message: str) -> None:
    (data / "empty").mkdir()
    (data / "wrong.txt").write_text("images/a.png\ngone.png\n")
    save_texture(data / "photographs" / "p.jpg")
    path = data / "other.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_data_yaml(path, NAMES)
    assert "\n" not in str(caught.value)


def test_labels_on_images_that_are_turned_are_noted(data: Path) -> None:
    for name, orientation in (("a", 3), ("b", 6), ("c", 8), ("e", 1)):  # c has no labels
        exif = Image.Exif()
        exif[0x0112] = orientation
        with Image.open(data / f"images/{name}.png") as image:
            image.save(data / f"images/{name}.jpg", exif=exif)
        (data / f"images/{name}.png").unlink()
    notes: list[str] = []
    images = read_data_yaml(data / "data.yaml", NAMES, note=notes.append)
    assert notes == [
        "note: 2 images are turned or mirrored by EXIF data, and YOLO labels do not confirm it (the first is "
        f"{data}/images/a.jpg); they are read upright, as in ultralytics; use `ignore_exif` if the boxes were "
        "drawn on the stored pixels"
    ]
    assert images[1].read().shape == (96, 128, 3)
    stored = read_data_yaml(data / "data.yaml", NAMES, note=notes.append, ignore_exif=True)
    assert stored[1].read().shape == (128, 96, 3)
    assert len(notes) == 1


LONG = "x" * 300


@pytest.mark.parametrize(
    "name", [LONG, f"{LONG}/z.png", "a\0.png", "\ud800.png"], ids=["long", "folder", "NUL", "surrogate"]
)
def test_names_that_no_file_can_have_are_refused(data: Path, name: str) -> None:
    content = json.loads((data / "coco.json").read_text())
    content["images"][0]["file_name"] = name
    (data / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"no such file, but .*a\.json lists it"):
        read_coco(data / "a.json", data / "images", NAMES)
    quoted = json.dumps(name)
    for text in (f"path: .\ntrain: {quoted}", f"path: .\ntrain: [images, {quoted}]", f"path: {quoted}\ntrain: images"):
        (data / "data.yaml").write_text(f"{text}\nnames: [blue, red, mauve]\n")
        with pytest.raises(InputError, match=rf"^{data}/data\.yaml: "):
            read_data_yaml(data / "data.yaml", NAMES)
    if "\ud800" not in name:  # which no UTF-8 text can hold
        (data / "list.txt").write_text(f"./images/a.png\n{name}\n")
        (data / "data.yaml").write_text("train: list.txt\nnames: [blue, red, mauve]\n")
        with pytest.raises(InputError, match=r"list\.txt, line 2: .*: no such file; correct the list"):
            read_data_yaml(data / "data.yaml", NAMES)


def test_missing_files_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml: no such file"):
        read_data_yaml(data / "gone.yaml", NAMES)
    with pytest.raises(InputError, match="not a regular file"):
        read_data_yaml(data, NAMES)
    with pytest.raises(InputError, match="no images found"):
        read_unlabelled([str(data / "gone")])
    with pytest.raises(InputError, match="no images given"):
        read_unlabelled([])


def test_unlabelled_photographs(data: Path) -> None:
    one, other = save_texture(data / "one" / "p.png"), save_texture(data / "other" / "p.png")
    images = read_unlabelled([str(data / "other"), str(data / "one" / "*.png"), str(one)])
    assert [image.path for image in images] == [one, other]
    assert not any(image.labelled for image in images)
    assert images[0].boxes.shape == (0, 4)


def test_what_is_held_out_does_not_depend_on_the_order(images: list[LabelledImage]) -> None:
    kept, held = hold_out(images[::-1], 2)
    assert kept == images[:3]
    assert held == images[3:]
    assert hold_out(images, 0) == (images, [])
    for count in (-1, 5, 6):
        with pytest.raises(InputError, match=f"cannot hold out {count} of 5"):
            hold_out(images, count)


# Samples


@pytest.mark.parametrize("mosaic", [0, 1])
@pytest.mark.parametrize("fliplr", [0, 1])
def test_boxes_stay_on_what_they_name(images: list[LabelledImage], mosaic: float, fliplr: float) -> None:
    samples = TrainingSamples(images, replace(MOVING, mosaic=mosaic, fliplr=fliplr), 0, 60)
    total = outside = boxes = 0
    for sample in map(samples.__getitem__, range(len(samples))):
        assert (sample.image.shape, sample.image.dtype) == ((3, SIZE, SIZE), torch.uint8)
        assert (sample.boxes.dtype, sample.classes.dtype) == (torch.float32, torch.int64)
        assert sample.labelled
        coloured_here, outside_here = check_boxes_on_colours(sample.image, sample.boxes, sample.classes)
        total, outside, boxes = total + coloured_here, outside + outside_here, boxes + len(sample.classes)
    assert boxes > 40
    assert outside < 0.02 * total  # ultralytics drops the boxes of slivers


@pytest.mark.slow
def test_crops_are_cut_from_everywhere_with_their_boxes(tmp_path: Path) -> None:
    path = save_texture(tmp_path / "a.png", SIZE, SIZE, seed=3)
    box = np.array([[0.5, 0.5, 0.9, 0.9]], np.float32)
    images = [LabelledImage(path, box, np.array([1]), labelled=True)]
    half = SIZE // 2
    whole = TrainingSamples(images, STILL, 0, 1)[0].image.float()
    crops = TrainingSamples(images, replace(STILL, crop=half), 0, 30)
    places = [(y, x) for y in range(half + 1) for x in range(half + 1)]
    found = set()
    for number in range(30):
        sample = crops[number]
        assert sample.image.shape == (3, half, half)
        pieces = torch.stack([whole[:, y : y + half, x : x + half] for y, x in places])
        y, x = places[int((pieces - sample.image.float()).abs().mean((1, 2, 3)).argmin())]
        found.add((y // (half // 2), x // (half // 2)))
        low, high = 0.05 * SIZE, 0.95 * SIZE
        expected = [max(low - x, 0), max(low - y, 0), min(high - x, half), min(high - y, half)]
        centre, size = sample.boxes[0, :2] * half, sample.boxes[0, 2:] * half
        np.testing.assert_allclose(torch.cat((centre - size / 2, centre + size / 2)), expected, atol=1.1)
    assert {(0, 0), (0, 1), (1, 0), (1, 1)} <= found


def test_colours_vary_and_boxes_do_not(images: list[LabelledImage]) -> None:
    moving = TrainingSamples(images, MOVING, 0, 3)
    full = TrainingSamples(images, ALL, 0, 3)
    for number in range(3):
        assert torch.equal(moving[number].boxes, full[number].boxes)
        assert not torch.equal(moving[number].image, full[number].image)


def test_without_augmentation_samples_are_letterboxed_images(images: list[LabelledImage]) -> None:
    samples = TrainingSamples(images[2:3], STILL, 0, 1)
    pixels = Letterbox.fit(64, 64, SIZE, square=True).apply(read_image(images[2].path))
    np.testing.assert_array_equal(samples[0].image.permute(1, 2, 0), pixels)


def test_samples_are_those_of_ultralytics(data: Path, images: list[LabelledImage]) -> None:
    """Its own data set over the same files, with the same random numbers."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.utils import DEFAULT_CFG

    settings = copy(DEFAULT_CFG)
    vars(settings).update(augmentations=[], deterministic=False)
    theirs = YOLODataset(
        img_path=str(data / "images"), imgsz=SIZE, cache="ram", hyp=settings, data={"names": {0: "blue", 1: "red"}}
    )
    ours = module._AugmentedImages(images, ALL, module._DecodedImages(SIZE, module.MEMORY))
    order = [theirs.im_files.index(str(image.path)) for image in images]
    assert order == list(range(len(images)))
    for number in range(10):
        results = []
        for dataset in (theirs, ours):
            random.seed(number)
            np.random.seed(number)
            results.append(dataset[number % len(images)])
        assert torch.equal(results[0]["img"], results[1]["img"])
        torch.testing.assert_close(results[0]["bboxes"], results[1]["bboxes"], atol=1e-6, rtol=0)
        assert (2 - results[0]["cls"]).tolist() == results[1]["cls"].tolist()


def test_sample_depends_on_seed_and_number_alone(mixed: list[LabelledImage]) -> None:
    forth = TrainingSamples(mixed, ALL, 5, 20)
    back = TrainingSamples(mixed, ALL, 5, 99)
    there = [forth[number] for number in range(20)]
    random.seed(1)
    again = [back[number] for number in reversed(range(20))][::-1]
    assert all_same(there, again)
    other = TrainingSamples(mixed, ALL, 6, 20)
    assert not any(same(other[number], there[number]) for number in range(20) if there[number].labelled)
    assert not any(same(x, y) for x, y in itertools.pairwise(there) if x.labelled and y.labelled)


def test_every_epoch_takes_every_image_once_in_another_order(tmp_path: Path) -> None:
    for value in range(0, 240, 20):
        Image.fromarray(np.full((SIZE, SIZE, 3), value, np.uint8)).save(tmp_path / f"{value}.png")
    samples = TrainingSamples(read_unlabelled([str(tmp_path)]), STILL, 0, 36)
    values = [int(samples[number].image[0, 0, 0]) for number in range(36)]
    epochs = [values[first : first + 12] for first in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(0, 240, 20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_mosaics_are_labelled_as_a_whole_and_draw_from_all(mixed: list[LabelledImage]) -> None:
    samples = TrainingSamples(mixed, replace(MOVING, scale=0), 0, 80)
    kinds = []
    for number in range(80):
        sample = samples[number]
        kinds.append(sample.labelled)
        white = bool((sample.image == 255).all(dim=0).any())
        assert not (white and sample.labelled)
        assert sample.labelled or not len(sample.boxes)
        assert sample.labelled or not any(coloured(sample.image, class_id).any() for class_id in COLOURS)
    assert kinds.count(False) == 80 * 3 // 8


def test_images_are_kept_up_to_a_bound(images: list[LabelledImage], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    read = LabelledImage.read

    def counting(image: LabelledImage) -> npt.NDArray[np.uint8]:
        reads.append(image.path)
        return read(image)

    monkeypatch.setattr(LabelledImage, "read", counting)
    counts, made = [], []
    for memory in (1 << 20, SIZE * SIZE * 3, 0):
        reads.clear()
        samples = TrainingSamples(images, ALL, 0, 20, memory=memory)
        made.append([samples[number] for number in range(20)])
        counts.append(len(reads))
    assert counts[0] == 5
    assert 5 < counts[1] < counts[2] == 80
    assert all_same(made[0], made[1])
    assert all_same(made[0], made[2])


def test_samples_know_their_bounds(images: list[LabelledImage]) -> None:
    samples = TrainingSamples(images, STILL, 0, 3)
    assert len(samples) == 3
    for number in (-1, 3):
        with pytest.raises(IndexError):
            samples[number]
    with pytest.raises(InputError, match="no images"):
        TrainingSamples([], STILL, 0, 3)
    with pytest.raises(InputError, match="seed -1 is below 0"):
        TrainingSamples(images, STILL, -1, 3)


@pytest.mark.parametrize(
    "values",
    [
        {"image_size": 100},
        {"image_size": 0},
        {"crop": 100},
        {"crop": 544},
        {"mosaic": 1.1},
        {"fliplr": -0.1},
        {"scale": 1.0},
        {"hsv_s": float("nan")},
    ],
)
def test_senseless_augmentation_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(values)).replace("crop", "image_size").split("_")[0]):
        Augmentation(**values)


# Batches


def batches(images: Sequence[LabelledImage], first_step: int, steps: int, **options: Any) -> list[TrainingBatch]:
    options = {"batch_size": 3, "seed": 4, **options}
    return list(training_batches(images, ALL, first_step=first_step, steps=steps, **options))


def test_batch_is_its_samples(mixed: list[LabelledImage]) -> None:
    samples = TrainingSamples(mixed, ALL, 4, 24)
    for step, batch in enumerate(batches(mixed, 0, 8)):
        assert batch.images.shape == (3, 3, SIZE, SIZE)
        assert batch.images.dtype == torch.uint8
        assert batch.labelled.dtype == torch.bool
        for index in range(3):
            mine = batch.image_index == index
            labelled = bool(batch.labelled[index])
            sample = TrainingSample(batch.images[index], batch.boxes[mine], batch.classes[mine], labelled)
            assert same(sample, samples[3 * step + index])


@pytest.mark.slow
def test_resumed_run_has_the_same_batches_with_any_number_of_workers(mixed: list[LabelledImage]) -> None:
    whole = batches(mixed, 0, 6)
    assert all_same(whole[4:], batches(mixed, 4, 2))
    assert all_same(whole[1:], batches(mixed, 1, 5, workers=2))
    assert batches(mixed, 3, 0) == []


def test_ranks_share_the_samples_of_one_process(images: list[LabelledImage]) -> None:
    alone = batches(images, 1, 2, batch_size=4)
    ranks = [batches(images, 1, 2, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    for step, batch in enumerate(alone):
        assert torch.equal(batch.images, torch.cat([ranks[0][step].images, ranks[1][step].images]))
        assert torch.equal(batch.boxes, torch.cat([ranks[0][step].boxes, ranks[1][step].boxes]))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_numbers_are_not_touched(data: Path, images: list[LabelledImage], workers: int) -> None:
    def state() -> tuple[Any, ...]:
        name, keys, *rest = np.random.get_state()
        return random.getstate(), name, np.asarray(keys).tolist(), rest, torch.get_rng_state().tolist()

    before = state()
    batches(images, 0, 1, workers=workers)
    assert state() == before
    (data / "images" / "a.png").unlink()
    with pytest.raises(InputError):
        batches(images, 0, 3, workers=workers)
    assert state() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_is_named_in_one_line(images: list[LabelledImage], tmp_path: Path, workers: int) -> None:
    name = make_bad_pictures(tmp_path / "bad")[-1]
    bad = LabelledImage(tmp_path / "bad" / name, images[0].boxes, images[0].classes, labelled=True)
    with pytest.raises(InputError, match=rf"{name}: ") as caught:
        batches([*images, bad], 0, 9, workers=workers)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=rf"{name}: "):
        list(letterboxed_batches([*images, bad], SIZE, 2))


def test_nothing_is_written_beside_the_images(data: Path) -> None:
    def listing() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in data.rglob("*"))

    before = listing()
    images = read_coco(data / "coco.json", data / "images", NAMES) + read_data_yaml(data / "data.yaml", NAMES)
    batches(images, 0, 2)
    list(letterboxed_batches(images, SIZE, 3))
    assert listing() == before


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"first_step": -1},
        {"steps": -1},
        {"seed": -1},
        {"workers": -1},
        {"rank": -1},
        {"rank": 1},
        {"world_size": 0},
    ],
)
def test_numbers_out_of_range_are_refused_at_once(images: list[LabelledImage], options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options)).replace("_", " ")):
        training_batches(images, ALL, **{"batch_size": 1, "first_step": 0, "steps": 1, "seed": 0, **options})


def test_letterboxed_batches(mixed: list[LabelledImage]) -> None:
    made = list(letterboxed_batches(mixed, SIZE, 3))
    assert [len(batch.images) for batch in made] == [3, 3, 2]
    assert [bool(flag) for batch in made for flag in batch.labelled] == [image.labelled for image in mixed]
    seen = 0
    for number, image in enumerate(mixed):
        batch, index = made[number // 3], number % 3
        pixels = read_image(image.path)
        letterbox = Letterbox.fit(pixels.shape[1], pixels.shape[0], SIZE, square=True)
        np.testing.assert_array_equal(batch.images[index].permute(1, 2, 0), letterbox.apply(pixels))
        mine = batch.image_index == index
        assert batch.classes[mine].tolist() == image.classes.tolist()
        assert batch.boxes.dtype == torch.float32
        _, outside = check_boxes_on_colours(batch.images[index], batch.boxes[mine], batch.classes[mine])
        assert outside == 0
        seen += len(image.classes)
    assert seen == 6


def test_letterboxed_box_by_hand(images: list[LabelledImage]) -> None:
    batch = next(iter(letterboxed_batches(images[:1], SIZE, 1)))
    # 128x96 becomes 64x48 with a border of 8 above and below.
    np.testing.assert_allclose(batch.boxes[0], [12 / 64, (11.5 + 8) / 64, 20 / 64, 15 / 64], rtol=1e-6)


def test_letterboxed_batches_refuse_numbers_out_of_range(images: list[LabelledImage]) -> None:
    with pytest.raises(InputError, match="batch size 0"):
        letterboxed_batches(images, SIZE, 0)
    with pytest.raises(InputError, match="image size 65"):
        letterboxed_batches(images, 65, 1)
    assert list(letterboxed_batches([], SIZE, 1)) == []


def test_batch_moves_to_a_device(images: list[LabelledImage]) -> None:
    (batch,) = batches(images, 0, 1)
    moved = batch.to("meta")
    assert {name: tensor.device.type for name, tensor in vars(moved).items()} == dict.fromkeys(vars(batch), "meta")
    assert same(batch.to(torch.device("cpu")), batch)


@pytest.mark.slow
def test_importing_keeps_ultralytics_quiet() -> None:
    code = (
        "import os, featcodec.training.data.datasets\nprint(os.environ['YOLO_OFFLINE'], os.environ['YOLO_AUTOINSTALL'])"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    result = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["true", "false"]
    assert result.stderr == ""


@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_labels_is_refused_and_not_waited_for(data: Path) -> None:
    label = next(path for path in sorted(data.rglob("labels/**/*.txt")))
    label.unlink()
    os.mkfifo(label)
    with pytest.raises(InputError, match=r"not a regular file; make the labels again"):
        read_data_yaml(data / "data.yaml", NAMES)
