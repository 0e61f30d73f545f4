"""SplitModel: detector and bottleneck in one piece, behind one split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_training import toy_bottleneck

from featcodec.detectors import load_detector
from featcodec.errors import WeightsError
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.networks.int8 import has_fast_int8
from featcodec.packing.quantize import LATENT_CLIP, UniformQuantizer
from featcodec.split_model import SplitModel

PICTURES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def latent(tiny_yolov5: Path) -> SplitModel:
    return SplitModel.load(tiny_yolov5, None, device="cpu")


@pytest.fixture(scope="module")
def learned(tiny_yolov5: Path, latent: SplitModel, tmp_path_factory: pytest.TempPathFactory) -> SplitModel:
    path = toy_bottleneck(tmp_path_factory.mktemp("model") / "b.safetensors", latent.detector)
    return SplitModel.load(tiny_yolov5, path, device="cpu")


def test_latent_coding_is_the_detector_alone(latent: SplitModel) -> None:
    with torch.inference_mode():
        tensors = latent.encode(PICTURES)
        assert torch.equal(tensors, latent.detector.front(PICTURES))
        assert torch.equal(latent.decode(tensors), latent.detector.back(tensors))
    assert (latent.kind, latent.channels, latent.feature_channels) == ("latent", 16, 16)
    assert latent.fingerprint == latent.detector.fingerprint
    assert latent.quantizer == UniformQuantizer(*LATENT_CLIP)
    assert latent.tensor_shapes(96, 64) == ((16, 8, 12),)
    assert (latent.levels, latent.pixels_per_sample) == (((16, 0),), 8)


def test_a_bottleneck_stands_between_the_halves(learned: SplitModel, latent: SplitModel) -> None:
    assert learned.bottleneck is not None
    with torch.inference_mode():
        features = learned.detector.front(PICTURES)
        tensors = learned.encode(PICTURES)
        assert torch.equal(tensors, learned.bottleneck.encode(features))
        expected = learned.detector.back(learned.bottleneck.decode(tensors))
        assert torch.equal(learned.decode(tensors), expected)
    assert (learned.kind, learned.channels, learned.feature_channels) == ("bottleneck", 4, 16)
    assert learned.fingerprint != latent.fingerprint
    assert learned.quantizer == UniformQuantizer(-3, 3)
    assert learned.tensor_shapes(96, 64) == (tuple(tensors.shape[1:]),)
    assert (learned.levels, learned.pixels_per_sample) == (((4, 0),), 8)


def test_gradients_reach_the_bottleneck_through_both_halves(tmp_path: Path, latent: SplitModel) -> None:
    bottleneck = load_bottleneck(toy_bottleneck(tmp_path / "b.safetensors", latent.detector)).requires_grad_(True)
    model = SplitModel(latent.detector, bottleneck)
    model.decode(model.encode(PICTURES)).mean().backward()
    assert all(parameter.grad is not None for parameter in bottleneck.parameters())


def test_another_split_shares_the_weights_and_needs_no_bottleneck(latent: SplitModel, learned: SplitModel) -> None:
    early = latent.at(2)
    assert (early.split, early.channels, early.fingerprint) == (2, 8, latent.fingerprint)
    assert next(early.detector.parameters()) is next(latent.detector.parameters())
    assert learned.at(4) is learned
    with pytest.raises(WeightsError, match="trained behind layer 4, the detector is cut behind layer 2"):
        learned.at(2)


def test_a_bottleneck_of_another_split_or_detector_is_refused(
    tmp_path: Path, tiny_yolov5: Path, tiny_yolov5u: Path, latent: SplitModel
) -> None:
    path = toy_bottleneck(tmp_path / "b.safetensors", latent.detector)
    with pytest.raises(WeightsError, match="trained behind layer 4, not behind layer 3"):
        SplitModel.load(tiny_yolov5, path, split=3, device="cpu")
    with pytest.raises(WeightsError, match="trained behind the detector"):
        SplitModel.load(tiny_yolov5u, path, device="cpu")
    with pytest.raises(WeightsError, match="cut behind layer 2"):
        SplitModel(load_detector(tiny_yolov5, split=2, device="cpu"), load_bottleneck(path))


def test_it_says_what_it_is(learned: SplitModel, latent: SplitModel) -> None:
    assert repr(learned).startswith("SplitModel(3 classes, split=4, bottleneck=4 channels, fingerprint=")
    assert "bottleneck=none" in repr(latent)


@pytest.mark.skipif(not has_fast_int8(), reason="this CPU has no AVX512-VNNI")
def test_ad_in_int8_changes_what_the_cloud_computes_and_nothing_else(
    tmp_path: Path, tiny_yolov5: Path, learned: SplitModel, latent: SplitModel
) -> None:
    path = toy_bottleneck(tmp_path / "b.safetensors", latent.detector)
    rounded = SplitModel.load(tiny_yolov5, path, device="cpu", precision="int8")
    same = SplitModel.load(
        tiny_yolov5, path, device="cpu", precision=str(rounded.detector.dtype).removeprefix("torch.")
    )
    assert (rounded.precision, learned.precision) == ("int8", "float32")
    assert (rounded.fingerprint, rounded.edge_fingerprint) == (learned.fingerprint, learned.edge_fingerprint)
    pictures = PICTURES.to(rounded.detector.dtype)
    with torch.inference_mode():
        tensors = rounded.encode(pictures)
        assert torch.equal(tensors, same.encode(pictures))
        found, expected = rounded.expand(tensors), same.expand(tensors)
    assert isinstance(found, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    assert 0 < (found - expected).float().norm() < 0.1 * expected.float().norm()
