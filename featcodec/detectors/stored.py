"""Checkpoints of detectors that featcodec trained: safetensors files with weights and a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from featcodec.detectors.configuration import Configuration, read_configuration
from featcodec.detectors.families import build_layers_of
from featcodec.detectors.layers import Layer
from featcodec.detectors.yolov5 import MAX_NAME_LENGTH, DetectorConfig, build_yolov5
from featcodec.errors import WeightsError
from featcodec.networks.checkpoints import config_from, load_network, save_checkpoint

KIND = "detector"
SUFFIX = ".safetensors"
_PREFIX = "model."  # as in YOLOv5's checkpoints
_ANCHORS = "24.anchors"


@dataclass(frozen=True)
class FamilyConfig:
    """The definition of a detector of ultralytics' families, without its weights.

    Attributes:
        names: class names, one per class id.
        configuration: its layers (`Configuration.mapping`).
        training: how the detector was trained (stage, data, hyper-parameters, metrics); free form, for people.

    Raises:
        WeightsError: the configuration is not one, or has another number of classes.
    """

    names: tuple[str, ...]
    configuration: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.layers().classes != len(self.names):
            raise WeightsError(f"{len(self.names)} class names for {self.layers().classes} classes; train it again")
        if any(not 1 <= len(name) <= MAX_NAME_LENGTH for name in self.names):
            raise WeightsError(f"a class name is empty or has over {MAX_NAME_LENGTH} characters; rename the class")

    def layers(self) -> Configuration:
        """The configuration, checked."""
        return read_configuration(self.configuration)


def save_detector(
    path: Path, config: DetectorConfig | FamilyConfig, layers: nn.ModuleList, *, half: bool = True
) -> None:
    """Write a `.safetensors` checkpoint; `load_detector` reads it. BatchNorm is not folded, so training can go on.

    Args:
        path: the file.
        config: the configuration that `layers` were built from; YOLOv5's holds the anchors, the stored tensors do not.
        layers: the modules, model.0 to model.24 for YOLOv5.
        half: store numbers as float16, like the released YOLOv5 weights; False keeps float32.

    Raises:
        WeightsError: a number is too large for float16.
        OutputError: the file cannot be written.
    """
    state = {name: tensor.detach() for name, tensor in layers.state_dict().items() if name != _ANCHORS}
    save_checkpoint(path, KIND, asdict(config), {_PREFIX + name: tensor for name, tensor in state.items()}, half=half)


def read_detector(path: Path) -> tuple[DetectorConfig | FamilyConfig, list[Layer]]:
    """Read a checkpoint that `save_detector` wrote.

    Returns:
        the configuration, and the layers with their weights in float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, is damaged or is not a detector, or its configuration contradicts its
            weights.
    """
    network = load_network(path, KIND, _read_config, _Network)
    return network.config, network.layers


def build_detector(config: DetectorConfig | FamilyConfig) -> list[Layer]:
    """The layers of a detector, with random weights from torch's generator; float32, in training mode."""
    return build_yolov5(config) if isinstance(config, DetectorConfig) else build_layers_of(config.layers())


def _read_config(content: Mapping[str, Any]) -> DetectorConfig | FamilyConfig:
    if "configuration" in content:
        return config_from(FamilyConfig, content)
    return config_from(DetectorConfig, content)


class _Network(nn.Module):
    """The layers of a detector, named as in YOLOv5's checkpoints. The anchors come from the configuration."""

    def __init__(self, config: DetectorConfig | FamilyConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = build_detector(config)
        self.model = nn.ModuleList(layer.module for layer in self.layers)
