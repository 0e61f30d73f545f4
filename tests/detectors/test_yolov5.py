"""YOLOv5 from its definition: the released detectors' layers, sizes and, with their weights, predictions."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featcodec.detectors import DetectorConfig, SplitDetector, build_yolov5, load_detector
from featcodec.detectors.yolov5 import COCO_ANCHORS, STRIDES, anchors_of
from featcodec.errors import InputError

COCO = tuple(f"class {number}" for number in range(80))
SMALL = DetectorConfig(("cat", "dog", "newt"), 0.33, 0.1)


def built(config: DetectorConfig, seed: int = 0) -> SplitDetector:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SplitDetector(build_yolov5(config), config.names, bytes(8))


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def predictions(detector: SplitDetector) -> Tensor:
    pictures = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return detector.back(detector.front(pictures))


@pytest.mark.slow
def test_yolov5n_has_the_tensors_of_the_release(yolov5n_path: Path) -> None:
    released = load_detector(yolov5n_path, device="cpu", fuse=False)
    ours = built(DetectorConfig(released.names))
    assert shapes(ours) == shapes(released)
    assert ours.sources == released.sources
    assert torch.equal(ours.state_dict()["layers.24.anchors"], released.state_dict()["layers.24.anchors"])


@pytest.mark.slow
def test_yolov5n_with_the_released_weights_predicts_the_same(yolov5n_path: Path) -> None:
    released = load_detector(yolov5n_path, device="cpu", fuse=False)
    ours = built(DetectorConfig(released.names)).eval()
    assert not torch.equal(predictions(ours), predictions(released))
    ours.load_state_dict(released.state_dict())
    assert torch.equal(predictions(ours), predictions(released))


@pytest.mark.parametrize(
    ("depth", "width", "parameters"),
    [(0.33, 0.25, 1_872_157), (0.33, 0.5, 7_235_389), (0.67, 0.75, 21_190_557), (1.33, 1.25, 86_749_405)],
    ids=["n", "s", "m", "x"],
)
def test_sizes_are_those_that_ultralytics_prints(depth: float, width: float, parameters: int) -> None:
    """`python models/yolo.py --cfg yolov5n.yaml` and so on."""
    with torch.device("meta"):
        detector = built(DetectorConfig(COCO, depth, width))
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters
    assert len(detector.layers) == 25


def test_the_split_is_model_4() -> None:
    detector = built(DetectorConfig(("cat",)))
    assert detector.feature_shapes(512, 512)[0] == (64, 64, 64)
    assert built(SMALL).feature_shapes(64, 96)[0] == (32, 12, 8)


def test_channels_are_rounded_up_to_multiples_of_8() -> None:
    """0.1 of 64, 128, 256, 512 and 1024 is 6.4, 12.8, 25.6, 51.2 and 102.4."""
    detector = built(SMALL)
    assert [detector.layers[layer].conv.out_channels for layer in (0, 1, 3, 5, 7)] == [8, 16, 32, 56, 104]
    assert all(len(detector.layers[layer].m) == repeats for layer, repeats in ((2, 1), (4, 2), (6, 3), (8, 1)))
    assert len(built(dataclasses.replace(SMALL, depth_multiple=0.01)).layers[6].m) == 1


def test_initialization_is_that_of_yolov5() -> None:
    detector = built(SMALL)
    norms = [part for part in detector.modules() if isinstance(part, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}
    assert {type(part.act) for part in detector.modules() if hasattr(part, "act")} == {nn.SiLU}
    for convolution, stride in zip(detector.layers[24].m, STRIDES, strict=True):
        bias = convolution.bias.detach().view(3, 5 + 3)
        spread = 1 / math.sqrt(convolution.in_channels)  # of torch's own start
        for columns, prior in ((bias[:, 4], 8 / (640 / stride) ** 2), (bias[:, 5:], 0.6 / (3 - 0.99999))):
            assert (columns - math.log(prior)).abs().max() <= spread
        assert bias[:, :4].abs().max() <= spread


def test_weights_come_from_torchs_generator() -> None:
    one, same, other = (built(SMALL, seed).state_dict()["layers.3.conv.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_one_class_will_do() -> None:
    found = predictions(built(dataclasses.replace(SMALL, names=("cat",))).eval())
    assert found.shape[1] == 5
    assert found.isfinite().all()


def test_anchors_may_be_others() -> None:
    doubled: Any = tuple(tuple((2 * w, 2 * h) for w, h in level) for level in COCO_ANCHORS)
    config = dataclasses.replace(SMALL, anchors=doubled)
    assert torch.equal(anchors_of(config), 2 * anchors_of(SMALL))
    assert torch.equal(built(config).layers[24].anchors, anchors_of(config))
    assert anchors_of(SMALL)[2, 2].tolist() == [373 / 32, 326 / 32]


def test_nothing_but_anchors_and_strides_is_allocated_on_the_meta_device() -> None:
    with torch.device("meta"):
        detector = built(SMALL)
    real = {name for name, tensor in detector.state_dict().items() if tensor.device.type != "meta"}
    assert real == {"layers.24.anchors"}
    assert detector.layers[24].strides.tolist() == [8, 16, 32]


@pytest.mark.parametrize(
    "change",
    [
        {"names": ()},
        {"names": ("x",) * 5000},
        {"names": ("",)},
        {"names": ("x" * 201,)},
        {"depth_multiple": 0.0},
        {"depth_multiple": 1e9},
        {"depth_multiple": math.nan},
        {"width_multiple": -0.25},
        {"width_multiple": 1e9},
        {"width_multiple": math.inf},
        {"anchors": COCO_ANCHORS[:2]},
        {"anchors": (*COCO_ANCHORS[:2], COCO_ANCHORS[2][:2])},
        {"anchors": (*COCO_ANCHORS[:2], ((1.0, 1.0), (1.0, 1.0), (1.0, 0.0)))},
        {"anchors": (*COCO_ANCHORS[:2], ((1.0, 1.0), (1.0, 1.0), (1.0, math.nan)))},
        {"anchors": (*COCO_ANCHORS[:2], ((1.0, 1.0), (1.0, 1.0), (1.0, 1e6)))},
    ],
    ids=lambda change: f"{next(iter(change))} {str(next(iter(change.values())))[-30:]}",
)
def test_configurations_that_are_none_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        dataclasses.replace(SMALL, **change)
    assert "\n" not in str(caught.value)
