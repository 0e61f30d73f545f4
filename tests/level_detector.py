"""A YOLOv5 detector behind whose split several tensors cross, as behind the backbones of later detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import featcodec.split_model
import featcodec.training.bottleneck
import featcodec.training.recnet
from featcodec.detectors import SplitDetector, load_detector
from featcodec.detectors.layers import Layer
from featcodec.networks import checkpoints
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.networks.features import Features, features_of_levels, levels_of
from featcodec.privacy import crossing
from featcodec.split_model import SplitModel

DEEP = 9
"""Behind SPPF, the outputs of layers 4, 6 and 9 cross."""
LEVELS = (4, 6, 9)


class LevelDetector(SplitDetector):
    """A detector that is cut behind layer 9."""

    def __init__(self, detector: SplitDetector) -> None:
        layers = [Layer(module, sources) for module, sources in zip(detector.layers, detector.sources, strict=True)]
        super().__init__(layers, detector.names, detector.fingerprint)
        self.split = DEEP
        self.eval().requires_grad_(False)

    def front(self, images: Tensor) -> Features:  # type: ignore[override]
        value = images.to(self.device, self.dtype)
        levels = []
        for place, layer in enumerate(self.layers[: DEEP + 1]):
            value = layer(value)
            if place in LEVELS:
                levels.append(value)
        return features_of_levels(levels)

    def neck(self, features: Features) -> list[Tensor]:  # type: ignore[override]
        kept = dict(zip(LEVELS, levels_of(features), strict=True))
        for place in range(DEEP + 1, len(self.layers) - 1):
            inputs = [kept[source] for source in self.sources[place]]
            kept[place] = self.layers[place](inputs if len(inputs) > 1 else inputs[0])
        return [kept[source] for source in self.sources[-1]]

    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """For 64x64 pixels."""
        return tuple(tuple(level.shape[1:]) for level in levels_of(self.front(torch.zeros(1, 3, 64, 64))))  # type: ignore[misc]

    def feature_shape(self, width: int, height: int) -> tuple[int, int, int]:
        channels, side, _ = self.shapes()[0]
        return channels, height * side // 64, width * side // 64


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all stages load such a detector, until `SplitDetector` itself is cut there."""

    def load(*arguments: Any, **options: Any) -> LevelDetector:
        return LevelDetector(load_detector(*arguments, **{**options, "split": 4}))

    def load_model(detector: Path, bottleneck: Path | None, **_: Any) -> SplitModel:
        learned = None if bottleneck in (None, "none") else load_bottleneck(Path(str(bottleneck)))
        return SplitModel(load(detector, device="cpu", half=False), learned)

    def shapes(detector: SplitDetector) -> tuple[tuple[int, int, int], ...]:
        assert isinstance(detector, LevelDetector)
        return detector.shapes()

    monkeypatch.setattr(featcodec.training.bottleneck, "load_detector", load)
    monkeypatch.setattr(featcodec.split_model.SplitModel, "load", staticmethod(load_model))
    monkeypatch.setattr(checkpoints, "MAX_SPLIT", max(checkpoints.MAX_SPLIT, DEEP))
    for home in (crossing, featcodec.training.bottleneck, featcodec.training.recnet):
        monkeypatch.setattr(home, "feature_shapes", shapes)
