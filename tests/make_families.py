"""Checkpoints of ultralytics' families, YOLOv5u to YOLO26: built and saved by ultralytics itself, random weights."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before ultralytics, which is therefore imported in the function)

NAMES = ["cat", "dog", "newt"]


def make_family(name: str, *, classes: int = 3, seed: int = 0) -> Any:
    """A model out of one of ultralytics' configurations, in eval mode, float32. No activation of it is degenerate.

    Args:
        name: as ultralytics names it, like "yolo11n" or "yolo26n-seg".
        classes: number of classes.
        seed: of the weights.
    """
    return copy.deepcopy(_made(name, classes, seed))


@lru_cache(maxsize=4)
def _made(name: str, classes: int, seed: int) -> Any:
    from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel, yaml_model_load

    kind = SegmentationModel if "-seg" in name else PoseModel if "-pose" in name else DetectionModel
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(yaml_model_load(f"{name}.yaml"), nc=classes, verbose=False)
        model.names = dict(enumerate(NAMES[:classes]))
        settle(model)
    return model


def settle(model: nn.Module) -> None:
    """Give BatchNorm random weights and the statistics of random pictures, and every output a random bias."""
    for name, part in model.named_modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0  # the statistics of the last batch
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
        elif isinstance(part, nn.Conv2d) and part.bias is not None and "dfl" not in name:
            nn.init.normal_(part.bias)  # ultralytics' start gives scores of 1e-5 everywhere
    model.train()
    with torch.no_grad():
        model(torch.rand(4, 3, 64, 64))
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.03
    model.eval().requires_grad_(False)


def save_family(path: Path, model: nn.Module, /, **further: Any) -> Path:
    """Save as ultralytics' trainer and `strip_optimizer` do."""
    content = {"epoch": -1, "best_fitness": None, "model": model, "ema": None, "updates": None, "optimizer": None}
    torch.save({**content, "train_args": {"imgsz": 640}, "date": "2026-01-01", "version": "8.4.0", **further}, path)
    return path


def pictures(width: int = 64, height: int = 64, count: int = 1) -> Tensor:
    """Random pictures, always the same."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3))


def answers(model: Any, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """What ultralytics' own forward answers: the predictions, and the prototypes of masks."""
    with torch.inference_mode():
        found = model.float().eval()(images)[0]
    return found if isinstance(found, tuple) else (found, None)
