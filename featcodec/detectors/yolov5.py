"""Builds YOLOv5 v6/v7 from its definition, without a checkpoint: an untrained detector of any size and classes.

The graph follows models/yolov5n.yaml (v7.0) of github.com/ultralytics/yolov5, the initialization follows its
models/yolo.py. Layer indices and tensor names are those of the released checkpoints. So the split is model.4 here too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import C3, SPPF, Concat, Conv

from featcodec.detectors.head import AnchorDetect
from featcodec.detectors.layers import Layer
from featcodec.errors import InputError

STRIDES = (8, 16, 32)
COCO_ANCHORS = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
"""YOLOv5's own anchors: width and height in pixels, three anchors per level, finest level first."""
MAX_CLASSES = 4096
MAX_NAME_LENGTH = 200
_MAX_MULTIPLE = 1.5  # yolov5x has 1.33 and 1.25
_MAX_ANCHOR = 4096
_ANCHORS = 3
_BATCH_NORM = {"eps": 1e-3, "momentum": 0.03}
_OBJECTS, _SIDE = 8, 640  # an untrained head expects 8 objects in an image of 640 pixels per side

Anchors = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True)
class DetectorConfig:
    """The definition of a YOLOv5 detector without its weights.

    Attributes:
        names: class names, one per class id; 1 to 4096 names.
        depth_multiple: factor for the number of repeated blocks; 0.33 is yolov5n and yolov5s.
        width_multiple: factor for the channels, which are rounded up to multiples of 8; 0.25 is yolov5n.
        anchors: three levels of three (width, height) in pixels.
        training: how the detector was trained (stage, data, hyper-parameters, metrics); free form, for people.

    Raises:
        InputError: a value is out of range.
    """

    names: tuple[str, ...]
    depth_multiple: float = 0.33
    width_multiple: float = 0.25
    anchors: Anchors = COCO_ANCHORS
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise InputError(f"{len(self.names)} classes are outside 1..{MAX_CLASSES}; give fewer or more class names")
        if any(not 1 <= len(name) <= MAX_NAME_LENGTH for name in self.names):
            raise InputError(f"a class name is empty or has over {MAX_NAME_LENGTH} characters; rename the class")
        for name in ("depth_multiple", "width_multiple"):
            if not 0 < getattr(self, name) <= _MAX_MULTIPLE:
                raise InputError(
                    f"{name.replace('_', ' ')} {getattr(self, name)} is not above 0 and up to {_MAX_MULTIPLE}; "
                    "yolov5n has depth 0.33 and width 0.25"
                )
        if [len(level) for level in self.anchors] != [_ANCHORS] * len(STRIDES):
            raise InputError(
                f"the anchors are not {len(STRIDES)} levels of {_ANCHORS} anchors; give as many, or YOLOv5's own"
            )
        if any(not 0 < side <= _MAX_ANCHOR for level in self.anchors for anchor in level for side in anchor):
            raise InputError(f"an anchor's side is not above 0 and up to {_MAX_ANCHOR} pixels; give other anchors")


def build_yolov5(config: DetectorConfig) -> list[Layer]:
    """The 25 layers, model.0 to model.24, with random weights from torch's generator; float32, in training mode.

    On torch's meta device, nothing is allocated, and the weights have only shapes.

    Args:
        config: the sizes, classes and anchors.
    """

    def width(channels: int) -> int:
        return math.ceil(channels * config.width_multiple / 8) * 8

    def c3(inputs: int, outputs: int, repeats: int, *, shortcut: bool = True) -> nn.Module:
        block: nn.Module = C3(inputs, outputs, max(1, round(repeats * config.depth_multiple)), shortcut)
        return block

    a, b, c, d, e = (width(channels) for channels in (64, 128, 256, 512, 1024))
    graph: list[tuple[nn.Module, tuple[int, ...]]] = [
        (Conv(3, a, 6, 2, 2), (-1,)),
        (Conv(a, b, 3, 2), (0,)),
        (c3(b, b, 3), (1,)),
        (Conv(b, c, 3, 2), (2,)),
        (c3(c, c, 6), (3,)),
        (Conv(c, d, 3, 2), (4,)),
        (c3(d, d, 9), (5,)),
        (Conv(d, e, 3, 2), (6,)),
        (c3(e, e, 3), (7,)),
        (SPPF(e, e, 5), (8,)),
        (Conv(e, d, 1, 1), (9,)),
        (nn.Upsample(scale_factor=2.0, mode="nearest"), (10,)),
        (Concat(1), (11, 6)),
        (c3(d + d, d, 3, shortcut=False), (12,)),
        (Conv(d, c, 1, 1), (13,)),
        (nn.Upsample(scale_factor=2.0, mode="nearest"), (14,)),
        (Concat(1), (15, 4)),
        (c3(c + c, c, 3, shortcut=False), (16,)),
        (Conv(c, c, 3, 2), (17,)),
        (Concat(1), (18, 14)),
        (c3(c + c, d, 3, shortcut=False), (19,)),
        (Conv(d, d, 3, 2), (20,)),
        (Concat(1), (21, 10)),
        (c3(d + d, e, 3, shortcut=False), (22,)),
        (_head(config, [c, d, e]), (17, 20, 23)),
    ]
    for module, _ in graph:
        for part in module.modules():
            if isinstance(part, Conv):
                part.act = nn.SiLU()  # ultralytics removed one activation from SPPF
                part.bn.eps, part.bn.momentum = _BATCH_NORM["eps"], _BATCH_NORM["momentum"]
    return [Layer(module, sources) for module, sources in graph]


def anchors_of(config: DetectorConfig) -> Tensor:
    """The anchors as the head stores them: (3, 3, 2) float32 on the CPU, in units of each level's stride."""
    pixels = torch.tensor(config.anchors, dtype=torch.float32, device="cpu")
    return pixels / torch.tensor(STRIDES, dtype=torch.float32, device="cpu").view(-1, 1, 1)


def _head(config: DetectorConfig, channels: Sequence[int]) -> AnchorDetect:
    """The Detect head. Its biases say that objects are rare and that all classes are equally likely.

    Sources: models/yolo.py, _initialize_biases; Lin et al., arXiv:1708.02002, section 3.3.
    """
    classes = len(config.names)
    # Anchors and strides are not weights: they have values also when the default device is the meta device.
    strides = torch.tensor(STRIDES, dtype=torch.float32, device="cpu")
    head = AnchorDetect(classes, anchors_of(config), strides, list(channels))
    for convolution, stride in zip(head.m, STRIDES, strict=True):
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None  # noqa: S101, PT018  (for mypy)
        with torch.no_grad():
            bias = convolution.bias.view(_ANCHORS, -1)
            bias[:, 4] += math.log(_OBJECTS / (_SIDE / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / (classes - 0.99999))
    return head
