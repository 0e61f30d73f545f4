"""Every stage where several levels cross: it learns and leaves what later stages read; what has no levels refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_training import StoppedError, results, rows, stop_at, toy_data, toy_options

from featcodec.detectors import load_detector
from featcodec.errors import InputError
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.networks.features import levels_of
from featcodec.privacy.attackers import load_attacker
from featcodec.privacy.recnet import RecNet
from featcodec.privacy.strong_recnet import StrongRecNet
from featcodec.split_model import SplitModel
from featcodec.training.adversarial import AdversarialTask, train_adversarial
from featcodec.training.attack import train_attack
from featcodec.training.bottleneck import BottleneckTask, train_bottleneck
from featcodec.training.decoder import DecoderTask, train_decoder
from featcodec.training.direct_reader import DirectReaderTask, PlateWindowData, train_direct_reader
from featcodec.training.layout import LayoutTask, find_layout
from featcodec.training.loop import Loop
from featcodec.training.losses.objective import CodingPath, Objective, ObjectiveWeights
from featcodec.training.partners import StrongPartners
from featcodec.training.recnet import StrongAttack, new_recnet, new_strong_recnet
from featcodec.training.restoration import RestorationTask, train_restoration
from featcodec.training.setup import TrainingData, as_pictures, held_out_batches
from featcodec.training.simulated_coding import SimulatedCoding

DEEP = 9
"""Behind SPPF, the outputs of layers 4, 6 and 9 cross."""
EVERYTHING = ObjectiveWeights(detection=1, features=0.3, neck=1, predictions=0.3, rate=0.3)
SIMULATION = SimulatedCoding(-3, 3, 30, 40)
STRONG = StrongAttack(hidden_channels=8, blocks=1)


@pytest.fixture
def data(toy_set: Path) -> TrainingData:
    return toy_data(toy_set)


@pytest.fixture
def bottleneck(tmp_path: Path, tiny_yolov5: Path, data: TrainingData) -> Path:
    """The result of stage 1."""
    task = BottleneckTask(tiny_yolov5, split=DEEP, channels=4, weights=EVERYTHING, simulation=SIMULATION)
    return train_bottleneck(task, data, toy_options(tmp_path / "stage-1"))


def test_stage_1_fuses_the_levels(bottleneck: Path) -> None:
    config = load_bottleneck(bottleneck).config
    assert (config.level_scales, config.fusion_scale, config.split) == ((0, 1, 2), 1, DEEP)
    assert (config.channels, config.hidden_channels) == (4, 6)
    assert config.feature_channels == sum(config.level_channels)
    held_out = rows(bottleneck.parent / "held-out.csv")[-1]
    for term in ("features", "neck", "predictions", "rate", "detection"):
        assert held_out[f"held-out {term}"] > 0
    assert "fusion_scale" not in config.training


def test_stage_1_goes_on_and_refuses_other_scales(
    tmp_path: Path, tiny_yolov5: Path, data: TrainingData, bottleneck: Path
) -> None:
    again = BottleneckTask(tiny_yolov5, split=DEEP, start=bottleneck, fusion_scale=1)
    assert load_bottleneck(train_bottleneck(again, data, toy_options(tmp_path / "b"))).config.fusion_scale == 1
    other = BottleneckTask(tiny_yolov5, split=DEEP, start=bottleneck, fusion_scale=2)
    with pytest.raises(InputError, match="has fusion scale 1, not 2"):
        train_bottleneck(other, data, toy_options(tmp_path / "c"))
    for scale in (3, -1):
        with pytest.raises(InputError, match=r"is not within 0\.\.2"):
            train_bottleneck(BottleneckTask(tiny_yolov5, DEEP, fusion_scale=scale), data, toy_options(tmp_path / "d"))


def test_every_level_has_a_gradient_from_every_term(tiny_yolov5: Path, data: TrainingData, bottleneck: Path) -> None:
    detector = load_detector(tiny_yolov5, split=DEEP, device="cpu", half=False)
    objective, learned = Objective(detector), load_bottleneck(bottleneck)
    (batch,) = held_out_batches(Loop(toy_options(Path("/nonexistent")), {}), data)
    features = detector.front(as_pictures(batch))
    _, restored, rate = CodingPath(learned, None)(features)
    for weights in (ObjectiveWeights(0, features=1), ObjectiveWeights(0, neck=1), ObjectiveWeights(1)):
        levels = [level.detach().requires_grad_() for level in levels_of(restored)]
        objective(weights, batch, features, tuple(levels), rate)["loss"].backward()
        assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in levels)


@pytest.mark.slow
def test_it_resumes_bit_for_bit(tmp_path: Path, tiny_yolov5: Path, data: TrainingData) -> None:
    task = BottleneckTask(tiny_yolov5, split=DEEP, weights=EVERYTHING, simulation=SIMULATION)
    train_bottleneck(task, data, toy_options(tmp_path / "whole"))
    with pytest.raises(StoppedError):
        train_bottleneck(task, data, toy_options(tmp_path / "cut", report=stop_at(3)))
    train_bottleneck(task, data, toy_options(tmp_path / "cut", resume=True))
    assert results(tmp_path / "whole") == results(tmp_path / "cut")


def test_stages_behind_the_first(tmp_path: Path, tiny_yolov5: Path, data: TrainingData, bottleneck: Path) -> None:
    """Adversarial training by either kind of attacker, and a larger AD."""
    options = {"weights": EVERYTHING, "simulation": SIMULATION, "privacy_share": 0.5}
    partners = StrongPartners(count=1, hidden_channels=8, blocks=1)
    edges = {load_bottleneck(bottleneck).edge_fingerprint()}
    for number, against in enumerate((None, partners)):
        task = AdversarialTask(tiny_yolov5, bottleneck, None, partners=against, **options)
        learned, recnet = train_adversarial(task, data, toy_options(tmp_path / f"{number}"))
        network = load_attacker(recnet)
        assert isinstance(network, RecNet if against is None else StrongRecNet)
        assert (network.config.split, network.config.pixels_per_sample) == (DEEP, 16)
        edges.add(load_bottleneck(learned).edge_fingerprint())
    assert len(edges) == 3
    decoder = DecoderTask(tiny_yolov5, bottleneck, layout="none", blocks=2, simulated=True)
    larger = load_bottleneck(train_decoder(decoder, data, toy_options(tmp_path / "decoder")))
    assert (larger.config.decoder_blocks, larger.config.level_scales) == (2, (0, 1, 2))
    assert larger.edge_fingerprint() == load_bottleneck(bottleneck).edge_fingerprint()


@pytest.mark.parametrize("strong", [None, STRONG], ids=["paper", "strong"])
@pytest.mark.parametrize("latent", [True, False], ids=["latent", "bottleneck"])
def test_attacks(
    tmp_path: Path,
    tiny_yolov5: Path,
    data: TrainingData,
    request: pytest.FixtureRequest,
    strong: StrongAttack | None,
    latent: bool,
) -> None:
    attacked = None if latent else request.getfixturevalue("bottleneck")
    path = train_attack(tiny_yolov5, attacked, data, toy_options(tmp_path), strong, split=DEEP)
    network = load_attacker(path)
    assert [level.scale for level in network.config.inputs] == ([0, 1, 2] if latent else [0])
    assert network.config.pixels_per_sample == (8 if latent else 16)
    train_attack(tiny_yolov5, attacked, data, toy_options(tmp_path / "on"), strong, start=path, split=DEEP)


def test_a_restoration_and_a_layout_of_the_fused_tensor(
    tmp_path: Path, tiny_yolov5: Path, data: TrainingData, bottleneck: Path
) -> None:
    task = RestorationTask(tiny_yolov5, bottleneck, layout="none", simulated=True)
    train_restoration(task, data, toy_options(tmp_path))
    assert rows(tmp_path / "log.csv")[-1]["features"] > 0
    pictures = [image.path for image in data.images]
    layout = find_layout(LayoutTask(tiny_yolov5, bottleneck, image_size=64), pictures, tmp_path / "l.safetensors")
    assert len(layout.order) == 4


def test_latent_coding_of_several_tensors_has_none_of_these(
    tmp_path: Path, tiny_yolov5: Path, data: TrainingData
) -> None:
    pictures = [image.path for image in data.images]
    stages: dict[str, Callable[[], object]] = {
        "restoration": lambda: train_restoration(
            RestorationTask(tiny_yolov5, "none", simulated=True, split=DEEP), data, toy_options(tmp_path)
        ),
        "layout": lambda: find_layout(
            LayoutTask(tiny_yolov5, "none", split=DEEP), pictures, tmp_path / "l.safetensors"
        ),
        "direct reader": lambda: train_direct_reader(
            DirectReaderTask(tiny_yolov5, None, split=DEEP),
            PlateWindowData(None, None),
            toy_options(tmp_path),  # type: ignore[arg-type]
        ),
    }
    for name, run in stages.items():
        with pytest.raises(InputError) as refusal:
            run()
        assert str(refusal.value) == (
            f"a {name} is for one tensor, but 3 cross behind layer 9; give a `bottleneck`, which fuses them"
        )


def test_attackers_look_at_every_level(tiny_yolov5: Path) -> None:
    model = SplitModel(load_detector(tiny_yolov5, split=DEEP, device="cpu", half=False))
    pictures = torch.rand(2, 3, 64, 96)
    for network in (new_recnet(model), new_strong_recnet(model, 8, 1)):
        levels = [level.requires_grad_() for level in levels_of(model.detector.front(pictures))]
        found = network.train()(tuple(levels))
        assert found.shape == pictures.shape
        found.square().mean().backward()
        assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in levels)
