"""Training a restoration at toy size, with VVC in it: it learns, changes nothing else, and resumes bit for bit."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import texture
from torch import Tensor
from toy_training import StoppedError, results, rows, steps_done, stop_at, toy_bottleneck, toy_data, toy_options

import featcodec.training.restoration as stage
from featcodec import FeatureCodec
from featcodec.detectors import SplitDetector, load_detector
from featcodec.errors import InputError, TrainingError, WeightsError
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.networks.restoration import load_restoration
from featcodec.packing.quantize import LATENT_CLIP, UniformQuantizer
from featcodec.split_model import SplitModel
from featcodec.training import coded_batches
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.objective import ObjectiveWeights
from featcodec.training.real_coding import (
    GROUPS,
    QpRange,
    code_groups,
    one_ahead,
    real_coder,
    simulated_coder,
)
from featcodec.training.restoration import RestorationTask, train_restoration
from featcodec.training.setup import TrainingData
from featcodec.video import EncoderSettings, choose_profile, open_video_codec

QPS = QpRange(38, 46)
LATENT = UniformQuantizer(*LATENT_CLIP)


@pytest.fixture(scope="module")
def detector(tiny_yolov5: Path) -> SplitDetector:
    return load_detector(tiny_yolov5, device="cpu", half=False)


@pytest.fixture(scope="module")
def bottleneck(tmp_path_factory: pytest.TempPathFactory, detector: SplitDetector) -> Path:
    """An untrained one."""
    return toy_bottleneck(tmp_path_factory.mktemp("toy") / "bottleneck.safetensors", detector)


@pytest.fixture(scope="module")
def data(toy_set: Path) -> TrainingData:
    """Without labels: none are needed."""
    return toy_data(toy_set, labelled=False)


def task_of(detector: Path, bottleneck: Path | str = "none", **changes: Any) -> RestorationTask:
    return RestorationTask(detector, bottleneck, **{"hidden_channels": 8, "qps": QPS, **changes})


def unlike(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


# Coding


@pytest.mark.slow
def test_real_coding_is_the_codecs(tiny_yolov5: Path) -> None:
    """Each tensor as from its own bitstream, at the QP of its group."""
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=None, image_size=64)
    batch = [codec.letterbox(texture(64, 64, seed=number)) for number in range(3)]
    decoded, qp = code_groups(real_coder(codec.packing, codec.video_codec), codec.tensors_of(batch), [30, 41])
    assert qp.tolist() == [30, 30, 41]
    for index, image in enumerate(batch):
        ((side_info, frame),) = codec.front_end([image], int(qp[index]))
        (stream,) = codec.video_codec.encode([frame], side_info.qp)
        expected = codec.decoded_tensors([(side_info, codec.video_codec.decode(stream, side_info.frame_shape))])
        assert torch.equal(decoded[index], expected[0])


def test_a_batch_of_one_is_one_group() -> None:
    tensors = torch.rand(1, 4, 8, 8)
    decoded, qp = code_groups(simulated_coder(LATENT), tensors, [30, 41])
    assert qp.tolist() == [30]
    assert decoded.shape == tensors.shape


def test_simulated_coding_needs_no_random_numbers() -> None:
    """It runs in a thread beside the training, whose random numbers are its own."""
    tensors = torch.rand(2, 4, 8, 8)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(simulated_coder(LATENT)(tensors, 40))
    assert torch.equal(*found)
    assert not torch.equal(found[0], tensors)


def test_qps_are_drawn_from_all_of_the_range_as_functions_of_seed_step_and_rank() -> None:
    drawn = [qp for step in range(200) for qp in QPS.drawn(0, step)]
    assert set(drawn) == set(range(38, 47))
    assert QPS.drawn(0, 7) == QPS.drawn(0, 7)
    for other in (QPS.drawn(1, 7), QPS.drawn(0, 8), QPS.drawn(0, 7, rank=1)):
        assert len(other) == GROUPS
    assert len({tuple(QPS.drawn(*at)) for at in ((0, 7, 0), (1, 7, 0), (0, 8, 0), (0, 7, 1))}) > 2
    assert QPS.spread(5) == [38, 40, 42, 44, 46]
    assert QpRange(40, 40).drawn(0, 0) == QpRange(40, 40).spread(2) == [40, 40]


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (40, 39, r"QP range \[40, 39\] is empty"),
        (-1, 30, "QP -1 is not a whole number from 0 to 63"),
        (40, 64, "QP 64 is not a whole number from 0 to 63"),
    ],
)
def test_qp_ranges_that_are_none_are_refused(low: int, high: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        QpRange(low, high)


def test_one_result_is_computed_ahead_and_errors_come_through() -> None:
    asked = []

    def items() -> Any:
        for number in range(4):
            asked.append(number)
            yield number

    results_ahead = one_ahead(lambda number: 1 / (2 - number), items())
    assert next(results_ahead) == 0.5
    assert asked == [0, 1]
    assert next(results_ahead) == 1
    with pytest.raises(ZeroDivisionError):
        next(results_ahead)


# The stage


@pytest.mark.slow
@pytest.mark.parametrize("latent", [True, False])
@pytest.mark.parametrize("simulated", [True, False])
def test_it_learns_to_undo_coding_noise(
    tmp_path: Path,
    tiny_yolov5: Path,
    detector: SplitDetector,
    bottleneck: Path,
    data: TrainingData,
    latent: bool,
    simulated: bool,
) -> None:
    weights = ObjectiveWeights(detection=0, features=1)
    task = task_of(tiny_yolov5, "none" if latent else bottleneck, weights=weights, simulated=simulated)
    before = bottleneck.read_bytes()
    written = train_restoration(task, data, toy_options(tmp_path, steps=20, evaluate_every=5, learning_rate=1e-2))
    held_out = rows(tmp_path / "held-out.csv")
    without = {row["held-out loss unrestored"] for row in held_out}
    assert len(without) == 1, "what it is compared with never changes"
    assert held_out[-1]["held-out loss"] < 0.97 * without.pop()
    restoration = load_restoration(written)
    config = restoration.config
    assert (config.channels, config.hidden_channels, config.blocks, config.split) == (16 if latent else 4, 8, 1, 4)
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=None if latent else bottleneck, restoration=written)
    assert config.stream_fingerprint == codec.fingerprint.hex()
    assert config.training["stage"] == "restoration"
    assert config.training["simulated"] is simulated
    assert config.training["metrics"]["loss"] == pytest.approx(held_out[-1]["held-out loss"], rel=1e-5)
    assert bottleneck.read_bytes() == before


@pytest.mark.slow
def test_nothing_else_changes(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[torch.nn.Module] = []
    original = stage.frozen_model

    def load(*arguments: Any) -> SplitModel:
        model = original(*arguments)
        assert model.bottleneck is not None
        networks.extend((model.detector, model.bottleneck))
        networks.extend(copy.deepcopy(networks))
        return model

    monkeypatch.setattr(stage, "frozen_model", load)
    train_restoration(task_of(tiny_yolov5, bottleneck), data, toy_options(tmp_path, learning_rate=0.1))
    for after, before in zip(networks[:2], networks[2:], strict=True):
        assert unlike(before.state_dict(), after.state_dict()) == set()
        assert not any(part.training for part in after.modules())
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in after.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("simulated", [True, False])
def test_it_resumes_bit_for_bit(tmp_path: Path, tiny_yolov5: Path, data: TrainingData, simulated: bool) -> None:
    """Stopped in step 5, with its last checkpoint after step 3 and the sixth batch already on its way."""
    task = task_of(tiny_yolov5, simulated=simulated)

    def options(name: str, **changes: Any) -> LoopOptions:
        return toy_options(tmp_path / name, **{"steps": 6, "save_every": 3, "evaluate_every": 4, **changes})

    train_restoration(task, data, options("whole"))
    with pytest.raises(StoppedError):
        train_restoration(task, data, options("cut", report=stop_at(5)))
    assert steps_done(tmp_path / "cut") == 3
    train_restoration(task, data, options("cut", resume=True))
    whole, cut = results(tmp_path / "whole"), results(tmp_path / "cut")
    assert set(whole) == {
        *("best-restoration.safetensors", "last-restoration.safetensors", "state.safetensors"),
        *("log.csv", "held-out.csv"),
    }
    assert whole == cut


@pytest.mark.slow
def test_checkpoints_hold_no_paths(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, data: TrainingData, toy_set: Path
) -> None:
    train_restoration(task_of(tiny_yolov5, bottleneck, simulated=True), data, toy_options(tmp_path, steps=2))
    for path in tmp_path.glob("*.safetensors"):
        for folder in (tmp_path, tiny_yolov5.parent, bottleneck.parent, toy_set):
            assert str(folder).encode() not in path.read_bytes(), path.name


@pytest.mark.slow
def test_the_encoders_settings_count(
    tmp_path: Path, tiny_yolov5: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = []

    def spy(name: str, given: EncoderSettings) -> Any:
        settings.append(given)
        return open_video_codec(name, given)

    monkeypatch.setattr(coded_batches, "open_tried_video_codec", spy)
    profile = choose_profile(preset="fast", parameters={"ISP": "3"})
    written = train_restoration(task_of(tiny_yolov5, profile=profile), data, toy_options(tmp_path, steps=1))
    assert settings == [EncoderSettings("fast", {"ISP": "3"})]
    assert load_restoration(written).config.training["encoder"] == {"preset": "fast", "parameters": {"ISP": "3"}}


@pytest.mark.slow
def test_it_goes_on_from_another_of_the_same_shape(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, detector: SplitDetector, data: TrainingData
) -> None:
    first = train_restoration(
        task_of(tiny_yolov5, bottleneck, simulated=True, blocks=2), data, toy_options(tmp_path / "a")
    )
    other = toy_bottleneck(tmp_path / "other.safetensors", detector, seed=1)
    task = task_of(tiny_yolov5, other, start=first, hidden_channels=None)
    second = load_restoration(train_restoration(task, data, toy_options(tmp_path / "b", steps=1, learning_rate=1e-9)))
    start = load_restoration(first)
    for name, tensor in start.state_dict().items():
        assert torch.allclose(second.state_dict()[name], tensor, atol=1e-7)
    assert second.config.stream_fingerprint != start.config.stream_fingerprint
    assert (second.config.hidden_channels, second.config.blocks) == (8, 2)
    assert second.config.training["start"] == {"fingerprint": start.fingerprint().hex(), **start.config.training}
    for changes, message in (({"blocks": 1}, "has 2 blocks, not 1"), ({"hidden_channels": 9}, "has 8 hidden channels")):
        wrong = dataclasses.replace(task, **changes)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message):
            train_restoration(wrong, data, toy_options(tmp_path / "c"))
    with pytest.raises(WeightsError, match="made for 4 channels behind layer 4, not 16 behind 4"):
        train_restoration(task_of(tiny_yolov5, start=first), data, toy_options(tmp_path / "c"))
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_what_cannot_be_is_refused(
    tmp_path: Path, tiny_yolov5: Path, tiny_yolov5u: Path, bottleneck: Path, data: TrainingData
) -> None:
    with pytest.raises(WeightsError, match="trained behind the detector"):
        train_restoration(task_of(tiny_yolov5u, bottleneck), data, toy_options(tmp_path / "a"))
    with pytest.raises(InputError, match="all weights are 0"):
        task_of(tiny_yolov5, weights=ObjectiveWeights(detection=0))
    for weights in (ObjectiveWeights(features=1), ObjectiveWeights(detection=0, features=1, rate=1)):
        with pytest.raises(InputError, match="give no other weight"):
            task_of(tiny_yolov5, weights=weights)
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_divergence_is_one_line(tmp_path: Path, tiny_yolov5: Path, data: TrainingData) -> None:
    with pytest.raises(TrainingError, match="the loss of the restoration is not finite"):
        train_restoration(
            task_of(tiny_yolov5, simulated=True), data, toy_options(tmp_path, steps=20, learning_rate=1e30)
        )


@pytest.mark.slow
def test_the_anchor_free_detector_and_other_splits_too(
    tmp_path: Path, tiny_yolov5: Path, tiny_yolov5u: Path, data: TrainingData
) -> None:
    written = train_restoration(task_of(tiny_yolov5u, simulated=True), data, toy_options(tmp_path / "u", steps=2))
    assert load_restoration(written).config.channels == 64
    from featcodec.training.bottleneck import BottleneckTask, train_bottleneck

    early = BottleneckTask(tiny_yolov5, split=2, weights=ObjectiveWeights(detection=0, features=1))
    path = train_bottleneck(early, data, toy_options(tmp_path / "early", steps=1))
    written = train_restoration(task_of(tiny_yolov5, path, simulated=True), data, toy_options(tmp_path / "2", steps=1))
    assert load_restoration(written).config.split == load_bottleneck(path).config.split == 2
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=path, restoration=written, image_size=64)
    assert len(codec.decode(codec.encode(np.asarray(texture(64, 64)), 40)))
