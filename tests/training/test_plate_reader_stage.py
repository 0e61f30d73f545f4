"""Training a plate reader at toy size: it learns, leaves what every stage leaves, and resumes bit for bit."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from plate_set import crops_of, make_scenes
from toy_training import StoppedError, results, rows, steps_done, stop_at, toy_options

from featcodec.errors import InputError, TrainingError, WeightsError
from featcodec.networks.checkpoints import load_checkpoint
from featcodec.privacy.plate_reader import (
    PlateReader,
    PlateReaderConfig,
    load_plate_reader,
    save_plate_reader,
)
from featcodec.privacy.text_head import PLATE_FORMAT
from featcodec.training.plate_reader import PlateData, PlateReaderTask, train_plate_reader

TASK = PlateReaderTask(PlateReaderConfig(channels=(8, 8, 12, 16, 16)))
LAST = "last-plate-reader.safetensors"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), 8)


@pytest.fixture(scope="module")
def data(scenes: Path) -> PlateData:
    data = PlateData.read(scenes / "private.json", [scenes / "images"], 2)
    assert len(data.images) >= 3
    assert len(data.held_out) >= 2
    return data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: PlateData) -> Path:
    return train_plate_reader(TASK, data, toy_options(tmp_path_factory.mktemp("trained")))


@pytest.mark.slow
def test_it_learns_a_few_plates_by_heart(tmp_path: Path, scenes: Path) -> None:
    """And what the checkpoint of the run reads is what was learnt."""
    data = PlateData.read(scenes / "private.json", [scenes / "images"])
    options = toy_options(tmp_path, steps=140, batch_size=16, learning_rate=1e-2, save_every=140)
    reader = load_plate_reader(train_plate_reader(TASK, data, options))
    table = rows(tmp_path / "log.csv")
    assert table[0]["loss"] > 2.5
    assert sum(row["loss"] for row in table[-10:]) / 10 < 1.2
    assert sum(row["characters"] for row in table[-10:]) / 10 > 0.6
    crops, texts = crops_of(scenes)
    found = reader.read(crops)
    right = sum(one == other for pair in zip(texts, found, strict=True) for one, other in zip(*pair, strict=True))
    assert right / (7 * len(texts)) > 0.8


def test_it_leaves_what_every_stage_leaves(trained: Path, scenes: Path, data: PlateData) -> None:
    folder = trained.parent
    expected = {"best-plate-reader.safetensors", LAST, "state.safetensors", "log.csv", "held-out.csv"}
    assert trained == folder / LAST
    assert set(results(folder)) == expected
    config = load_plate_reader(trained).config
    assert (config.alphabets, config.channels) == (PLATE_FORMAT, TASK.config.channels)
    training = config.training
    assert (training["stage"], training["steps"]) == ("plate-reader", 4)
    assert training["data"] == {"plates": len(data.images), "held_out": len(data.held_out)}
    last = rows(folder / "held-out.csv")[-1]
    for name in ("loss", "characters", "plain characters"):
        assert training["metrics"][name] == pytest.approx(last[f"held-out {name}"], rel=1e-5)
    for path in folder.glob("*.safetensors"):
        assert str(scenes).encode() not in path.read_bytes()


@pytest.mark.slow
def test_it_resumes_bit_for_bit(tmp_path: Path, data: PlateData) -> None:
    """Stopped in step 7, with its last checkpoint after step 4."""
    often: dict[str, Any] = {"steps": 8, "save_every": 4, "evaluate_every": 3, "weight_decay": 0.1}
    train_plate_reader(TASK, data, toy_options(tmp_path / "whole", **often))
    with pytest.raises(StoppedError):
        train_plate_reader(TASK, data, toy_options(tmp_path / "cut", **often, report=stop_at(7)))
    assert steps_done(tmp_path / "cut") == 4
    train_plate_reader(TASK, data, toy_options(tmp_path / "cut", **often, resume=True))
    assert results(tmp_path / "whole") == results(tmp_path / "cut")


def test_it_goes_on_from_a_checkpoint(tmp_path: Path, data: PlateData, trained: Path) -> None:
    options = toy_options(tmp_path / "a", steps=1, learning_rate=1e-9)
    written = train_plate_reader(PlateReaderTask(start=trained), data, options)
    before, after = (load_checkpoint(path, "plate-reader")[1] for path in (trained, written))
    assert torch.allclose(before["classes.weight"].float(), after["classes.weight"].float(), atol=1e-3)
    assert load_plate_reader(written).config.training["start"] == LAST


def test_starts_that_do_not_fit_are_refused(tmp_path: Path, data: PlateData, trained: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_plate_reader(other, PlateReader(dataclasses.replace(TASK.config, alphabets=("AB", "12"))))
    with pytest.raises(InputError, match=r"other.safetensors: reads plates of another format"):
        train_plate_reader(PlateReaderTask(start=other), data, toy_options(tmp_path / "out"))
    with pytest.raises(WeightsError):
        train_plate_reader(PlateReaderTask(start=trained.parent / "log.csv"), data, toy_options(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["AB12CD", "AB12CDEF", "AB1ACDE", "AB12CDI", "ab12cde", "ÄB12CDE"])
def test_plates_of_another_format_are_refused(tmp_path: Path, scenes: Path, text: str) -> None:
    content = json.loads((scenes / "private.json").read_text())
    next(one for one in content["details"] if one["kind"] == "plate" and one["readable"])["text"] = text
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="not two letters, two digits and three letters"):
        PlateData.read(tmp_path / "p.json", [scenes / "images"])


def test_a_run_that_diverges_keeps_its_checkpoint(tmp_path: Path, data: PlateData) -> None:
    with pytest.raises((TrainingError, WeightsError), match="lower learning rate"):
        train_plate_reader(TASK, data, toy_options(tmp_path, learning_rate=1e30, save_every=1, steps=8))


# The command


@pytest.fixture
def run(run: Any) -> Any:
    return partial(run, "train", "plate-reader")


@pytest.mark.slow
def test_the_command_trains_on_originals_and_reconstructions(
    run: Any, tmp_path: Path, scenes: Path, data: PlateData
) -> None:
    folders = ["--images", scenes / "images", "--images", scenes / "images"]
    options = ["--held-out", 2, "--batch-size", 2, "--evaluate-every", 2, "--accelerator", "cpu", "--epochs", 0.5]
    code, out, err = run("--private", scenes / "private.json", *folders, "-o", tmp_path, *options)
    assert (code, out) == (0, f"{tmp_path / LAST}\n"), err
    training = load_plate_reader(tmp_path / LAST).config.training
    assert training["data"] == {"plates": 2 * len(data.images), "held_out": 2 * len(data.held_out)}
    assert training["steps"] == -(-len(data.images) // 2)
    assert err.splitlines()[-1].endswith("best-plate-reader.safetensors")
    start = ["--start", tmp_path / LAST, "--steps", 1, *options[:-2]]
    assert run("--private", scenes / "private.json", *folders[:2], "-o", tmp_path / "more", *start)[0] == 0


def test_refusals_are_one_line(run: Any, tmp_path: Path, scenes: Path) -> None:
    (tmp_path / "p.json").write_text("{}")
    for private, images in (
        (tmp_path / "absent.json", scenes / "images"),
        (tmp_path / "p.json", scenes / "images"),
        (scenes / "private.json", tmp_path / "absent"),
    ):
        code, out, err = run("--private", private, "--images", images, "-o", tmp_path / "out")
        assert (code, out, err.count("\n")) == (1, "", 1)
    assert run("--private", scenes / "private.json", "-o", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


def test_help_explains_every_option(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from featcodec.cli.train import command

    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = run("--help")
    assert code == 0
    for parameter in command.commands["plate-reader"].params:
        assert parameter.help, parameter.opts
        assert parameter.opts[0] in out
