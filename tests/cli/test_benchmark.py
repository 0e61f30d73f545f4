"""`featcodec benchmark`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pictures import save_texture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(3):
        save_texture(tmp_path / f"in/{number}.png", 120, 90, seed=number)
    return tmp_path / "in"


def test_a_table_and_json(run: Any, pictures: Path, tiny_yolov5: Path) -> None:
    options = (pictures, "--detector", tiny_yolov5, "--image-size", 96, "--codec", "hevc", "--rounds", 1)
    code, out, err = run("benchmark", *options)
    assert (code, err) == (0, "")
    for word in ("3 images", "encode", "decode", "front-end", "NMS", "networks", "peak memory"):
        assert word in out
    code, out, _ = run("benchmark", *options, "--json", "-n", 2, "--precision", "float32")
    found = json.loads(out)
    assert (code, found["images"], found["precision"], found["video_codec"]) == (0, 2, ["float32", "float32"], "hevc")
    assert {rate["direction"] for rate in found["rates"]} == {"encode", "decode"}
    assert sorted(pictures.iterdir()) == [pictures / f"{number}.png" for number in range(3)]


def test_without_images_scenes_are_drawn(run: Any, tiny_yolov5: Path) -> None:
    options = ("--detector", tiny_yolov5, "--image-size", 96, "--codec", "none", "--rounds", 1, "-n", 1, "--json")
    code, out, _ = run("benchmark", *options)
    assert (code, json.loads(out)["images"]) == (0, 1)


def test_a_wrong_image_is_one_line(run: Any, tmp_path: Path, tiny_yolov5: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    code, _, err = run("benchmark", tmp_path, "--detector", tiny_yolov5, "--rounds", 1)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{tmp_path}/a.png" in err


def test_missing_images_are_said_before_networks_are_loaded(run: Any, tmp_path: Path) -> None:
    (tmp_path / "networks.pt").write_bytes(b"no checkpoint")
    (tmp_path / "in").mkdir()
    code, _, err = run("benchmark", tmp_path / "in", "--detector", tmp_path / "networks.pt")
    assert (code, err.count("\n")) == (1, 1)
    assert "no images" in err
