"""Checkpoints of detectors that featcodec trained: safetensors files with weights and a configuration."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from torch import nn

from featcodec.detectors.layers import Layer
from featcodec.detectors.yolov5 import DetectorConfig, build_yolov5
from featcodec.networks.checkpoints import config_from, load_network, save_checkpoint

KIND = "detector"
SUFFIX = ".safetensors"
_PREFIX = "model."  # as in YOLOv5's checkpoints
_ANCHORS = "24.anchors"


def save_detector(path: Path, config: DetectorConfig, layers: nn.ModuleList, *, half: bool = True) -> None:
    """Write a `.safetensors` checkpoint; `load_detector` reads it. BatchNorm is not folded, so training can go on.

    Args:
        path: the file.
        config: the configuration that `layers` were built from; it holds the anchors, the stored tensors do not.
        layers: the 25 modules, model.0 to model.24.
        half: store numbers as float16, like the released YOLOv5 weights; False keeps float32.

    Raises:
        WeightsError: a number is too large for float16.
        OutputError: the file cannot be written.
    """
    state = {name: tensor.detach() for name, tensor in layers.state_dict().items() if name != _ANCHORS}
    save_checkpoint(path, KIND, asdict(config), {_PREFIX + name: tensor for name, tensor in state.items()}, half=half)


def read_detector(path: Path) -> tuple[DetectorConfig, list[Layer]]:
    """Read a checkpoint that `save_detector` wrote.

    Returns:
        the configuration, and the layers with their weights in float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, is damaged or is not a detector, or its configuration contradicts its
            weights.
    """
    network = load_network(path, KIND, partial(config_from, DetectorConfig), _Network)
    return network.config, network.layers


class _Network(nn.Module):
    """The layers of a detector, named as in YOLOv5's checkpoints. The anchors come from the configuration."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = build_yolov5(config)
        self.model = nn.ModuleList(layer.module for layer in self.layers)
