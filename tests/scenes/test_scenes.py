"""Scenes that are drawn: same seed, same bytes; truths that hold; and that nothing is overwritten."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from featcodec.cli.scenes import command
from featcodec.errors import OutputError
from featcodec.images.annotations import read_annotations
from featcodec.scenes.canvas import Camera, sprite_layer, upright
from featcodec.scenes.dataset import write_scenes
from featcodec.scenes.light import draw_light
from featcodec.scenes.private import LEAST_CHARACTER, PLATE_PATTERN, draw_plate
from featcodec.scenes.scene import (
    CLASSES,
    LEAST_VISIBLE_PIXELS,
    SIZE,
    Scene,
    draw_scene,
)

SAMPLE = 60


@lru_cache(maxsize=128)
def scene(seed: int, index: int) -> Scene:
    return draw_scene(seed, index)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes, drawn by one process."""
    folder = tmp_path_factory.mktemp("scenes")
    list(write_scenes(folder, 6, seed=5, workers=1))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_scene_is_a_function_of_seed_and_index() -> None:
    first, second = draw_scene(3, 7), draw_scene(3, 7)
    assert first.image.tobytes() == second.image.tobytes()
    assert (first.objects, first.details) == (second.objects, second.details)
    assert first.image.shape == (SIZE, SIZE, 3)
    assert first.image.dtype == np.uint8


@pytest.mark.slow
@pytest.mark.parametrize("other", [(3, 8), (4, 7), (7, 3)])
def test_other_seeds_and_indexes_make_other_scenes(other: tuple[int, int]) -> None:
    assert (scene(3, 7).image != scene(*other).image).mean() > 0.5


@pytest.mark.slow
def test_the_bytes_depend_neither_on_the_count_nor_on_the_workers(drawn: Path, tmp_path: Path) -> None:
    truths = list(write_scenes(tmp_path, 3, seed=5, workers=2))
    assert [truth.index for truth in truths] == [0, 1, 2]
    for truth in truths:
        name = f"images/{truth.file_name}"
        assert (tmp_path / name).read_bytes() == (drawn / name).read_bytes()
    few, many = (json.loads((folder / "annotations.json").read_bytes()) for folder in (tmp_path, drawn))
    assert few["annotations"] == many["annotations"][: len(few["annotations"])]
    assert few["categories"] == many["categories"]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_truths_hold_whatever_the_seed(seed: int, index: int) -> None:
    found = draw_scene(seed, index)
    for thing in found.objects:
        left, top, width, height = thing.box
        assert thing.class_name in CLASSES
        assert left >= 0 < width
        assert top >= 0 < height
        assert left + width <= SIZE
        assert top + height <= SIZE
        assert LEAST_VISIBLE_PIXELS <= thing.area <= width * height
    for detail in found.details:
        left, top, right, bottom = detail.box
        assert 0 <= left < right <= SIZE
        assert 0 <= top < bottom <= SIZE
        assert detail.kind in ("plate", "face", "poster")
        assert (detail.text is None) == (detail.kind == "face")
        if detail.kind == "plate":
            assert re.fullmatch(PLATE_PATTERN, detail.text or "")


@pytest.mark.slow
def test_every_class_and_kind_occurs_and_most_scenes_have_a_readable_plate() -> None:
    scenes = [scene(0, index) for index in range(SAMPLE)]
    classes = Counter(thing.class_name for each in scenes for thing in each.objects)
    assert all(classes[name] >= 5 for name in CLASSES), classes
    readable = Counter(kind for each in scenes for kind in {detail.kind for detail in each.details if detail.readable})
    assert readable["plate"] >= 0.6 * SAMPLE
    assert readable["face"] >= 10
    assert readable["poster"] >= 5
    counts = [len(each.objects) for each in scenes]
    assert 5 <= np.mean(counts) <= 14
    assert max(max(thing.box[2:]) for each in scenes for thing in each.objects) <= 340


@pytest.mark.slow
def test_readable_plates_have_contrast() -> None:
    for index in range(SAMPLE):
        for detail in scene(0, index).details:
            if detail.kind == "plate" and detail.readable:
                left, top, right, bottom = (round(edge) for edge in detail.box)
                crop = scene(0, index).image[top:bottom, left:right].mean(axis=2)
                assert bottom - top >= LEAST_CHARACTER
                assert 2.9 < (right - left) / (bottom - top) < 4.5
                dark, bright = np.percentile(crop, (10, 90))
                assert bright - dark > 25, f"scene {index}"


@pytest.mark.parametrize(("scale", "readable"), [(20, False), (45, False), (60, True), (100, True)])
def test_a_plate_is_readable_from_some_size_on(scale: float, readable: bool) -> None:
    rng = np.random.default_rng(0)
    camera = Camera(focal=scale, centre=256, horizon=200, height=2)  # one metre away
    layer = sprite_layer([(100, 100), (400, 400)], scale)
    draw_plate(rng, upright(layer, camera, draw_light(rng), 0, 1.0), -0.5, 0.5, 0.5, 0.77)
    (detail,) = layer.details
    assert detail.readable == readable
    assert detail.box[2] - detail.box[0] == pytest.approx(scale)


def test_a_plate_that_leans_is_not_readable() -> None:
    rng = np.random.default_rng(0)
    layer = sprite_layer([(100, 100), (400, 400)], 100)
    upright_surface = upright(layer, Camera(100, 256, 200, 2), draw_light(rng), 0, 1.0)
    leaning = type(upright_surface)(
        layer, upright_surface.camera, upright_surface.light, 1.0, lambda u, v: (u, v + 0.2 * u, 1.0)
    )
    draw_plate(rng, leaning, -0.5, 0.5, 0.5, 0.77)
    assert not layer.details[0].readable


def test_the_annotations_are_coco(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = COCO(str(drawn / "annotations.json"))
    capsys.readouterr()
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert coco.getCatIds() == list(range(1, len(CLASSES) + 1))
    assert coco.getImgIds() == list(range(6))
    ids = [annotation["id"] for annotation in coco.dataset["annotations"]]
    assert ids == list(range(1, len(ids) + 1)), "an id of 0 counts as unmatched in pycocotools"
    for image in coco.dataset["images"]:
        with Image.open(drawn / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (SIZE, SIZE)
    assert read_annotations(drawn / "annotations.json").image_ids == set(range(6))


def test_private_details_are_recorded_apart(drawn: Path) -> None:
    private = json.loads((drawn / "private.json").read_bytes())
    assert [image["file_name"] for image in private["images"]] == [f"{index:06d}.png" for index in range(6)]
    assert private["details"]
    for detail in private["details"]:
        left, top, width, height = detail["bbox"]
        assert 0 <= left < left + width <= SIZE
        assert 0 <= top < top + height <= SIZE
        assert detail["image_id"] in range(6)
        assert isinstance(detail["readable"], bool)
    assert "plate" not in (drawn / "annotations.json").read_text()


def test_a_used_folder_is_refused_and_left_alone(drawn: Path) -> None:
    before = contents(drawn)
    with pytest.raises(OutputError, match=r"annotations\.json: exists; use `overwrite` or another `output`"):
        list(write_scenes(drawn, 1))
    assert contents(drawn) == before


@pytest.mark.slow
def test_overwrite_replaces_the_older_set(tmp_path: Path) -> None:
    list(write_scenes(tmp_path, 3, seed=1, workers=1))
    (tmp_path / "images/mine.png").write_bytes(b"not ours")
    list(write_scenes(tmp_path, 1, seed=2, workers=1, overwrite=True))
    assert sorted(contents(tmp_path)) == ["annotations.json", "images/000000.png", "images/mine.png", "private.json"]
    assert Image.open(tmp_path / "images/000000.png").tobytes() == scene(2, 0).image.tobytes()


def test_overwrite_removes_nothing_outside_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "000000.png"
    outside.write_bytes(b"mine")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "annotations.json").write_text(json.dumps({"images": [{"file_name": "../../000000.png"}]}))
    list(write_scenes(folder, 1, workers=1, overwrite=True))
    assert outside.read_bytes() == b"mine"


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_annotations_and_goes_on(tmp_path: Path) -> None:
    truths = write_scenes(tmp_path, 3, seed=5, workers=1)
    next(truths)
    truths.close()
    assert sorted(contents(tmp_path)) == ["images/000000.png"]
    written = (tmp_path / "images/000000.png").stat().st_mtime_ns
    list(write_scenes(tmp_path, 3, seed=5, workers=1))
    assert (tmp_path / "images/000000.png").stat().st_mtime_ns == written
    assert (tmp_path / "annotations.json").exists()


@pytest.mark.slow
def test_an_image_of_another_set_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/000000.png").write_bytes(b"mine")
    for workers in (1, 2):
        with pytest.raises(OutputError, match=r"000000\.png: exists; use `overwrite`"):
            list(write_scenes(tmp_path, 2, workers=workers))
    assert (tmp_path / "images/000000.png").read_bytes() == b"mine"


@pytest.mark.slow
def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    run = CliRunner().invoke(command, ["-o", str(tmp_path / "a"), "-n", "2", "--seed", "5", "--workers", "1"])
    assert run.exit_code == 0, run.output
    assert re.fullmatch(
        r"2 scenes, \d+ objects, \d+ private details, [\d.]+ s \([\d.]+ images/s\) -> .*a\n", run.output
    )
    arguments = ["-o", str(tmp_path / "b"), "-n", "1", "--json", "--workers", "1"]
    summary = json.loads(CliRunner().invoke(command, arguments).stdout)
    assert summary["scenes"] == 1
    assert sum(summary["classes"].values()) == summary["objects"] == len(scene(0, 0).objects)
    assert sum(summary["kinds"].values()) == summary["private"] == len(scene(0, 0).details)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0"], "0 is not in the range"),
        (["-n", "many"], "not a valid integer"),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--workers", "0"], "0 is not in the range"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: list[str], message: str) -> None:
    run = CliRunner().invoke(command, ["-o", str(tmp_path / "out"), *arguments])
    assert run.exit_code == 2
    assert message in " ".join(run.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    run = subprocess.run(
        [sys.executable, "-m", "featcodec", "scenes", "-o", str(tmp_path / "out"), "-n", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr == f"featcodec: {tmp_path / 'out'}: is not a folder; choose another -o\n"


@pytest.mark.slow
def test_scenes_do_not_know_torch() -> None:
    code = "import sys, featcodec.scenes.dataset\nsys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
