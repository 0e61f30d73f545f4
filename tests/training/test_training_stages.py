"""The four stages at toy size: they learn, change what they should and nothing else, and resume bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import save_texture
from torch import Tensor, nn
from toy_training import (
    StoppedError,
    results,
    rows,
    steps_done,
    stop_at,
    toy_bottleneck,
    toy_data,
    toy_options,
)

import featcodec.split_model
import featcodec.training.adversarial as adversarial_stage
import featcodec.training.bottleneck as bottleneck_stage
import featcodec.training.partners as partners_module
import featcodec.training.recnet as recnet_stage
from featcodec.detectors import SplitDetector, load_detector
from featcodec.errors import InputError, TrainingError, WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.images.letterbox import Letterbox
from featcodec.images.reading import read_image
from featcodec.networks.bottleneck import Bottleneck, load_bottleneck
from featcodec.privacy.attackers import load_attacker
from featcodec.privacy.recnet import RecNet, RecNetConfig, load_recnet
from featcodec.split_model import SplitModel
from featcodec.training.adversarial import AdversarialTask, train_adversarial
from featcodec.training.attack import train_attack
from featcodec.training.bottleneck import BottleneckTask, train_bottleneck
from featcodec.training.data.samples import Augmentation
from featcodec.training.decoder import DecoderTask, train_decoder
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.objective import CodingPath, Objective, ObjectiveWeights
from featcodec.training.losses.privacy import PrivacyTerm
from featcodec.training.losses.reconstruction import reconstruction_loss
from featcodec.training.partners import StrongPartners, fixed
from featcodec.training.recnet import RecNetTask, StrongAttack, train_recnet
from featcodec.training.setup import TrainingData, as_pictures, held_out_batches
from featcodec.training.simulated_coding import SimulatedCoding

EVERYTHING = ObjectiveWeights(detection=1, features=0.3, neck=1, predictions=0.3, rate=0.3)
SIMULATION = SimulatedCoding(-3, 3, 30, 40)


@pytest.fixture(scope="module")
def detector(tiny_yolov5: Path) -> SplitDetector:
    return load_detector(tiny_yolov5, device="cpu", half=False)


@pytest.fixture(scope="module")
def bottleneck(tmp_path_factory: pytest.TempPathFactory, detector: SplitDetector) -> Path:
    """An untrained one."""
    return toy_bottleneck(tmp_path_factory.mktemp("toy") / "bottleneck.safetensors", detector)


@pytest.fixture(scope="module")
def data(toy_set: Path) -> TrainingData:
    return toy_data(toy_set)


Stage = Callable[[LoopOptions], object]


STRONG = StrongAttack(hidden_channels=8, blocks=1)


def against_strong(detector: Path, bottleneck: Path, **changes: Any) -> AdversarialTask:
    """Every option of the adversarial stage that is not in the paper."""
    partners = StrongPartners(count=2, hidden_channels=8, blocks=1, fresh_every=3, head_start=1)
    options = {"privacy_share": 0.5, "term": PrivacyTerm(blur=8), "partners": partners, **changes}
    return AdversarialTask(detector, bottleneck, None, weights=EVERYTHING, simulation=SIMULATION, **options)


@pytest.fixture(
    params=[
        *("bottleneck", "every term", "recnet", "adversarial", "against strong", "attack", "latent attack"),
        *("strong attack", "decoder"),
    ]
)
def stage(request: pytest.FixtureRequest, tiny_yolov5: Path, bottleneck: Path, data: TrainingData) -> Stage:
    """Every stage as a function of the loop's options."""
    every_term = BottleneckTask(tiny_yolov5, weights=EVERYTHING, simulation=SIMULATION)
    against = AdversarialTask(tiny_yolov5, bottleneck, None, weights=EVERYTHING, simulation=SIMULATION)
    stages: dict[str, Stage] = {
        "bottleneck": lambda options: train_bottleneck(BottleneckTask(tiny_yolov5), data, options),
        "every term": lambda options: train_bottleneck(every_term, data, options),
        "recnet": lambda options: train_recnet(RecNetTask(tiny_yolov5, bottleneck), data, options),
        "adversarial": lambda options: train_adversarial(against, data, options),
        "attack": lambda options: train_attack(tiny_yolov5, bottleneck, data, options),
        "latent attack": lambda options: train_attack(tiny_yolov5, None, data, options),
        "against strong": lambda options: train_adversarial(against_strong(tiny_yolov5, bottleneck), data, options),
        "strong attack": lambda options: train_attack(tiny_yolov5, bottleneck, data, options, STRONG),
        "decoder": lambda options: train_decoder(
            DecoderTask(tiny_yolov5, bottleneck, blocks=2, simulated=True), data, options
        ),
    }
    return stages[request.param]


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> list[tuple[SplitDetector, dict[str, Tensor]]]:
    """Detectors that stages load, with BatchNorm unfused, and what they held then."""
    loaded: list[tuple[SplitDetector, dict[str, Tensor]]] = []

    def load(*arguments: Any, **options: Any) -> SplitDetector:
        detector = load_detector(*arguments, **{**options, "fuse": False})
        loaded.append((detector, copy.deepcopy(detector.state_dict())))
        return detector

    for home in (featcodec.split_model, bottleneck_stage):
        monkeypatch.setattr(home, "load_detector", load)
    return loaded


def differences(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return bool(differences(one, other))


@pytest.mark.slow
def test_the_detector_never_changes(
    stage: Stage, tmp_path: Path, detectors: list[tuple[SplitDetector, dict[str, Tensor]]]
) -> None:
    stage(toy_options(tmp_path, learning_rate=0.1))
    ((detector, before),) = detectors
    assert any(isinstance(part, nn.BatchNorm2d) for part in detector.modules())
    assert any("running_mean" in name for name in before)
    assert differences(before, detector.state_dict()) == set()
    assert not any(part.training for part in detector.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in detector.parameters())


@pytest.mark.slow
def test_a_detector_as_stages_load_it_never_changes(
    tmp_path: Path, bottleneck: Path, data: TrainingData, tiny_yolov5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    original = adversarial_stage.frozen_model

    def load(*arguments: Any) -> SplitModel:
        model = original(*arguments)
        loaded.extend((model.detector, copy.deepcopy(model.detector)))
        return model

    monkeypatch.setattr(adversarial_stage, "frozen_model", load)
    train_adversarial(AdversarialTask(tiny_yolov5, bottleneck, None), data, toy_options(tmp_path))
    assert loaded[0].dtype == torch.float32
    assert differences(loaded[1].state_dict(), loaded[0].state_dict()) == set()


@pytest.mark.slow
def test_every_stage_leaves_the_same_things(stage: Stage, tmp_path: Path, tiny_yolov5: Path, toy_set: Path) -> None:
    """Checkpoints that say how they came to be, but not where."""
    written = stage(toy_options(tmp_path, evaluate_every=1))
    checkpoints = [written] if isinstance(written, Path) else list(written)  # type: ignore[call-overload]
    kinds = {path.name.removeprefix("last-") for path in checkpoints}
    expected = {f"{which}-{kind}" for which in ("best", "last") for kind in kinds}
    assert set(results(tmp_path)) == expected | {"state.safetensors", "log.csv", "held-out.csv"}
    held_out = [row["held-out loss"] for row in rows(tmp_path / "held-out.csv")]
    for name in expected:
        path = tmp_path / name
        network = load_bottleneck(path) if "bottleneck" in name else load_attacker(path)
        training = network.config.training
        assert (training["steps"], training["data"]["images"], training["data"]["held_out"]) == (4, 3, 2)
        loss = min(held_out) if name.startswith("best") else held_out[-1]
        assert training["metrics"]["loss"] == pytest.approx(loss, rel=1e-5)
        assert network.config.training["detector"] == "tiny_yolov5.pt"
    for path in tmp_path.glob("*.safetensors"):
        for folder in (tmp_path, tiny_yolov5.parent, toy_set):
            assert str(folder).encode() not in path.read_bytes(), path.name
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_every_stage_resumes_bit_for_bit(stage: Stage, tmp_path: Path) -> None:
    """Stopped in step 7, with its last checkpoint after step 4."""
    often = {"steps": 8, "save_every": 4, "evaluate_every": 3}
    stage(toy_options(tmp_path / "whole", **often))
    with pytest.raises(StoppedError):
        stage(toy_options(tmp_path / "cut", **often, report=stop_at(7)))
    assert steps_done(tmp_path / "cut") == 4
    assert len(rows(tmp_path / "cut/log.csv")) == 7
    stage(toy_options(tmp_path / "cut", **often, resume=True))
    whole, cut = results(tmp_path / "whole"), results(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert [name for name in whole if whole[name] != cut[name]] == []


@pytest.mark.slow
def test_everything_depends_on_the_seed(tmp_path: Path, tiny_yolov5: Path, data: TrainingData) -> None:
    outputs = []
    for number, seed in enumerate((1, 1, 2)):
        train_attack(tiny_yolov5, None, data, toy_options(tmp_path / f"{number}", seed=seed))
        outputs.append(results(tmp_path / f"{number}"))
    assert outputs[0] == outputs[1]
    assert outputs[0]["log.csv"] != outputs[2]["log.csv"]


# Stage 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny_yolov5", "tiny_yolov5u"])
def test_stage_1_lowers_l_obj(request: pytest.FixtureRequest, tmp_path: Path, data: TrainingData, name: str) -> None:
    """On a batch that is always the same."""
    path = request.getfixturevalue(name)
    still = Augmentation(64, mosaic=0, hsv_h=0, hsv_s=0, hsv_v=0, scale=0, translate=0, fliplr=0)
    same = dataclasses.replace(data, images=data.held_out, augmentation=still)
    written = train_bottleneck(BottleneckTask(path), same, toy_options(tmp_path, steps=15, evaluate_every=5))
    losses = [row["loss"] for row in rows(tmp_path / "log.csv")]
    assert losses[-1] < 0.99 * losses[0]
    bottleneck = load_bottleneck(written)
    detector = load_detector(path, device="cpu", half=False)
    assert bottleneck.config.detector_fingerprint == detector.fingerprint.hex()
    features = detector.feature_shapes(64, 64)[0][0]
    sizes = (bottleneck.config.hidden_channels, bottleneck.config.channels)
    assert sizes == (round(features * 2 / 3), round(features / 3))
    assert bottleneck.config.training["stage"] == "bottleneck"
    held_out = rows(tmp_path / "held-out.csv")[-1]["held-out loss"]
    assert held_out == pytest.approx(l_obj(data, detector, bottleneck), rel=1e-5)


def l_obj(data: TrainingData, detector: SplitDetector, bottleneck: Bottleneck) -> float:
    """On the held-out images, in one batch."""
    objective = Objective(detector)
    with torch.no_grad():
        (batch,) = held_out_batches(toy_loop(), data)
        features = detector.front(as_pictures(batch))
        _, restored, rate = CodingPath(bottleneck, None)(features)
        return float(objective(ObjectiveWeights(), batch, features, restored, rate)["loss"])


def toy_loop() -> Loop:
    return Loop(toy_options(Path("/nonexistent")), {})


@pytest.mark.slow
def test_stage_1_with_every_term_lowers_each(tmp_path: Path, tiny_yolov5: Path, data: TrainingData) -> None:
    task = BottleneckTask(
        tiny_yolov5, channels=3, hidden_channels=7, clip=(-2.0, 4.0), weights=EVERYTHING, simulation=SIMULATION
    )
    options = toy_options(tmp_path, steps=20, evaluate_every=1, learning_rate=1e-2)
    config = load_bottleneck(train_bottleneck(task, data, options)).config
    assert (config.channels, config.hidden_channels, config.clip_low, config.clip_high) == (3, 7, -2.0, 4.0)
    table = rows(tmp_path / "held-out.csv")
    weights = dataclasses.asdict(EVERYTHING)
    for row in table:
        total = sum(weight * row[f"held-out {name}"] for name, weight in weights.items())
        assert row["held-out loss"] == pytest.approx(total, rel=1e-4)
    for name in ("loss", "features", "neck", "predictions"):
        assert table[-1][f"held-out {name}"] < 0.9 * table[0][f"held-out {name}"]


@pytest.mark.slow
def test_distillation_needs_no_labels(tmp_path: Path, tiny_yolov5: Path, toy_set: Path) -> None:
    weights = ObjectiveWeights(detection=0, features=1, predictions=1)
    task = BottleneckTask(tiny_yolov5, weights=weights)
    options = toy_options(tmp_path, steps=15, evaluate_every=1, learning_rate=1e-2)
    train_bottleneck(task, toy_data(toy_set, labelled=False), options)
    losses = [row["held-out loss"] for row in rows(tmp_path / "held-out.csv")]
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.slow
def test_l_obj_passes_over_photographs_without_labels(tmp_path: Path, tiny_yolov5: Path, toy_set: Path) -> None:
    """With one image a batch most have no term at all; such a step has no gradient, but it is no failure."""
    labelled, unlabelled = toy_data(toy_set), toy_data(toy_set, labelled=False)
    mixed = dataclasses.replace(labelled, images=[*labelled.images[:1], *unlabelled.images])
    train_bottleneck(BottleneckTask(tiny_yolov5), mixed, toy_options(tmp_path, steps=6, batch_size=1))
    losses = [row["loss"] for row in rows(tmp_path / "log.csv")]
    assert losses.count(0) >= 3
    assert max(losses) > 0


@pytest.mark.slow
def test_features_whose_sides_are_no_multiples_of_8_can_be_coded(
    tmp_path: Path, tiny_yolov5: Path, data: TrainingData
) -> None:
    """As 416 pixels have them."""
    odd = dataclasses.replace(data, augmentation=dataclasses.replace(data.augmentation, image_size=96))
    task = BottleneckTask(tiny_yolov5, weights=EVERYTHING, simulation=SIMULATION)
    train_bottleneck(task, odd, toy_options(tmp_path, steps=2))


@pytest.mark.slow
@pytest.mark.parametrize("split", range(5))
def test_stage_1_behind_every_split(tmp_path: Path, tiny_yolov5: Path, data: TrainingData, split: int) -> None:
    task = BottleneckTask(tiny_yolov5, split=split, weights=EVERYTHING, simulation=SIMULATION)
    assert load_bottleneck(train_bottleneck(task, data, toy_options(tmp_path, steps=2))).config.split == split


@pytest.mark.slow
def test_stage_1_goes_on_from_a_checkpoint(
    tmp_path: Path, tiny_yolov5: Path, tiny_yolov5u: Path, bottleneck: Path, data: TrainingData
) -> None:
    options = toy_options(tmp_path / "a", steps=1, learning_rate=1e-9)
    task = BottleneckTask(tiny_yolov5, start=bottleneck, clip=(-6.0, 6.0))
    written = load_bottleneck(train_bottleneck(task, data, options))
    start = load_bottleneck(bottleneck)
    for name, tensor in start.state_dict().items():
        assert torch.allclose(written.state_dict()[name], tensor, atol=1e-7)
    assert (written.config.channels, written.config.clip_high) == (start.config.channels, 6.0)
    assert written.config.training["start"] == {"fingerprint": start.fingerprint().hex(), **start.config.training}
    unchanged = train_bottleneck(
        BottleneckTask(tiny_yolov5, start=bottleneck), data, toy_options(tmp_path / "c", steps=1)
    )
    assert load_bottleneck(unchanged).config.clip_high == start.config.clip_high
    with pytest.raises(InputError, match="leave out this setting"):
        train_bottleneck(BottleneckTask(tiny_yolov5, channels=2, start=bottleneck), data, toy_options(tmp_path / "d"))
    for other in (
        BottleneckTask(tiny_yolov5u, start=bottleneck),
        BottleneckTask(tiny_yolov5, split=2, start=bottleneck),
    ):
        with pytest.raises(WeightsError, match="trained behind"):
            train_bottleneck(other, data, toy_options(tmp_path / "b"))


@pytest.mark.slow
@pytest.mark.parametrize("clip", [(3.0, -3.0), (0.0, 0.0), (math.nan, 3.0), (-math.inf, 3.0)])
def test_clip_ranges_that_are_none_are_refused(
    tmp_path: Path, tiny_yolov5: Path, data: TrainingData, clip: tuple[float, float]
) -> None:
    with pytest.raises(InputError, match="clip range"):
        train_bottleneck(BottleneckTask(tiny_yolov5, clip=clip), data, toy_options(tmp_path))


# Stages 2 and 4


@pytest.mark.slow
@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("final", [False, True])
def test_the_attacker_learns(
    tmp_path: Path,
    tiny_yolov5: Path,
    bottleneck: Path,
    detector: SplitDetector,
    data: TrainingData,
    latent: bool,
    final: bool,
) -> None:
    """Stage 2 on L_rec, stage 4 on L1; the logged loss is that of the checkpoint; nothing else is trained."""
    before = bottleneck.read_bytes()
    target = None if latent else bottleneck
    options = toy_options(tmp_path, steps=30, evaluate_every=5, learning_rate=2e-2)
    if final:
        written = train_attack(tiny_yolov5, target, data, options)
    else:
        written = train_recnet(RecNetTask(tiny_yolov5, target), data, options)
    table, held_out = rows(tmp_path / "log.csv"), rows(tmp_path / "held-out.csv")
    assert sum(row["loss"] for row in table[-5:]) < 0.9 * sum(row["loss"] for row in table[:5])
    assert held_out[-1]["held-out PSNR"] > held_out[0]["held-out PSNR"]
    recnet = load_recnet(written)
    coding = load_bottleneck(bottleneck)
    sizes = (recnet.config.feature_channels, recnet.config.hidden_channels, recnet.config.channels)
    assert sizes == ((16, 0, 0) if latent else (16, 8, 4))
    assert recnet.config.repeats == (2, 1)
    named = joined_fingerprint(detector.fingerprint, None if latent else coding.fingerprint())
    assert recnet.config.model_fingerprint == named.hex()
    assert recnet.config.training["stage"] == ("attack" if final else "recnet")
    assert recnet.config.training["edge_weight"] == (0 if final else 5)
    pictures, features = held_out_features(data, detector)
    with torch.inference_mode():
        reconstruction = recnet(features if latent else coding.encode(features))
        loss = float(reconstruction_loss(reconstruction, pictures, 0 if final else 5))
        error = ((reconstruction.clamp(0, 1) - pictures) ** 2).mean((1, 2, 3))
    assert held_out[-1]["held-out loss"] == pytest.approx(loss, rel=1e-4)
    assert held_out[-1]["held-out PSNR"] == pytest.approx(float((-10 * error.log10()).mean()), rel=1e-4)
    assert bottleneck.read_bytes() == before


@pytest.mark.parametrize("gain", [-3.0, 0.2, 0.4, 8.0, None])
def test_an_attack_that_failed_says_so(
    tmp_path: Path, detector: SplitDetector, data: TrainingData, gain: float | None
) -> None:
    """Beside pictures of one colour, which have the variance of each original as their squared error."""
    pictures, _ = held_out_features(data, detector)
    floor = float((-10 * pictures.var((2, 3), correction=0).mean(1).log10()).mean())
    metrics = {} if gain is None else {"metrics": {"PSNR": floor + gain}}
    recnet = recnet_stage.new_strong_recnet(SplitModel(detector, None), 4, 1)
    recnet_stage.save_attacker(tmp_path / "recnet.safetensors", recnet, metrics)
    notes = recnet_stage.notes_on_attack(tmp_path / "recnet.safetensors", data)
    if gain is None or gain > 0.3:
        assert notes == []
    else:
        assert len(notes) == 1
        assert f"{floor + gain:.2f} dB is not clearly above the {floor:.2f} dB of pictures of one colour" in notes[0]
    blind = dataclasses.replace(data, held_out=())
    assert recnet_stage.notes_on_attack(tmp_path / "recnet.safetensors", blind) == []


def held_out_features(data: TrainingData, detector: SplitDetector) -> tuple[Tensor, Tensor]:
    """The held-out images square, by the codec's own letterbox."""
    images = []
    for image in data.held_out:
        pixels = read_image(image.path)
        letterbox = Letterbox.fit(pixels.shape[1], pixels.shape[0], data.augmentation.image_size, square=True)
        images.append(torch.from_numpy(letterbox.apply(pixels).copy()).permute(2, 0, 1) / 255)
    pictures = torch.stack(images)
    with torch.inference_mode():
        return pictures, detector.front(pictures)


@pytest.mark.slow
def test_the_bottleneck_under_attack_does_not_change(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    original = recnet_stage.frozen_model

    def load(*arguments: Any) -> SplitModel:
        loaded.append(original(*arguments))
        return loaded[-1]

    monkeypatch.setattr(recnet_stage, "frozen_model", load)
    train_recnet(RecNetTask(tiny_yolov5, bottleneck), data, toy_options(tmp_path))
    attacked = loaded[0].bottleneck
    assert attacked is not None
    assert differences(load_bottleneck(bottleneck).state_dict(), attacked.state_dict()) == set()
    assert not any(parameter.requires_grad for parameter in attacked.parameters())


@pytest.mark.slow
def test_an_attacker_goes_on_from_another_of_the_same_shape(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, detector: SplitDetector, data: TrainingData
) -> None:
    first = train_recnet(RecNetTask(tiny_yolov5, bottleneck), data, toy_options(tmp_path / "a"))
    other = toy_bottleneck(tmp_path / "other.safetensors", detector, seed=1)
    options = toy_options(tmp_path / "b", steps=1, learning_rate=1e-9)
    second = train_recnet(RecNetTask(tiny_yolov5, other, start=first), data, options)
    weights = load_recnet(first).state_dict()
    for name, tensor in load_recnet(second).state_dict().items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.allclose(weights[name], tensor, atol=1e-7)
    named = joined_fingerprint(detector.fingerprint, load_bottleneck(other).fingerprint())
    assert load_recnet(second).config.model_fingerprint == named.hex()
    with pytest.raises(WeightsError, match="train a RecNet for this model"):
        train_recnet(RecNetTask(tiny_yolov5, None, start=first), data, toy_options(tmp_path / "c"))


@pytest.mark.slow
def test_a_strong_attack_learns_colours_first(tmp_path: Path, tiny_yolov5: Path, data: TrainingData) -> None:
    """In the first steps, edges and structure have no effect; after them, they have."""

    def weights(name: str, steps: int, **changes: Any) -> dict[str, Tensor]:
        strong = dataclasses.replace(STRONG, **changes)
        options = toy_options(tmp_path / name, steps=steps)
        return load_attacker(train_attack(tiny_yolov5, None, data, options, strong)).state_dict()

    alone = {"edge_weight": 0.0, "similarity_weight": 0.0}
    assert differences(weights("a", 4, colours_first=1.0), weights("b", 4, **alone)) == set()
    assert differences(weights("c", 4, colours_first=0.5), weights("d", 4, **alone))


@pytest.mark.slow
def test_an_attack_goes_on_from_one_on_another_bottleneck(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, detector: SplitDetector, data: TrainingData
) -> None:
    strong = StrongAttack(hidden_channels=4, blocks=1, normalized=False)
    first = train_attack(tiny_yolov5, bottleneck, data, toy_options(tmp_path / "a"), strong)
    other = toy_bottleneck(tmp_path / "other.safetensors", detector, seed=1)
    options = toy_options(tmp_path / "b", steps=1, learning_rate=1e-9)
    second = train_attack(tiny_yolov5, other, data, options, strong, start=first)
    weights = load_attacker(first).state_dict()
    assert all(torch.allclose(weights[name], found) for name, found in load_attacker(second).state_dict().items())
    attacked = load_attacker(second).config
    assert attacked.edge_fingerprint == SplitModel(detector, load_bottleneck(other)).edge_fingerprint.hex()
    assert (attacked.training["stage"], attacked.training["start"]) == ("attack", first.name)
    with pytest.raises(WeightsError, match=r"is a strong RecNet, but the paper's RecNet is trained here"):
        train_attack(tiny_yolov5, other, data, toy_options(tmp_path / "c"), start=first)


@pytest.mark.slow
def test_a_bottleneck_of_another_detector_is_refused(
    tmp_path: Path, tiny_yolov5u: Path, bottleneck: Path, data: TrainingData
) -> None:
    """Otherwise convolutions of other widths would meet, or what is trained would fit no codec."""
    for number, train in enumerate(
        (
            lambda options: train_recnet(RecNetTask(tiny_yolov5u, bottleneck), data, options),
            lambda options: train_attack(tiny_yolov5u, bottleneck, data, options),
            lambda options: train_adversarial(AdversarialTask(tiny_yolov5u, bottleneck, None), data, options),
        )
    ):
        with pytest.raises(WeightsError, match="trained behind the detector"):
            train(toy_options(tmp_path / f"{number}"))
        assert not (tmp_path / f"{number}").exists()


@pytest.mark.slow
def test_attackers_mirror_the_front_end_of_an_early_split(
    tmp_path: Path, tiny_yolov5: Path, data: TrainingData
) -> None:
    """Behind layer 2, one block and two downsampling layers remain, and a sample covers 4x4 pixels."""
    early = train_bottleneck(BottleneckTask(tiny_yolov5, split=2), data, toy_options(tmp_path / "a", steps=1))
    for number, strong in enumerate((None, STRONG)):
        config = load_attacker(
            train_attack(tiny_yolov5, early, data, toy_options(tmp_path / f"{number}"), strong)
        ).config
        assert (config.split, config.pixels_per_sample) == (2, 4)
        if strong is None:
            assert [kind for kind, _, _ in config.stages] == ["c3", "deconv", "deconv"]


# Stage 3


def make_recnet(seed: int = 0) -> RecNet:
    torch.manual_seed(seed)
    recnet = RecNet(RecNetConfig(8, 6, 4, (1, 1), "0011223344556677", {})).train()
    recnet(torch.randn(4, 4, 4, 4))
    return recnet


def test_fixed_changes_neither_weights_nor_statistics() -> None:
    recnet, coded = make_recnet(), torch.randn(4, 4, 4, 4, requires_grad=True)
    before = copy.deepcopy(recnet.state_dict())
    momenta = [part.momentum for part in recnet.modules() if isinstance(part, nn.BatchNorm2d)]
    with fixed(recnet):
        output = recnet(coded)
        assert not any(parameter.requires_grad for parameter in recnet.parameters())
    output.square().mean().backward()
    assert coded.grad is not None
    assert coded.grad.abs().sum() > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in recnet.parameters())
    assert differences(before, recnet.state_dict()) == set()
    assert [part.momentum for part in recnet.modules() if isinstance(part, nn.BatchNorm2d)] == momenta
    assert recnet.training
    recnet(coded.detach())
    counts = {name for name in before if name.endswith("num_batches_tracked")}
    assert counts < differences(before, recnet.state_dict())


def test_fixed_uses_the_statistics_of_the_batch() -> None:
    recnet, coded = make_recnet(), torch.randn(4, 4, 4, 4)
    other = copy.deepcopy(recnet)
    with torch.no_grad():
        with fixed(recnet):
            found = recnet(coded)
        assert torch.equal(found, other(coded))
        assert not torch.allclose(found, recnet.eval()(coded), atol=1e-3)


def test_fixed_ends_when_something_fails() -> None:
    recnet = make_recnet()
    before = copy.deepcopy(recnet.state_dict())
    with pytest.raises(RuntimeError), fixed(recnet):
        recnet(recnet(torch.randn(4, 4, 4, 4)))
    assert differences(before, recnet.state_dict()) == set()
    assert all(parameter.requires_grad for parameter in recnet.parameters())
    assert all(part.momentum == 0.1 for part in recnet.modules() if isinstance(part, nn.BatchNorm2d))


@pytest.fixture
def descents(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each `descend` was called with, and the networks before and behind it."""
    found: list[dict[str, Any]] = []
    original = Loop.descend

    def states(loop: Loop) -> dict[str, dict[str, Tensor]]:
        return {name: copy.deepcopy(module.state_dict()) for name, module in loop._modules.items()}

    def descend(loop: Loop, name: str, loss: Tensor) -> None:
        before = states(loop)
        original(loop, name, loss)
        found.append({"name": name, "loss": float(loss.detach()), "before": before, "after": states(loop)})

    monkeypatch.setattr(Loop, "descend", descend)
    return found


@pytest.mark.slow
def test_stage_3_takes_turns(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, data: TrainingData, descents: list[dict[str, Any]]
) -> None:
    """Each turn changes one network; in the bottleneck's turn RecNet's BatchNorm statistics stand still, too."""
    task = AdversarialTask(tiny_yolov5, bottleneck, None, weights=EVERYTHING, simulation=SIMULATION)
    train_adversarial(task, data, toy_options(tmp_path))
    assert [descent["name"] for descent in descents] == ["recnet", "bottleneck"] * 4
    for earlier, later in itertools.pairwise(descents):
        mine, theirs = earlier["name"], later["name"]
        # From behind one update to behind the next: forward passes included.
        assert differences(earlier["after"][mine], later["after"][mine]) == set()
        assert any(name.endswith("weight") for name in differences(later["before"][theirs], later["after"][theirs]))
        if theirs == "recnet":  # its own forward pass moved the statistics
            moved = differences(earlier["after"][theirs], later["before"][theirs])
            assert any("running_mean" in name for name in moved)
    written = load_recnet(tmp_path / "last-recnet.safetensors").state_dict()
    assert differences(descents[-1]["after"]["recnet"], written) == set()


@pytest.mark.slow
def test_attackers_may_learn_more_often(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, data: TrainingData, descents: list[dict[str, Any]]
) -> None:
    task = AdversarialTask(tiny_yolov5, bottleneck, None, attacker_steps=3, privacy_share=0.1)
    train_adversarial(task, data, toy_options(tmp_path, steps=7))
    attacked = ["recnet", "bottleneck", "recnet", "recnet"]
    assert [descent["name"] for descent in descents] == [*attacked, *attacked, "recnet", "bottleneck"]
    assert load_bottleneck(tmp_path / "last-bottleneck.safetensors").config.training["attacker_steps"] == 3
    with pytest.raises(InputError, match="0 attacker steps are not at least 1"):
        dataclasses.replace(task, attacker_steps=0)


@pytest.mark.slow
def test_stage_3_descends_l_obj_less_w_l_rec(
    tmp_path: Path,
    tiny_yolov5: Path,
    bottleneck: Path,
    data: TrainingData,
    descents: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses: list[float] = []

    def record(reconstruction: Tensor, images: Tensor, edge_weight: float, *, squared: bool = False) -> Tensor:
        assert not squared
        loss = reconstruction_loss(reconstruction, images, edge_weight)
        assert edge_weight == 2.5
        if reconstruction.requires_grad:  # not the held-out images
            losses.append(float(loss.detach()))
        return loss

    def reward(term: PrivacyTerm, reconstruction: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        found, active = original(term, reconstruction, images)
        assert float(found.mean().detach()) == pytest.approx(record(reconstruction, images, term.edge_weight).item())
        return found, active

    original = PrivacyTerm.__call__
    monkeypatch.setattr(PrivacyTerm, "__call__", reward)
    monkeypatch.setattr(partners_module, "reconstruction_loss", record)
    task = AdversarialTask(tiny_yolov5, bottleneck, None, privacy_weight=0.7, edge_weight=2.5)
    train_adversarial(task, data, toy_options(tmp_path))
    table = rows(tmp_path / "log.csv")
    for step, row in enumerate(table):
        recnet, total = descents[2 * step]["loss"], descents[2 * step + 1]["loss"]
        assert recnet == pytest.approx(losses[2 * step])
        assert total == pytest.approx(row["objective"] - 0.7 * losses[2 * step + 1], rel=1e-4)
        assert (row["loss"], row["L_rec"]) == (pytest.approx(total, rel=1e-4), pytest.approx(recnet, rel=1e-4))
    (held_out,) = rows(tmp_path / "held-out.csv")[-1:]
    difference = held_out["held-out objective"] - 0.7 * held_out["held-out L_rec"]
    assert held_out["held-out loss"] == pytest.approx(difference, rel=1e-4)


@pytest.mark.slow
def test_privacy_costs_the_attacker(tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, data: TrainingData) -> None:
    """From the same start: with a large w, L_rec is higher in the end than with w 0."""
    attacks = {}
    for weight in (0.0, 100.0):
        output = tmp_path / f"{weight}"
        task = AdversarialTask(tiny_yolov5, bottleneck, None, privacy_weight=weight, recnet_learning_rate=2e-3)
        train_adversarial(task, data, toy_options(output, steps=16, evaluate_every=16, learning_rate=1e-2))
        table = rows(output / "log.csv")
        attacks[weight] = sum(row["L_rec"] for row in table[-5:]) / 5
        assert table[0]["L_rec"] == rows(tmp_path / "0.0/log.csv")[0]["L_rec"]
    assert attacks[100] > 1.15 * attacks[0]


@pytest.mark.slow
def test_stage_3_starts_from_stage_2(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, detector: SplitDetector, data: TrainingData
) -> None:
    recnet = train_recnet(RecNetTask(tiny_yolov5, bottleneck), data, toy_options(tmp_path / "recnet"))
    task = AdversarialTask(tiny_yolov5, bottleneck, recnet, recnet_learning_rate=1e-9)
    options = toy_options(tmp_path / "adversarial", steps=1)
    written = train_adversarial(task, data, options)
    coding, attacker = load_bottleneck(written[0]), load_recnet(written[1])
    assert changed(load_bottleneck(bottleneck).state_dict(), coding.state_dict())
    name = "invert.1.0.weight"
    assert torch.allclose(attacker.state_dict()[name], load_recnet(recnet).state_dict()[name], atol=1e-7)
    named = joined_fingerprint(detector.fingerprint, coding.fingerprint())
    assert attacker.config.model_fingerprint == named.hex()
    assert coding.config.training["stage"] == attacker.config.training["stage"] == "adversarial"
    assert coding.config.training["privacy_weight"] == 0.1


@pytest.mark.slow
def test_stage_3_with_a_recnet_of_other_hidden_width_writes_what_can_be_read(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, detector: SplitDetector, data: TrainingData
) -> None:
    recnet = train_recnet(RecNetTask(tiny_yolov5, bottleneck), data, toy_options(tmp_path / "a", steps=1))
    other = toy_bottleneck(tmp_path / "other.safetensors", detector, hidden=11)
    written = train_adversarial(AdversarialTask(tiny_yolov5, other, recnet), data, toy_options(tmp_path / "b", steps=1))
    assert load_bottleneck(written[0]).config.hidden_channels == 11
    assert load_recnet(written[1]).config.hidden_channels == 8


# What goes wrong


@pytest.mark.slow
def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(
    tmp_path: Path, tiny_yolov5: Path, bottleneck: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def diverge(*arguments: Any) -> Tensor:
        if arguments[0].requires_grad:
            steps.append(len(steps))
        return reconstruction_loss(*arguments) * (math.nan if len(steps) > 5 else 1)

    monkeypatch.setattr(recnet_stage, "reconstruction_loss", diverge)
    with pytest.raises(TrainingError, match="the loss of the recnet is not finite"):
        train_recnet(RecNetTask(tiny_yolov5, bottleneck), data, toy_options(tmp_path, steps=8))
    assert steps_done(tmp_path) == 4
    assert load_recnet(tmp_path / "last-recnet.safetensors").config.training["steps"] == 8
    load_recnet(tmp_path / "best-recnet.safetensors")
    assert not list(tmp_path.glob("*.part"))


def test_an_image_that_goes_bad_is_one_line(tmp_path: Path, tiny_yolov5: Path, toy_set: Path) -> None:
    from toy_training import make_toy_set

    data = toy_data(make_toy_set(tmp_path / "set"))
    save_texture(tmp_path / "set/in/1.png", 80, 64)
    (tmp_path / "set/in/1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png"):
        train_bottleneck(BottleneckTask(tiny_yolov5), data, toy_options(tmp_path / "out"))
