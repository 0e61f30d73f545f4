"""Training a detector at toy size: it learns, averages, resumes bit for bit, and a bottleneck trains behind it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from make_checkpoints import NAMES
from torch import Tensor, nn
from toy_training import StoppedError, results, rows, steps_done, stop_at, toy_data, toy_options

import featcodec.training.detector as stage
from featcodec.detectors import configuration_of, load_detector, read_detector
from featcodec.detectors.stored import FamilyConfig, build_detector, save_detector
from featcodec.errors import InputError, TrainingError, WeightsError
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.networks.checkpoints import load_checkpoint
from featcodec.training import moving_average
from featcodec.training.bottleneck import BottleneckTask, train_bottleneck
from featcodec.training.data.samples import Augmentation
from featcodec.training.detector import DetectorTask, RawOutputs, is_kernel, losses_of, train_detector
from featcodec.training.loop import Loop
from featcodec.training.losses.detection import detection_loss_for
from featcodec.training.moving_average import MovingAverage
from featcodec.training.setup import TrainingData, held_out_batches

TASK = DetectorTask(tuple(NAMES), width_multiple=0.1)
STILL = Augmentation(64, mosaic=0, hsv_h=0, hsv_s=0, hsv_v=0, scale=0, translate=0, fliplr=0)


@pytest.fixture(scope="module")
def data(toy_set: Path) -> TrainingData:
    return toy_data(toy_set)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> Path:
    """The checkpoint of a short run."""
    return train_detector(TASK, data, toy_options(tmp_path_factory.mktemp("trained")))


def state(output: Path) -> dict[str, Tensor]:
    return load_checkpoint(output / "state.safetensors", "training state")[1]


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@pytest.mark.slow
def test_it_learns(tmp_path: Path, data: TrainingData) -> None:
    """Pictures that are always the same, by heart; the weights themselves, as the average is slow to follow."""
    still = dataclasses.replace(data, augmentation=STILL)
    train_detector(TASK, still, toy_options(tmp_path, steps=30, batch_size=3, evaluate_every=30))
    table = rows(tmp_path / "log.csv")
    assert table[-1]["loss"] < 0.8 * table[0]["loss"]
    assert table[-1]["box"] < 0.8 * table[0]["box"]
    for row in table:
        assert row["loss"] == pytest.approx(row["box"] + row["objectness"] + row["classification"], rel=1e-3)


def test_it_leaves_what_every_stage_leaves(trained: Path, toy_set: Path) -> None:
    folder = trained.parent
    expected = {"best-detector.safetensors", "last-detector.safetensors", "state.safetensors", "log.csv"}
    assert set(results(folder)) == expected | {"held-out.csv"}
    config, _ = read_detector(trained)
    assert (config.names, config.depth_multiple, config.width_multiple) == (tuple(NAMES), 0.33, 0.1)
    training = config.training
    assert (training["stage"], training["steps"], training["data"]["images"]) == ("detector", 4, 3)
    assert training["metrics"]["loss"] == pytest.approx(rows(folder / "held-out.csv")[-1]["held-out loss"], rel=1e-5)
    for path in folder.glob("*.safetensors"):
        assert str(folder).encode() not in path.read_bytes()
        assert str(toy_set).encode() not in path.read_bytes()


@pytest.mark.slow
def test_checkpoints_hold_the_average_and_the_held_out_loss_is_its(
    tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving_average, "RAMP", 1)  # so that 4 steps leave it far behind the weights
    trained = train_detector(TASK, data, toy_options(tmp_path))
    kept = state(tmp_path)
    average = below(kept, "model/average/network.detector.layers.")
    weights = below(kept, "model/detector/detector.layers.")
    assert average.keys() == weights.keys()
    moved = [name for name, tensor in average.items() if not torch.equal(tensor, weights[name])]
    assert any("conv.weight" in name for name in moved)
    assert any("running_mean" in name for name in moved)
    for name, tensor in below(load_checkpoint(trained, "detector")[1], "model.").items():
        assert torch.equal(tensor, average[name].half() if tensor.is_floating_point() else average[name])

    network = RawOutputs(load_detector(trained, device="cpu", fuse=False))
    (batch,) = held_out_batches(Loop(toy_options(Path("/nonexistent")), {}), data)
    found = []
    for tensors in (average, weights):
        network.detector.layers.load_state_dict(tensors)
        with torch.no_grad():
            found.append(float(losses_of(detection_loss_for(network.detector), network, batch)["loss"]))
    assert rows(tmp_path / "held-out.csv")[-1]["held-out loss"] == pytest.approx(found[0], rel=1e-5)
    assert found[1] != pytest.approx(found[0], rel=1e-3)


def test_batch_norm_learns(trained: Path) -> None:
    weights = below(state(trained.parent), "model/detector/detector.layers.")
    assert weights["0.bn.num_batches_tracked"].item() == 4
    assert weights["0.bn.running_mean"].abs().max() > 0
    assert not torch.equal(weights["0.bn.weight"], torch.ones(8))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_resumes_bit_for_bit(tmp_path: Path, data: TrainingData, precision: str) -> None:
    """Stopped in step 7, with its last checkpoint after step 4."""
    often = {"steps": 8, "save_every": 4, "evaluate_every": 3, "weight_decay": 0.1, "precision": precision}
    train_detector(TASK, data, toy_options(tmp_path / "whole", **often))
    with pytest.raises(StoppedError):
        train_detector(TASK, data, toy_options(tmp_path / "cut", **often, report=stop_at(7)))
    assert steps_done(tmp_path / "cut") == 4
    train_detector(TASK, data, toy_options(tmp_path / "cut", **often, resume=True))
    whole, cut = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    parts = ("model/detector/", "model/average/", "optimizer/detector/")
    assert all(below(whole, part) for part in parts)
    assert [name for name, tensor in whole.items() if not torch.equal(tensor, cut[name])] == []
    assert results(tmp_path / "whole") == results(tmp_path / "cut")


@pytest.mark.slow
def test_a_resumed_run_needs_the_average(tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it not part of the state, it would start anew from the weights."""
    with pytest.raises(StoppedError):
        train_detector(TASK, data, toy_options(tmp_path, report=stop_at(3)))
    expected = below(state(tmp_path), "model/average/")
    found: list[dict[str, Tensor]] = []
    original = MovingAverage.update

    def update(self: MovingAverage[nn.Module], network: nn.Module, step: int) -> None:
        found.append(copy.deepcopy(self.state_dict()))
        original(self, network, step)

    monkeypatch.setattr(MovingAverage, "update", update)
    train_detector(TASK, data, toy_options(tmp_path, resume=True))
    assert found[0].keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found[0].items())


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_is_for_kernels_alone(
    tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    loops: list[Loop] = []
    monkeypatch.setattr(stage, "Loop", lambda *arguments: loops.append(Loop(*arguments)) or loops[0])
    options = toy_options(tmp_path, steps=1, optimizer=optimizer, weight_decay=0.25)
    train_detector(TASK, data, options)
    decays, free = loops[0]._optimizers["detector"].param_groups
    assert (decays["weight_decay"], free["weight_decay"]) == (0.25, 0)
    assert {parameter.ndim for parameter in decays["params"]} == {4}
    assert {parameter.ndim for parameter in free["params"]} == {1}
    assert len(decays["params"]) == 57 + 3
    assert len(free["params"]) == 2 * 57 + 3
    assert is_kernel(torch.zeros(1, 1, 1, 1))


@pytest.mark.slow
def test_it_goes_on_from_a_checkpoint(tmp_path: Path, data: TrainingData, trained: Path) -> None:
    options = toy_options(tmp_path / "a", steps=1, learning_rate=1e-9)
    written = train_detector(dataclasses.replace(TASK, start=trained, width_multiple=None), data, options)
    (before, start), (after, layers) = read_detector(trained), read_detector(written)
    assert (after.names, after.width_multiple) == (before.names, 0.1)
    assert torch.allclose(
        layers[3].module.state_dict()["conv.weight"], start[3].module.state_dict()["conv.weight"], atol=1e-5
    )
    fingerprint = load_detector(trained, device="cpu").fingerprint.hex()
    assert after.training["start"] == {"fingerprint": fingerprint, **before.training}
    assert not any("start" in name for name in before.training)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width_multiple": 0.2}, "has the width multiple 0.1, not 0.2; leave out this setting, or `start`"),
        ({"depth_multiple": 1.0}, "has the depth multiple 0.33, not 1.0"),
        ({"names": ("cat", "newt", "dog")}, "has the classes"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(
    tmp_path: Path, data: TrainingData, trained: Path, change: dict[str, Any], message: str
) -> None:
    task = dataclasses.replace(TASK, start=trained, **change)
    with pytest.raises(InputError, match=message):
        train_detector(task, data, toy_options(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_other_checkpoints_are_no_start(tmp_path: Path, data: TrainingData, tiny_yolov5: Path, trained: Path) -> None:
    for start in (tiny_yolov5, trained.parent / "state.safetensors", tmp_path / "absent.safetensors"):
        with pytest.raises(WeightsError, match=str(start)):
            train_detector(dataclasses.replace(TASK, start=start), data, toy_options(tmp_path / "out"))


def test_photographs_without_labels_are_refused(tmp_path: Path, toy_set: Path) -> None:
    with pytest.raises(InputError, match="labelled images only"):
        train_detector(TASK, toy_data(toy_set, labelled=False), toy_options(tmp_path / "out"))


@pytest.mark.parametrize("change", [{"depth_multiple": 0.0}, {"width_multiple": 100.0}, {"names": ()}], ids=str)
def test_sizes_that_are_none_are_refused(tmp_path: Path, data: TrainingData, change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        train_detector(dataclasses.replace(TASK, **change), data, toy_options(tmp_path / "out"))


@pytest.mark.slow
def test_other_sizes_are_no_resumption(tmp_path: Path, data: TrainingData, trained: Path) -> None:
    for change, key in (({"width_multiple": 0.2}, "multiples"), ({"names": ("cat", "newt", "dog")}, "classes")):
        options = toy_options(trained.parent, resume=True)
        with pytest.raises(InputError, match=f"was made with {key} "):
            train_detector(dataclasses.replace(TASK, **change), data, options)


def test_a_run_that_diverges_keeps_its_checkpoint(tmp_path: Path, data: TrainingData) -> None:
    with pytest.raises((TrainingError, WeightsError), match="lower learning rate"):
        train_detector(TASK, data, toy_options(tmp_path, learning_rate=1e30, save_every=1, evaluate_every=100, steps=8))


@pytest.mark.slow
def test_images_without_boxes_will_do(tmp_path: Path, data: TrainingData) -> None:
    empty = [dataclasses.replace(image, boxes=image.boxes[:0], classes=image.classes[:0]) for image in data.images]
    train_detector(TASK, dataclasses.replace(data, images=empty), toy_options(tmp_path))
    assert all(row["box"] == 0 and row["objectness"] > 0 for row in rows(tmp_path / "log.csv"))


@pytest.mark.slow
def test_a_bottleneck_trains_behind_it(tmp_path: Path, data: TrainingData, trained: Path) -> None:
    written = train_bottleneck(BottleneckTask(trained), data, toy_options(tmp_path, steps=2))
    config = load_bottleneck(written).config
    detector = load_detector(trained, device="cpu")
    assert config.detector_fingerprint == detector.fingerprint.hex()
    assert config.feature_channels == detector.feature_shapes(64, 64)[0][0] == 32
    assert [row["loss"] > 0 for row in rows(tmp_path / "log.csv")] == [True, True]


# ultralytics' architectures


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11n", "yolo26n", "yolov10n"])
def test_an_architecture_is_trained_resumed_and_started_from(tmp_path: Path, data: TrainingData, name: str) -> None:
    task = DetectorTask(tuple(NAMES), architecture=name)
    often = {"steps": 4, "save_every": 2}
    written = train_detector(task, data, toy_options(tmp_path / "whole", **often))
    detector = load_detector(written, device="cpu")
    assert detector.names == tuple(NAMES)
    assert detector.task.needs_nms
    table = rows(tmp_path / "whole" / "log.csv")
    assert all(row["loss"] == pytest.approx(row["box"] + row["classification"], rel=1e-3) for row in table)
    assert all(row["objectness"] == 0 for row in table)

    with pytest.raises(StoppedError):
        train_detector(task, data, toy_options(tmp_path / "resumed", **often, report=stop_at(3)))
    train_detector(task, data, toy_options(tmp_path / "resumed", **often, resume=True))
    assert results(tmp_path / "resumed") == results(tmp_path / "whole")
    other = dataclasses.replace(task, architecture="yolov8n")
    with pytest.raises(InputError, match="was made with architecture"):
        train_detector(other, data, toy_options(tmp_path / "resumed", **often, resume=True))

    start = dataclasses.replace(task, start=written)
    again = train_detector(start, data, toy_options(tmp_path / "again", steps=1, learning_rate=1e-9))
    before, after = read_detector(written)[1], read_detector(again)[1]
    kept = [layers[3].module.state_dict()["conv.weight"] for layers in (before, after)]
    assert torch.allclose(*kept, atol=1e-5)
    for change, message in (
        ({"architecture": "yolov8n"}, "is not a yolov8n"),
        ({"names": ("cat", "newt", "dog")}, "has the classes"),
        ({"architecture": None, "width_multiple": 0.5}, "has its own width"),
    ):
        with pytest.raises(InputError, match=message):
            train_detector(dataclasses.replace(start, **change), data, toy_options(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_start_with_masks_is_refused(tmp_path: Path, data: TrainingData) -> None:
    """Its masks would stay as they are, while the layers below them change."""
    config = FamilyConfig(tuple(NAMES), configuration_of("yolo11n-seg").with_classes(len(NAMES)).mapping())
    start = tmp_path / "seg.safetensors"
    save_detector(start, config, nn.ModuleList(layer.module for layer in build_detector(config)))
    with pytest.raises(InputError, match="a detector with masks is not trained here"):
        train_detector(DetectorTask(tuple(NAMES), start=start), data, toy_options(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "yolo11q"}, "there is no architecture 'yolo11q'"),
        ({"architecture": "../yolo11n"}, "there is no architecture"),
        ({"architecture": "yolo11n-obb"}, "cannot be split"),
        ({"architecture": "yolo11n", "width_multiple": 0.5}, "has its own sizes"),
        ({"architecture": "yolo11n-seg"}, "a detector with masks is not trained here"),
        ({"architecture": "yolo26n-pose"}, "a detector with keypoints is not trained here"),
    ],
)
def test_architectures_that_are_none_are_refused(
    tmp_path: Path, data: TrainingData, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train_detector(DetectorTask(tuple(NAMES), **change), data, toy_options(tmp_path / "out"))
