"""Training a direct reader at toy size: it learns, leaves what every stage leaves, and resumes bit for bit."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from plate_set import make_scenes
from toy_training import StoppedError, results, rows, steps_done, stop_at, toy_bottleneck, toy_options

from featcodec.detectors import load_detector
from featcodec.errors import InputError
from featcodec.privacy.direct_reader import DirectReader, load_direct_reader, save_direct_reader
from featcodec.split_model import SplitModel
from featcodec.training.direct_reader import DirectReaderTask, PlateWindowData, train_direct_reader

LAST = "last-direct-reader.safetensors"
SIZES = (8, 4, 12)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), 8)


@pytest.fixture(scope="module")
def data(scenes: Path) -> PlateWindowData:
    return PlateWindowData.read(scenes / "private.json", scenes / "images", 2)


@pytest.fixture(scope="module")
def bottleneck(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> Path:
    detector = load_detector(tiny_yolov5, device="cpu")
    return toy_bottleneck(tmp_path_factory.mktemp("b") / "b.safetensors", detector)


@pytest.fixture(scope="module")
def task(tiny_yolov5: Path, bottleneck: Path) -> DirectReaderTask:
    return DirectReaderTask(tiny_yolov5, bottleneck, SIZES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, task: DirectReaderTask, data: PlateWindowData) -> Path:
    return train_direct_reader(task, data, toy_options(tmp_path_factory.mktemp("trained")))


@pytest.mark.slow
def test_it_learns_what_a_detector_lets_through(tmp_path: Path, scenes: Path) -> None:
    """The features of the detector that ships, a few plates: better than guessing, which has a loss of 2.7."""
    data = PlateWindowData.read(scenes / "private.json", scenes / "images")
    options = toy_options(tmp_path, steps=120, batch_size=8, learning_rate=5e-3, save_every=120)
    train_direct_reader(DirectReaderTask("scenes", None, (24, 12, 32)), data, options)
    table = rows(tmp_path / "log.csv")
    assert table[0]["loss"] > 2.7
    assert sum(row["loss"] for row in table[-10:]) / 10 < 1.9
    assert sum(row["characters"] for row in table[-10:]) / 10 > 0.3


def test_it_leaves_what_every_stage_leaves(
    trained: Path, scenes: Path, data: PlateWindowData, tiny_yolov5: Path, bottleneck: Path
) -> None:
    folder = trained.parent
    assert trained == folder / LAST
    expected = {"best-direct-reader.safetensors", LAST, "state.safetensors", "log.csv", "held-out.csv"}
    assert set(results(folder)) == expected
    config = load_direct_reader(trained).config
    model = SplitModel.load(tiny_yolov5, bottleneck, device="cpu")
    assert (config.channels, config.edge_fingerprint) == (4, model.edge_fingerprint.hex())
    assert config.hidden_channels == SIZES
    assert config.training["data"] == {"plates": len(data.images), "held_out": len(data.held_out)}
    last = rows(folder / "held-out.csv")[-1]
    assert config.training["metrics"]["characters"] == pytest.approx(last["held-out characters"], rel=1e-5)
    for path in folder.glob("*.safetensors"):
        assert str(scenes).encode() not in path.read_bytes()


@pytest.mark.slow
def test_it_resumes_bit_for_bit(tmp_path: Path, task: DirectReaderTask, data: PlateWindowData) -> None:
    """Stopped in step 7, with its last checkpoint after step 4."""
    often: dict[str, Any] = {"steps": 8, "save_every": 4, "evaluate_every": 3, "weight_decay": 0.1}
    train_direct_reader(task, data, toy_options(tmp_path / "whole", **often))
    with pytest.raises(StoppedError):
        train_direct_reader(task, data, toy_options(tmp_path / "cut", **often, report=stop_at(7)))
    assert steps_done(tmp_path / "cut") == 4
    train_direct_reader(task, data, toy_options(tmp_path / "cut", **often, resume=True))
    assert results(tmp_path / "whole") == results(tmp_path / "cut")


def test_it_goes_on_for_another_edge_of_the_same_shape(
    tmp_path: Path, tiny_yolov5: Path, data: PlateWindowData, trained: Path
) -> None:
    other = toy_bottleneck(tmp_path / "other.safetensors", load_detector(tiny_yolov5, device="cpu"), seed=1)
    task = DirectReaderTask(tiny_yolov5, other, start=trained)
    written = train_direct_reader(task, data, toy_options(tmp_path / "out", steps=1))
    before, after = load_direct_reader(trained).config, load_direct_reader(written).config
    assert (after.hidden_channels, after.training["start"]) == (before.hidden_channels, LAST)
    assert after.edge_fingerprint != before.edge_fingerprint
    assert after.edge_fingerprint == SplitModel.load(tiny_yolov5, other, device="cpu").edge_fingerprint.hex()


def test_it_goes_on_for_an_edge_of_other_channels(
    tmp_path: Path, tiny_yolov5: Path, data: PlateWindowData, trained: Path
) -> None:
    """The layers that fit are taken over, the first ones are new."""
    options = toy_options(tmp_path, steps=1, learning_rate=1e-9)
    written = train_direct_reader(DirectReaderTask(tiny_yolov5, None, start=trained), data, options)
    before, after = load_direct_reader(trained), load_direct_reader(written)
    assert (before.config.channels, after.config.channels) == (4, 16)
    assert torch.allclose(before.classes.weight, after.classes.weight, atol=1e-3)
    assert after.config.edge_fingerprint == SplitModel.load(tiny_yolov5, None, device="cpu").edge_fingerprint.hex()


def test_a_start_of_another_format_is_refused(
    tmp_path: Path, task: DirectReaderTask, data: PlateWindowData, trained: Path
) -> None:
    config = dataclasses.replace(load_direct_reader(trained).config, alphabets=("AB", "12"))
    save_direct_reader(tmp_path / "other.safetensors", DirectReader(config))
    start = dataclasses.replace(task, start=tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other.safetensors: reads plates of another format; leave `start` out"):
        train_direct_reader(start, data, toy_options(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_plates_of_another_format_are_refused(tmp_path: Path, scenes: Path) -> None:
    content = json.loads((scenes / "private.json").read_text())
    next(one for one in content["details"] if one["kind"] == "plate" and one["readable"])["text"] = "short"
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="not two letters, two digits and three letters"):
        PlateWindowData.read(tmp_path / "p.json", scenes / "images")


# The command


@pytest.fixture
def run(run: Any) -> Any:
    return partial(run, "train", "direct-reader")


@pytest.mark.slow
def test_the_command_trains(run: Any, tmp_path: Path, scenes: Path, tiny_yolov5: Path) -> None:
    plates = ["--private", scenes / "private.json", "--images", scenes / "images", "--held-out", 2]
    options = ["--steps", 2, "--batch-size", 2, "--evaluate-every", 2, "--accelerator", "cpu", "--image-size", 256]
    code, out, err = run("--detector", tiny_yolov5, "--bottleneck", "none", *plates, "-o", tmp_path, *options)
    assert (code, out) == (0, f"{tmp_path / LAST}\n"), err
    config = load_direct_reader(tmp_path / LAST).config
    assert (config.channels, config.training["steps"]) == (16, 2)


def test_refusals_are_one_line(run: Any, tmp_path: Path, scenes: Path) -> None:
    (tmp_path / "p.json").write_text("{}")
    for private, images in (
        (tmp_path / "absent.json", scenes / "images"),
        (tmp_path / "p.json", scenes / "images"),
        (scenes / "private.json", tmp_path / "absent"),
    ):
        code, out, err = run("--bottleneck", "none", "--private", private, "--images", images, "-o", tmp_path / "out")
        assert (code, out, err.count("\n")) == (1, "", 1)
    assert run("--private", scenes / "private.json", "--images", scenes / "images", "-o", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


def test_help_explains_every_option(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from featcodec.cli.train import command

    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = run("--help")
    assert code == 0
    for parameter in command.commands["direct-reader"].params:
        assert parameter.help, parameter.opts
        assert parameter.opts[0] in out
