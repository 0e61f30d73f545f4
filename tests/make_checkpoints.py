"""Small YOLOv5 checkpoints with random weights, in the two forms that exist, and hostile archives around them."""

from __future__ import annotations

import contextlib
import copy
import re
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before ultralytics, which is therefore imported in the function)

NAMES = ["cat", "dog", "newt"]
LAYER_4_CHANNELS = 16
ANCHORS = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
STRIDES = (8.0, 16.0, 32.0)


# What follows mimics ultralytics/yolov5 as far as its checkpoints and its forward pass go. The classes claim that
# repository's modules, and `yolov5_modules` lets pickle find them there.


class Conv(nn.Module):
    __module__ = "models.common"

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))

    def forward_fuse(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class Bottleneck(nn.Module):
    __module__ = "models.common"

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels)
        self.cv2 = Conv(channels, channels, 3)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    __module__ = "models.common"

    def __init__(self, c1: int, c2: int, n: int, shortcut: bool = True) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2 // 2)
        self.cv2 = Conv(c1, c2 // 2)
        self.cv3 = Conv(c2, c2)
        self.m = nn.Sequential(*(Bottleneck(c2 // 2, shortcut) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    __module__ = "models.common"

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 * 2, c2)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        once = self.m(x)
        twice = self.m(once)
        return self.cv2(torch.cat((x, once, twice, self.m(twice)), 1))


class Concat(nn.Module):
    __module__ = "models.common"

    def __init__(self) -> None:
        super().__init__()
        self.d = 1

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.d)


class Detect(nn.Module):
    __module__ = "models.yolo"
    anchors: Tensor

    def __init__(self, classes: int, channels: list[int]) -> None:
        super().__init__()
        self.nc, self.no, self.nl, self.na = classes, classes + 5, 3, 3
        self.stride = torch.tensor(STRIDES)
        self.register_buffer("anchors", torch.tensor(ANCHORS).float().view(3, 3, 2) / self.stride.view(3, 1, 1))
        self.m = nn.ModuleList(nn.Conv2d(channel, self.no * 3, 1) for channel in channels)
        for convolution in self.m:
            nn.init.normal_(convolution.weight, 0, 0.2)

    def forward(self, x: list[Tensor]) -> Tensor:
        """(B, boxes, 5 + classes): x, y, w, h, objectness, classes, as ultralytics/yolov5 gives them."""
        boxes = []
        for level, (convolution, feature) in enumerate(zip(self.m, x, strict=True)):
            output = convolution(feature)
            batch, _, rows, columns = output.shape
            output = output.view(batch, 3, self.no, rows, columns).permute(0, 1, 3, 4, 2).sigmoid()
            grid_y, grid_x = np.mgrid[:rows, :columns]
            grid = torch.from_numpy(np.stack((grid_x, grid_y), -1)).float()
            stride = STRIDES[level]
            xy = (output[..., :2] * 2 - 0.5 + grid) * stride
            wh = (output[..., 2:4] * 2) ** 2 * (self.anchors[level] * stride).view(1, 3, 1, 1, 2)
            boxes.append(torch.cat((xy, wh, output[..., 4:]), -1).reshape(batch, -1, self.no))
        return torch.cat(boxes, 1)


class Model(nn.Module):
    __module__ = "models.yolo"

    def __init__(self, classes: int, names: Any) -> None:
        super().__init__()
        a, b, c, d, e = (LAYER_4_CHANNELS * factor // 4 for factor in (1, 2, 4, 8, 16))
        layers: list[tuple[int | list[int], nn.Module]] = [
            (-1, Conv(3, a, 6, 2, 2)),
            (-1, Conv(a, b, 3, 2)),
            (-1, C3(b, b, 1)),
            (-1, Conv(b, c, 3, 2)),
            (-1, C3(c, c, 2)),
            (-1, Conv(c, d, 3, 2)),
            (-1, C3(d, d, 3)),
            (-1, Conv(d, e, 3, 2)),
            (-1, C3(e, e, 1)),
            (-1, SPPF(e, e)),
            (-1, Conv(e, d)),
            (-1, nn.Upsample(None, 2, "nearest")),
            ([-1, 6], Concat()),
            (-1, C3(e, d, 1, False)),
            (-1, Conv(d, c)),
            (-1, nn.Upsample(None, 2, "nearest")),
            ([-1, 4], Concat()),
            (-1, C3(d, c, 1, False)),
            (-1, Conv(c, c, 3, 2)),
            ([-1, 14], Concat()),
            (-1, C3(d, d, 1, False)),
            (-1, Conv(d, d, 3, 2)),
            ([-1, 10], Concat()),
            (-1, C3(e, e, 1, False)),
            ([17, 20, 23], Detect(classes, [c, d, e])),
        ]
        for index, (origin, layer) in enumerate(layers):
            layer.i, layer.f, layer.type = index, origin, type(layer).__name__
        self.model = nn.Sequential(*(layer for _, layer in layers))
        self.save = [4, 6, 10, 14, 17, 20, 23]
        self.names = names
        self.nc = classes
        self.stride = torch.tensor(STRIDES)
        self.yaml = {"nc": classes, "anchors": ANCHORS}

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for layer in self.model:
            sources = layer.f if isinstance(layer.f, list) else [layer.f]
            inputs = [x if source == -1 else outputs[source] for source in sources]
            x = layer(inputs if isinstance(layer.f, list) else inputs[0])
            outputs.append(x)
        return x


class DetectionModel(Model):
    """v7 renamed it."""

    __module__ = "models.yolo"


@contextlib.contextmanager
def yolov5_modules() -> Iterator[None]:
    """Pretend that ultralytics/yolov5's code is importable."""
    package = types.ModuleType("models")
    common, yolo = types.ModuleType("models.common"), types.ModuleType("models.yolo")
    for part in (Conv, Bottleneck, C3, SPPF, Concat):
        setattr(common, part.__name__, part)
    for part in (Detect, Model, DetectionModel):
        setattr(yolo, part.__name__, part)
    fakes = {"models": package, "models.common": common, "models.yolo": yolo}
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def make_yolov5(names: Any = NAMES, *, classes: int = 3, kind: type[Model] = Model, seed: int = 0) -> Model:
    """An original-style detector with random weights, in eval mode and half precision."""
    model = copy.deepcopy(_made_yolov5(classes, kind, seed))
    model.names = copy.copy(names)
    return model


@lru_cache(maxsize=8)
def _made_yolov5(classes: int, kind: type[Model], seed: int) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(classes, None)
        _settle(model)
    return model.half()


def fuse_yolov5(model: Model) -> Model:
    """Fold BatchNorm into the convolutions, as ultralytics/yolov5's fuse() does."""
    for part in model.float().modules():
        if isinstance(part, Conv):
            part.conv = fuse_conv_bn_eval(part.conv, part.bn)
            del part.bn
            part.forward = part.forward_fuse
    return model


def save_yolov5(path: Path, model: nn.Module, /, **further: Any) -> Path:
    """Save as ultralytics/yolov5's train.py does, with what it leaves beside the network."""
    content = {
        "epoch": -1,
        "best_fitness": np.array([0.25]),
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "opt": {"weights": Path("yolov5n.pt"), "lr": np.float64(0.01)},
        "date": "2024-01-01T00:00:00",
        **further,
    }
    with yolov5_modules():
        torch.save(content, path)
    return path


def make_yolov5u(names: Mapping[int, str] | None = None, *, old_sppf: bool = False, seed: int = 0) -> Any:
    """An anchor-free detector out of ultralytics' own yolov5n.yaml with random weights, in eval mode, half precision.

    Args:
        names: class names.
        old_sppf: with SiLU behind SPPF's first convolution, as ultralytics had it when the yolov5u weights were made;
            now it has no activation there.
        seed: of the weights.
    """
    model = copy.deepcopy(_made_yolov5u(old_sppf, seed))
    model.names = dict(names or enumerate(NAMES))
    return model


@lru_cache(maxsize=8)
def _made_yolov5u(old_sppf: bool, seed: int) -> Any:
    from ultralytics.nn.tasks import DetectionModel as UltralyticsModel
    from ultralytics.nn.tasks import yaml_model_load

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = UltralyticsModel(yaml_model_load("yolov5n.yaml"), nc=len(NAMES), verbose=False)
        model.model[9].cv1.act = nn.SiLU(inplace=True) if old_sppf else nn.Identity()
        for branch in model.model[-1].cv3:
            nn.init.normal_(branch[-1].bias)  # ultralytics' start gives scores of 1e-5 everywhere
        _settle(model)
    return model.half()


def save_yolov5u(path: Path, model: nn.Module, /, **further: Any) -> Path:
    """Save as ultralytics' trainer and `strip_optimizer` do."""
    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": {"task": "detect", "imgsz": 640, "data": "coco.yaml"},
        "train_metrics": {"metrics/mAP50(B)": 0.5, "fitness": np.float64(0.25)},
        "date": "2024-01-01T00:00:00",
        "version": "8.3.0",
        **further,
    }
    torch.save(content, path)
    return path


def _settle(model: nn.Module) -> None:
    """Give BatchNorm the statistics of random pictures, so that activations neither vanish nor explode."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.5
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.rand(2, 3, 128, 96))
    model.eval().requires_grad_(False)


def write_archive(path: Path, pickled: bytes, **storages: bytes) -> Path:
    """A file in torch's zip format around a hand-made pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for name, data in storages.items():
            archive.writestr(f"archive/data/{name}", data)
        archive.writestr("archive/version", "3\n")
    return path


def rename_classes(source: Path, target: Path, old: bytes, new: bytes) -> Path:
    """A copy of a checkpoint whose pickle has other names, found by a regular expression."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copied:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("data.pkl"):
                content, count = re.subn(old, new, content)
                assert count, "nothing was renamed"
            copied.writestr(name, content)
    return target
