"""The split: wherever the detector is cut, one tensor crosses and the predictions are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from featcodec.detectors import SplitDetector, configuration_of, load_detector
from featcodec.detectors.configuration import read_configuration
from featcodec.detectors.families import build_layers_of
from featcodec.detectors.layers import PICTURE
from featcodec.detectors.measure import LayerShape
from featcodec.errors import InputError

# Channels and stride of the tensor that crosses behind each layer.
SHAPES = {
    "tiny_yolov5": [(4, 2), (8, 4), (8, 4), (16, 8), (16, 8)],
    "tiny_yolov5u": [(16, 2), (32, 4), (32, 4), (64, 8), (64, 8)],
}


def pictures() -> Tensor:
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module", params=sorted(SHAPES))
def detector(request: pytest.FixtureRequest) -> SplitDetector:
    return load_detector(request.getfixturevalue(request.param), device="cpu")


@pytest.fixture(scope="module", params=sorted(SHAPES))
def path_and_shapes(request: pytest.FixtureRequest) -> tuple[Path, list[tuple[int, int]]]:
    return request.getfixturevalue(request.param), SHAPES[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("split", range(5))
def test_shape_at_every_split(path_and_shapes: tuple[Path, list[tuple[int, int]]], split: int) -> None:
    path, shapes = path_and_shapes
    channels, stride = shapes[split]
    detector = load_detector(path, split=split, device="cpu")
    with torch.inference_mode():
        features = detector.front(pictures())
    assert detector.split == split
    assert features.shape == (2, channels, 64 // stride, 128 // stride)
    assert features.dtype == torch.float32


@pytest.mark.parametrize("split", range(5))
def test_predictions_do_not_depend_on_the_split(detector: SplitDetector, split: int) -> None:
    with torch.inference_mode():
        expected = detector.back(detector.front(pictures()))
        elsewhere = detector.at(split)
        assert torch.equal(elsewhere.back(elsewhere.front(pictures())), expected)


def test_another_split_shares_the_layers(detector: SplitDetector) -> None:
    elsewhere = detector.at(2)
    assert (elsewhere.split, detector.split) == (2, 4)
    assert elsewhere.fingerprint == detector.fingerprint
    assert next(elsewhere.parameters()) is next(detector.parameters())
    assert elsewhere.training == detector.training
    assert detector.at(4) is detector
    assert detector.at(2) is elsewhere
    assert len([*detector.children()]) == 1


@pytest.mark.slow
def test_a_view_is_the_detector_that_is_loaded_with_that_split(
    path_and_shapes: tuple[Path, list[tuple[int, int]]],
) -> None:
    path, _ = path_and_shapes
    loaded, view = load_detector(path, split=2, device="cpu"), load_detector(path, device="cpu").at(2)
    with torch.inference_mode():
        features = loaded.front(pictures())
        assert torch.equal(features, view.front(pictures()))
        assert torch.equal(loaded.back(features), view.back(features))


def test_front_is_the_only_input_of_back(detector: SplitDetector) -> None:
    """Nothing of the picture reaches the back-end but the tensor: other features, other predictions."""
    with torch.inference_mode():
        features = detector.front(pictures())
        assert not torch.allclose(detector.back(features), detector.back(torch.zeros_like(features)))
        unchanged = features.clone()
        detector.back(features)
        assert torch.equal(features, unchanged)


def test_pictures_of_a_batch_do_not_mix(detector: SplitDetector) -> None:
    with torch.inference_mode():
        both = detector.back(detector.front(pictures()))
        second = detector.back(detector.front(pictures()[1:]))
    assert torch.allclose(both[1:], second, rtol=1e-4, atol=1e-3)


def test_other_shapes_in_turn(detector: SplitDetector) -> None:
    """Grids are not remembered from another shape."""
    with torch.inference_mode():
        first = detector.back(detector.front(pictures()))
        detector.back(detector.front(pictures().transpose(2, 3)))
        again = detector.back(detector.front(pictures()))
    assert torch.equal(first, again)


def test_features_get_gradients_after_inference(detector: SplitDetector) -> None:
    """Training a bottleneck differentiates through the back-end, also of shapes it has seen in inference mode."""
    with torch.inference_mode():
        detector.back(detector.front(pictures()))
    features = detector.front(pictures()).clone().requires_grad_()
    detector.back(features).mean().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize("split", [24, -1])
def test_split_that_does_not_exist_is_refused(tiny_yolov5: Path, detector: SplitDetector, split: int) -> None:
    with pytest.raises(InputError, match=rf"cannot split behind layer {split}: .* choose one of 0\.\.23"):
        load_detector(tiny_yolov5, split=split)
    with pytest.raises(InputError, match="no such layer before its head"):
        detector.at(split)


@pytest.mark.parametrize("kind", ["tiny_yolov5", "tiny_yolov5u"])
@pytest.mark.parametrize("conf", [0.0, 0.3, 0.5, 0.9])
def test_only_boxes_that_cannot_count_are_left_out(kind: str, conf: float, request: pytest.FixtureRequest) -> None:
    detector = load_detector(request.getfixturevalue(kind), device="cpu")
    generator = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        features = detector.front(torch.rand(1, 3, 96, 128, generator=generator))
        everything, some = detector.back(features), detector.back(features, conf)
    counts = everything[0, 4:].amax(0) > conf
    kept = some[0, 4:].amax(0) > conf
    assert torch.equal(everything[0][:, counts], some[0][:, kept])
    assert counts.sum() <= some.shape[2] <= everything.shape[2]
    assert conf < 0.9 or some.shape[2] < everything.shape[2]


def test_what_crosses_is_known_without_a_run(detector: SplitDetector) -> None:
    channels, stride = detector.feature_shapes(64, 64)[0][0], 8
    assert (detector.levels, detector.pixels_per_sample) == (((channels, 0),), stride)
    assert detector.shapes[PICTURE] == LayerShape(3, 1)
    assert detector.shapes[detector.crossing[0]] == LayerShape(channels, stride)
    assert max(detector.shapes) == detector.split


def test_levels_that_cross_behind_a_late_layer() -> None:
    with torch.device("meta"):
        layers = build_layers_of(configuration_of("yolo11n"))
        detector = SplitDetector(layers, ["cat"], bytes(8), 10)
    assert (detector.crossing, detector.levels) == ((4, 6, 10), ((128, 0), (128, 1), (256, 2)))
    assert [(shape[0], 64 // shape[1]) for shape in detector.feature_shapes(64, 64)] == [(128, 8), (128, 16), (256, 32)]


def test_what_hands_on_several_tensors_is_not_a_split() -> None:
    """A file may have such a layer (YOLOv9's first has this kind); then the tensors in it cross, and not one."""
    rows = [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "CBLinear", [[16]]],
        [-1, 1, "nn.Identity", []],
        [[2, 0], 1, "CBFuse", [[0]]],
        [-1, 1, "Conv", [64, 3, 2]],
    ]
    content = {**configuration_of("yolo11n").mapping(), "backbone": rows, "head": [[[4], 1, "Detect", ["nc"]]]}
    detector = SplitDetector(build_layers_of(read_configuration(content)), ["cat"], bytes(8))
    assert [split.layer for split in detector.splits()] == [0, 3, 4]
    assert sorted(detector.shapes) == [PICTURE, 0, 3, 4]
    with pytest.raises(InputError, match=r"cannot split behind layer 2: .* choose one of 0, 3\.\.4"):
        detector.at(2)
