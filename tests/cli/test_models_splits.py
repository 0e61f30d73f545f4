"""featcodec models DETECTOR --splits: as text, as JSON, of a name without weights and of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make_families import make_family, save_family
from refusals import assert_refused

from featcodec.detectors import load_detector


def listed(run: Any, *arguments: object) -> list[dict[str, Any]]:
    code, out, err = run("models", *arguments, "--splits", "--json")
    assert (code, err) == (0, "")
    return list(json.loads(out)["splits"])


def test_every_split_is_listed_without_weights(run: Any) -> None:
    splits = listed(run, "yolo11n")
    assert [split["layer"] for split in splits] == list(range(23))
    assert splits[4]["tensors"] == [[128, 64, 64]]
    assert splits[10]["tensors"] == [[128, 64, 64], [128, 32, 32], [256, 16, 16]]
    for split in splits:
        assert split["raw_bits"] == 8 * split["samples"] == 8 * sum(c * h * w for c, h, w in split["tensors"])
    operations = [split["front_end_flops"] for split in splits]
    assert operations == sorted(operations)
    assert splits[0]["front_end_parameters"] == 16 * 27 + 32


def test_the_table_has_the_same_figures(run: Any) -> None:
    code, out, err = run("models", "yolov10n", "--splits", "--image-size", 640)
    assert (code, err) == (0, "")
    assert "yolov10n, 640x640 pixels" in out
    assert "64x80x80" in out
    assert "raw bits: 8 for each sample" in out


@pytest.mark.slow
def test_a_file_has_the_splits_of_its_architecture(run: Any, tmp_path: Path) -> None:
    path = save_family(tmp_path / "mine.pt", make_family("yolov9e"))
    splits = listed(run, path)
    assert splits == listed(run, "yolov9e")
    assert [split["layer"] for split in splits] == list(range(27, 42))
    detector = load_detector(path, device="cpu")
    for split in splits:
        assert [list(shape) for shape in detector.at(split["layer"]).feature_shapes(512, 512)] == split["tensors"]


@pytest.mark.slow
def test_p6_models_take_multiples_of_64(run: Any) -> None:
    assert listed(run, "yolov8n-p6", "--image-size", 640)
    assert_refused(run("models", "yolov8n-p6", "--splits", "--image-size", 544), "544", "64")


@pytest.mark.parametrize("name", ["yolo11q", "yolo99n", "../yolo11n", "yolo11n-obb", "yolo11n" * 99])
def test_what_is_no_detector_is_one_line(run: Any, name: str) -> None:
    assert_refused(run("models", name, "--splits"))


@pytest.mark.parametrize("arguments", [["yolo11n"], ["--splits"], ["yolo11n", "--splits", "--image-size", 0]])
def test_wrong_usage_exits_with_2(run: Any, arguments: list[object]) -> None:
    assert run("models", *arguments)[0] == 2
