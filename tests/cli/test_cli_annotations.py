"""Commands that compare images with annotations: names, ids and sizes. What does not fit is refused or said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import save_texture, texture
from PIL import Image

# Untrained, the detector sees something everywhere: of pictures at full size, sorting its boxes takes seconds.
SIZE = ("--image-size", "160")
CATEGORIES = [{"id": number, "name": name} for number, name in enumerate(("cat", "dog", "newt"), 1)]


@pytest.fixture
def coded(run: Any, tmp_path: Path, tiny_yolov5: Path) -> Callable[..., Path]:
    """Makes images with these names in in/, codes them into streams/ and lists them in a.json, with ids 10, 11, ..."""

    def make(*names: str) -> Path:
        images = []
        for number, name in enumerate(names, 10):
            save_texture(tmp_path / "in" / name, 120, 90, seed=number)
            images.append({"id": number, "file_name": name, "width": 120, "height": 90})
        boxes = [{"image_id": image["id"], "category_id": 1, "bbox": [10, 10, 50, 40]} for image in images]
        content = {"images": images, "annotations": boxes, "categories": CATEGORIES}
        (tmp_path / "a.json").write_text(json.dumps(content))
        code, _, err = run("encode", tmp_path / "in", "-o", tmp_path / "streams", "--detector", tiny_yolov5, *SIZE)
        assert (code, err) == (0, "")
        return tmp_path

    return make


def ids_in(path: Path) -> set[object]:
    return {result["image_id"] for result in json.loads(path.read_text())}


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (["cam.01.png", "cam.02.png"], {"cam.01", "cam.02"}),
        (["cam1/1.png", "cam2/1.png"], {"cam1/1", "cam2/1"}),
        (["007.png", "7.png"], {"007", "7"}),
    ],
    ids=["dots", "folders", "zeros"],
)
def test_every_stream_has_an_id_of_its_own(
    run: Any, coded: Callable[..., Path], tiny_yolov5: Path, names: list[str], own: set[object]
) -> None:
    folder = coded(*names)
    decode = ("decode", folder / "streams", "--detector", tiny_yolov5, "--conf", "0.01")
    assert run(*decode, "-o", folder / "own.json")[0] == 0
    assert ids_in(folder / "own.json") == own
    assert run(*decode, "-o", folder / "listed.json", "--annotations", folder / "a.json")[0] == 0
    assert ids_in(folder / "listed.json") == {10, 11}
    code, out, _ = run("evaluate", folder / "listed.json", "--annotations", folder / "a.json")
    assert (code, out.split()[:2]) == (0, ["2", "images"])


def test_numbers_in_file_names_are_not_taken_for_the_ids_of_other_images(
    run: Any, coded: Callable[..., Path], tiny_yolov5: Path
) -> None:
    folder = coded("10.png", "11.png", "12.png")

    def renumber(content: dict[str, Any]) -> None:
        for image, box, number in zip(content["images"], content["annotations"], (12, 10, 11), strict=True):
            image["id"] = box["image_id"] = number

    edit(folder / "a.json", renumber)
    decode = ("decode", folder / "streams", "--detector", tiny_yolov5, "--max-det", "20")
    truth = ("--annotations", folder / "a.json")
    assert run(*decode, "-o", folder / "own.json")[0] == 0
    assert run(*decode, "-o", folder / "listed.json", *truth)[0] == 0
    assert ids_in(folder / "own.json") == ids_in(folder / "listed.json") == {10, 11, 12}
    found = json.loads((folder / "listed.json").read_text())
    boxes = [{key: box[key] for key in ("image_id", "category_id", "bbox")} for box in found]
    edit(folder / "a.json", lambda content: content.update(annotations=boxes))
    assert run("evaluate", folder / "own.json", *truth) == (0, "3 images  AP50 100.00  AP 100.00\n", "")
    # Without names, the boxes are scored on each other's images.
    edit(folder / "own.json", lambda results: [result.pop("image_name") for result in results])
    assert "100.00" not in run("evaluate", folder / "own.json", *truth)[1]


def test_a_name_that_fits_several_listed_images_is_refused_before_the_work(
    run: Any, coded: Callable[..., Path], tiny_yolov5: Path
) -> None:
    folder = coded("cam1/1.png", "cam2/1.png")
    decode = ("decode", folder / "streams/cam1", "--detector", tiny_yolov5, "-o", folder / "d.json")
    code, _, err = run(*decode, "--annotations", folder / "a.json")
    assert (code, (folder / "d.json").exists()) == (1, False)
    assert "streams/cam1/1.266: " in err
    assert "lists 2 images of that name; start from the folder" in err


def test_two_streams_of_one_listed_image_are_refused_before_the_work(
    run: Any, coded: Callable[..., Path], tiny_yolov5: Path
) -> None:
    folder = coded("cam1/1.png", "cam2/1.png")
    content = json.loads((folder / "a.json").read_text())
    content["images"], content["annotations"] = content["images"][:1], content["annotations"][:1]
    (folder / "a.json").write_text(json.dumps(content))
    decode = ("decode", folder / "streams", "--detector", tiny_yolov5, "-o", folder / "d.json")
    code, _, err = run(*decode, "--annotations", folder / "a.json")
    assert (code, (folder / "d.json").exists()) == (1, False)
    assert "cam1/1 and cam2/1 would both be its image 10" in err


def test_one_original_for_two_streams_is_not_drawn(run: Any, coded: Callable[..., Path], tiny_yolov5: Path) -> None:
    folder = coded("cam1/1.png", "cam2/1.png")
    drawing = ("--images", folder / "in/cam1", "--draw", folder / "drawn")
    code, _, err = run("decode", folder / "streams", "--detector", tiny_yolov5, "-o", folder / "d.json", *drawing)
    assert (code, (folder / "d.json").exists(), (folder / "drawn").exists()) == (1, False, False)
    assert "1.png: would be the original of both cam1/1 and cam2/1" in err


def edit(path: Path, change: Callable[[Any], Any]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_ids_as_text_are_the_images_they_mean(run: Any, coded: Callable[..., Path], tiny_yolov5: Path) -> None:
    folder = coded("1.png", "2.png")
    decode = ("decode", folder / "streams", "--detector", tiny_yolov5, "--conf", "0.01", "-o", folder / "d.json")
    assert run(*decode, "--annotations", folder / "a.json")[0] == 0
    evaluate = ("evaluate", folder / "d.json", "--annotations", folder / "a.json")
    assert (before := run(*evaluate))[0] == 0

    def as_text(content: dict[str, Any]) -> None:
        for box in content["annotations"]:
            box["image_id"] = str(box["image_id"])

    edit(folder / "a.json", as_text)
    assert run(*evaluate) == before
    assert "nan" not in before[1]


def test_an_id_that_means_no_image_is_refused_by_its_entry(
    run: Any, coded: Callable[..., Path], tiny_yolov5: Path
) -> None:
    folder = coded("1.png")
    path = edit(folder / "a.json", lambda content: content["annotations"][0].update(image_id="010"))
    (folder / "d.json").write_text("[]")
    train = ("train", "bottleneck", "--detector", tiny_yolov5, "--images", folder / "in", "-o", folder / "run")
    for command in (
        ("evaluate", folder / "d.json"),
        ("sweep", folder / "in", "-o", folder / "points.csv"),
        ("decode", folder / "streams", "-o", folder / "e.json"),
        train,
    ):
        code, _, err = run(*command, "--annotations", path)
        assert code == 1
        assert f"{path}: entry 1 of 'annotations' has the image_id '010', but the ids in 'images' are numbers" in err
        assert err.count("\n") == 1


def test_what_is_left_out_is_said(run: Any, coded: Callable[..., Path]) -> None:
    folder = coded("1.png")
    box = {"image_id": 99, "category_id": 1, "bbox": [1, 2, 3, 4]}
    path = edit(folder / "a.json", lambda content: content["annotations"].append(box))
    (folder / "d.json").write_text("[]")
    code, _, err = run("evaluate", folder / "d.json", "--annotations", path)
    assert (code, err.count("\n")) == (0, 2)
    assert "note: 1 of 1 images have annotated boxes but no results (the first is image 10)" in err
    assert "1 of 2 annotations have image_ids that 'images' does not list (the first is entry 2, 99)" in err


def test_streams_of_other_images_and_damaged_ones_are_said(run: Any, coded: Callable[..., Path]) -> None:
    folder = coded("a/1.png", "b/1.png", "2.png", "3.png")
    edit(folder / "a.json", lambda content: content["images"].pop(0))
    edit(folder / "a.json", lambda content: content["annotations"].pop(0))
    edit(folder / "a.json", lambda content: content["images"][-1].update(file_name="other.png"))
    (folder / "d.json").write_text("[]")
    evaluate = ("evaluate", folder / "d.json", "--annotations", folder / "a.json", "--streams", folder / "streams")
    code, _, err = run(*evaluate)
    assert (code, err.count("\n")) == (0, 4)
    first, second = folder / "streams/3.266", folder / "streams/b/1.266"
    assert f"1 of 4 bitstreams are of no image that {folder}/a.json lists (the first is {first}), but count in" in err
    assert f"1 of 4 bitstreams are of the same images as others (the first is {second}), but count in the bpp" in err
    for path in (first, second):
        path.write_bytes(path.read_bytes()[:-1])
    code, out, err = run(*evaluate)
    assert (code, out, err.count("\n")) == (1, "", 4)
    for part in (f"{first}: damaged", f"{second}: damaged", "2 of 4 bitstreams cannot be read, so there is no rate"):
        assert part in err


@pytest.fixture
def turned(run: Any, tmp_path: Path, tiny_yolov5: Path) -> Path:
    """Two photographs, one of them stored on its side, and annotations that were drawn on the stored pixels."""
    images = []
    (tmp_path / "in").mkdir()
    for number, orientation in ((1, 1), (2, 6)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(texture(120, 90, number)).save(tmp_path / f"in/{number}.jpg", exif=exif)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 120, "height": 90})
    boxes = [{"image_id": image["id"], "category_id": 1, "bbox": [10, 10, 50, 40]} for image in images]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": CATEGORIES}))
    for name, *options in (("turned",), ("stored", "--ignore-exif")):
        encode = ("encode", tmp_path / "in", "-o", tmp_path / name, "--detector", tiny_yolov5, *SIZE, *options)
        assert run(*encode)[0] == 0
    return tmp_path


def test_boxes_on_stored_pixels_are_noticed_everywhere(run: Any, turned: Path, tiny_yolov5: Path) -> None:
    model, truth = ("--detector", tiny_yolov5), ("--annotations", turned / "a.json")
    decode = ("decode", turned / "turned", *model, "--conf", "0.01")
    code, _, err = run(*decode, *truth, "-o", turned / "d.json")
    said = "a.json: lists other sizes than 1 of 2 images were coded with (image 2: listed as 120x90, coded as 90x120)"
    assert (code, said in err, "encode with --ignore-exif if" in err) == (0, True, True)
    assert run(*decode, "-o", turned / "plain.json")[::2] == (0, "")
    for results in ("d.json", "plain.json"):
        code, out, err = run("evaluate", turned / results, *truth)
        assert (code, out, err.count("\n"), said in err) == (1, "", 1, True)
    old = [
        {key: value for key, value in result.items() if key != "image_size"}
        for result in json.loads((turned / "d.json").read_text())
    ]
    (turned / "old.json").write_text(json.dumps(old))
    assert "note: boxes reach out of 1 images" in run("evaluate", turned / "old.json", *truth)[2]
    assert run("evaluate", turned / "old.json", *truth, "--streams", turned / "turned")[0] == 1
    sweep = ("sweep", turned / "in", *truth, *model, "-o", turned / "points.csv", "--qp", "40", *SIZE)
    train = ("train", "bottleneck", *model, *truth, "--images", turned / "in", "-o", turned / "run")
    for command in (sweep, train):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "lists other sizes than 1 of 2 images have (" in err
        assert err.endswith("drawn on the pixels as they are stored; use --ignore-exif\n")
    assert not (turned / "points.csv").exists()


def test_boxes_on_stored_pixels_fit_when_exif_data_is_ignored(run: Any, turned: Path, tiny_yolov5: Path) -> None:
    model, truth = ("--detector", tiny_yolov5), ("--annotations", turned / "a.json")
    drawing = ("--images", turned / "in", "--draw", turned / "drawn")
    decode = ("decode", turned / "stored", *model, *truth, *drawing, "--conf", "0.01", "-o", turned / "d.json")
    assert run(*decode, "--ignore-exif")[::2] == (0, "")
    with Image.open(turned / "drawn/2.jpg") as drawn:
        assert drawn.size == (120, 90)
    code, _, err = run(*decode, "--overwrite")
    assert (code, "give the --images that were encoded, read in the same way (--ignore-exif)" in err) == (1, True)
    evaluated = json.loads(run("evaluate", turned / "d.json", *truth, "--streams", turned / "stored", "--json")[1])
    sweep = ("sweep", turned / "in", *truth, *model, "-o", turned / "points.csv", "--qp", "38", *SIZE, "--conf", "0.01")
    code, out, err = run(*sweep, "--ignore-exif", "--json")
    assert (code, err) == (0, "")
    (point,) = json.loads(out)["points"]
    assert float(point["bpp"]) == pytest.approx(evaluated["bpp"], rel=0.01)


def test_training_notes_labels_on_images_that_are_turned(run: Any, turned: Path, tiny_yolov5: Path) -> None:
    (turned / "in").rename(turned / "images")
    (turned / "labels").mkdir()
    for number in (1, 2):
        (turned / f"labels/{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (turned / "data.yaml").write_text("train: images\nnames: [cat, dog, newt]\n")
    train = ("train", "bottleneck", "--detector", tiny_yolov5, "--data", turned / "data.yaml", "-o", turned / "run")
    code, _, err = run(*train, "--held-out", "2")
    assert (code, err.count("\n"), "note: 1 images are turned or mirrored by EXIF data, and" in err) == (
        1,
        2,
        True,
    )
    assert "; use --ignore-exif if the boxes were drawn on the stored pixels\n" in err
    assert run(*train, "--held-out", "2", "--ignore-exif")[2].count("\n") == 1


@pytest.mark.slow
def test_training_on_stored_pixels(run: Any, turned: Path, tiny_yolov5: Path) -> None:
    truth = ("--annotations", turned / "a.json", "--images", turned / "in", "--ignore-exif")
    train = ("train", "bottleneck", "--detector", tiny_yolov5, *truth, "--steps", "1", "--batch-size", "2")
    code, _, err = run(*train, "--image-size", "64", "-o", turned / "run")
    assert (code, "lists other sizes" in err) == (0, False)
