"""Detectors of featcodec's own as safetensors: a round trip, the codec with them, and hostile files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import texture
from refusals import refusal_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from featcodec import FeatureCodec, bitstream
from featcodec.detectors import (
    DetectorConfig,
    SplitDetector,
    build_yolov5,
    load_detector,
    read_detector,
    save_detector,
    stored,
)
from featcodec.errors import WeightsError
from featcodec.networks.checkpoints import load_checkpoint

CONFIG = DetectorConfig(("cat", "dog", "newt"), 0.33, 0.1, training={"stage": "detector", "steps": 7})


def made(seed: int = 0) -> SplitDetector:
    """A detector in eval mode whose BatchNorm has seen pictures, with scores that differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector = SplitDetector(build_yolov5(CONFIG), CONFIG.names, bytes(8))
        for part in detector.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.2)
                part.momentum = 0.5
        for convolution in detector.layers[24].m:
            nn.init.normal_(convolution.weight, 0, 0.2)
            nn.init.normal_(convolution.bias)
        with torch.no_grad():
            for _ in range(3):
                detector.back(detector.front(torch.rand(2, 3, 64, 64)))
    return detector.eval()


def predictions(detector: SplitDetector) -> Tensor:
    pictures = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return detector.back(detector.front(pictures))


@pytest.fixture(scope="module")
def detector() -> SplitDetector:
    return made()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, detector: SplitDetector) -> Path:
    """In float16, as it ships."""
    path = tmp_path_factory.mktemp("stored") / "mine.safetensors"
    save_detector(path, CONFIG, detector.layers)
    return path


# Round trips


@pytest.mark.slow
def test_float32_comes_back_bit_for_bit(tmp_path: Path, detector: SplitDetector) -> None:
    path = tmp_path / "a.safetensors"
    save_detector(path, CONFIG, detector.layers, half=False)
    config, layers = read_detector(path)
    assert config == CONFIG
    for layer, original in zip(layers, detector.layers, strict=True):
        expected = original.state_dict()
        assert layer.module.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in layer.module.state_dict().items())
        assert not layer.module.training
    loaded = load_detector(path, device="cpu", fuse=False)
    assert torch.equal(predictions(loaded), predictions(detector))


def test_float16_is_rounded_once(path: Path, detector: SplitDetector) -> None:
    _, state = load_checkpoint(path, "detector")
    assert {tensor.dtype for tensor in state.values()} == {torch.float16, torch.int64}
    assert all(name.startswith("model.") for name in state)
    weight = "conv.weight"
    assert torch.equal(state[f"model.3.{weight}"], detector.layers[3].state_dict()[weight].half())
    loaded = load_detector(path, device="cpu")
    assert (loaded.dtype, loaded.names, loaded.split) == (torch.float32, CONFIG.names, 4)
    theirs = predictions(detector)
    assert theirs[:, 4:].std() > 0.01, "degenerate scores prove nothing"
    assert (predictions(loaded) - theirs).abs().max() < 1
    assert (predictions(loaded) - theirs)[:, 4:].abs().max() < 0.01


@pytest.mark.slow
def test_it_is_loaded_like_any_other(path: Path) -> None:
    folded, plain = load_detector(path, device="cpu"), load_detector(path, device="cpu", fuse=False)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert sum(isinstance(part, nn.BatchNorm2d) for part in plain.modules()) == 57
    assert torch.allclose(predictions(folded), predictions(plain), atol=1e-3)
    assert folded.fingerprint == plain.fingerprint == load_detector(path, split=2, device="cpu").fingerprint
    assert not any(part.training for part in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert load_detector(path, split=1, device="cpu").feature_shapes(64, 64)[0] == (16, 16, 16)


@pytest.mark.slow
def test_the_fingerprint_of_equal_weights_is_that_of_the_pt_file(tmp_path: Path, yolov5n_path: Path) -> None:
    released = load_detector(yolov5n_path, device="cpu", fuse=False)
    config = DetectorConfig(released.names)
    for half in (True, False):
        path = tmp_path / f"{half}.safetensors"
        save_detector(path, config, released.layers, half=half)
        assert load_detector(path, device="cpu").fingerprint == released.fingerprint
        assert torch.equal(predictions(load_detector(path, device="cpu", fuse=False)), predictions(released))
    assert (tmp_path / "True.safetensors").stat().st_size < 4_000_000


@pytest.mark.slow
def test_the_fingerprint_depends_on_weights_and_anchors_alone(tmp_path: Path, path: Path) -> None:
    expected = load_detector(path, device="cpu").fingerprint
    rewrite(path, tmp_path / "same.safetensors", {"names": ["x", "y", "z"], "training": {}})
    assert load_detector(tmp_path / "same.safetensors", device="cpu").fingerprint == expected
    anchors = [[[11.0, 13.0], *level[1:]] if not number else level for number, level in enumerate(anchors_in(path))]
    rewrite(path, tmp_path / "other.safetensors", {"anchors": anchors})
    assert load_detector(tmp_path / "other.safetensors", device="cpu").fingerprint != expected


def test_numbers_beyond_float16_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    detector = made()
    detector.layers[5].bn.running_var[0] = 1e5
    target = tmp_path / "a.safetensors"
    with pytest.raises(
        WeightsError, match=r"a\.safetensors: model\.5\.bn\.running_var holds 100000, too large for float16"
    ):
        save_detector(target, CONFIG, detector.layers)
    assert not target.exists()
    save_detector(target, CONFIG, detector.layers, half=False)
    assert torch.equal(predictions(load_detector(target, device="cpu", fuse=False)), predictions(detector))


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", ["none", "auto"])
def test_a_codec_runs_with_it(path: Path, bottleneck: str) -> None:
    """Real VVC; nothing ships for this detector, so that auto is none."""
    codec = FeatureCodec.load(path, bottleneck=bottleneck, image_size=64)
    image = texture(80, 60, seed=1)
    data = codec.encode(image, 20)
    assert bitstream.unpack(data)[0].fingerprint == codec.model.detector.fingerprint
    uncoded, decoded = codec.detect(image), FeatureCodec.load(path, bottleneck=bottleneck, image_size=64).decode(data)
    assert set(decoded.names) == set(CONFIG.names)
    assert len(uncoded.scores)
    assert abs(float(decoded.scores.max() - uncoded.scores.max())) < 0.1


# Hostile files


def anchors_in(path: Path) -> Any:
    return load_checkpoint(path, "detector")[0]["anchors"]


def rewrite(source: Path, target: Path, config: dict[str, Any], **tensors: Tensor | None) -> Path:
    """A copy with other entries in its config and other tensors; None takes one out."""
    content, state = load_checkpoint(source, "detector")
    changed = {**state, **{name: tensor for name, tensor in tensors.items() if tensor is not None}}
    kept = {name: tensor for name, tensor in changed.items() if tensors.get(name, tensor) is not None}
    entries = {name: value for name, value in {**content, **config}.items() if value != "left out"}
    save_file(kept, target, {"featcodec": json.dumps(entries)})
    return target


def refusal(path: Path) -> str:
    message = refusal_of(WeightsError, path, lambda path: load_detector(path, device="cpu"))
    assert len(message) < 600
    return message


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {"width_multiple": 1.5},
        {"width_multiple": 1e6},
        {"width_multiple": 0},
        {"width_multiple": "0.1"},
        {"width_multiple": True},
        {"width_multiple": None},
        {"width_multiple": 10**400},
        {"width_multiple": float("nan")},
        {"width_multiple": float("inf")},
        {"depth_multiple": 1.5},
        {"depth_multiple": 1e9},
        {"depth_multiple": [1]},
        {"depth_multiple": "left out"},
        {"names": ["cat", "dog"]},
        {"names": []},
        {"names": ["x"] * 5000},
        {"names": "cat"},
        {"names": [1, 2, 3]},
        {"names": {"0": "cat"}},
        {"names": "left out"},
        {"anchors": []},
        {"anchors": None},
        {"anchors": [[[1, 2]] * 3] * 2},
        {"anchors": [[[1, 2, 3]] * 3] * 3},
        {"anchors": [[["a", "b"]] * 3] * 3},
        {"anchors": [[[1, float("inf")]] * 3] * 3},
        {"anchors": [[[1, -1]] * 3] * 3},
        {"anchors": [[[1, 10**400]] * 3] * 3},
        {"training": []},
        {"training": "left out"},
    ],
    ids=lambda config: f"{next(iter(config))} {str(next(iter(config.values())))[:20]}",
)
def test_hostile_configs_are_refused(tmp_path: Path, path: Path, config: dict[str, Any]) -> None:
    assert "its config does not fit its weights (" in refusal(rewrite(path, tmp_path / "a.safetensors", config))


def test_nothing_is_built_before_shapes_match(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config of the largest detector around the weights of a small one."""
    built = []

    def spy(config: DetectorConfig) -> Any:
        built.extend(build_yolov5(config))
        return built

    monkeypatch.setattr(stored, "build_yolov5", spy)
    refusal(rewrite(path, tmp_path / "a.safetensors", {"width_multiple": 1.5, "depth_multiple": 1.5}))
    parameters = [parameter for layer in built for parameter in layer.module.parameters()]
    assert sum(parameter.numel() for parameter in parameters) > 50_000_000
    assert {parameter.device.type for parameter in parameters} == {"meta"}


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model.3.conv.weight", None),
        ("model.0.bn.num_batches_tracked", None),
        ("model.3.conv.weight", torch.zeros(32, 16, 3)),
        ("model.3.conv.weight", torch.zeros(32, 16, 3, 3, dtype=torch.int8)),
        ("model.3.bn.running_var", torch.zeros(31)),
        ("model.0.bn.num_batches_tracked", torch.tensor(1.0)),
        ("model.24.anchors", torch.ones(3, 3, 2)),
        ("model.24.m.0.weight", torch.zeros(25, 32, 1, 1)),
        ("model.25.conv.weight", torch.zeros(1)),
        ("stranger", torch.zeros(1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "none" if value is None else str(tuple(value.shape)),
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, path: Path, name: str, tensor: Tensor | None) -> None:
    hostile = rewrite(path, tmp_path / "a.safetensors", {}, **{name: tensor})
    assert "its config does not fit its weights (" in refusal(hostile)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, path: Path, value: float) -> None:
    weight = torch.zeros(32, 16, 3, 3)
    weight[1, 2, 0, 0] = value
    hostile = rewrite(path, tmp_path / "a.safetensors", {}, **{"model.3.conv.weight": weight})
    assert "not finite" in refusal(hostile)


def test_predictions_that_are_not_finite_are_refused(tmp_path: Path, path: Path) -> None:
    """A negative variance is a finite number, its root is none."""
    hostile = rewrite(path, tmp_path / "a.safetensors", {}, **{"model.3.bn.running_var": torch.full((32,), -1.0)})
    assert "predictions are not finite" in refusal(hostile)


def test_other_kinds_are_refused(tmp_path: Path, path: Path) -> None:
    other = rewrite(path, tmp_path / "bottleneck.safetensors", {"kind": "bottleneck"})
    assert "not a detector of featcodec" in refusal(other)
    save_file(load_file(path), tmp_path / "bare.safetensors")
    assert "not a detector of featcodec" in refusal(tmp_path / "bare.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights at all")
    assert "not a safetensors checkpoint" in refusal(tmp_path / "text.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-10])
    assert "not a safetensors checkpoint" in refusal(tmp_path / "cut.safetensors")


def test_later_formats_are_refused(tmp_path: Path, path: Path) -> None:
    assert "update it" in refusal(rewrite(path, tmp_path / "a.safetensors", {"format": 2}))
