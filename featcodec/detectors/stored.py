"""Detectors that featcodec trained: safetensors with the configuration that their network is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.detectors.graph import Layer
from featcodec.detectors.yolov5 import DetectorConfig, build_yolov5
from featcodec.errors import FeatcodecError, WeightsError
from featcodec.networks.checkpoints import load_checkpoint, save_checkpoint

KIND = "detector"
SUFFIX = ".safetensors"
_PREFIX = "model."  # as in YOLOv5's checkpoints
_ANCHORS = "24.anchors"


def save_detector(path: Path, config: DetectorConfig, layers: nn.ModuleList, *, half: bool = True) -> None:
    """Write a `.safetensors` checkpoint; `load_detector` reads it. BatchNorm stays unfolded: training can go on.

    Args:
        path: the file.
        config: what `layers` were built from; the anchors stand there and not among the tensors.
        layers: the 25 modules, model.0 to model.24.
        half: store numbers as float16, as YOLOv5 releases its weights; False keeps float32.

    Raises:
        WeightsError: a number is beyond float16's range.
        OutputError: it cannot be written.
    """
    state = {name: tensor.detach() for name, tensor in layers.state_dict().items() if name != _ANCHORS}
    save_checkpoint(path, KIND, asdict(config), {_PREFIX + name: tensor for name, tensor in state.items()}, half=half)


def read_detector(path: Path) -> tuple[DetectorConfig, list[Layer]]:
    """Read a checkpoint of `save_detector`.

    Returns:
        its configuration, and the layers with their weights in float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: missing, damaged, no detector, or a configuration that contradicts the weights.
    """
    content, state = load_checkpoint(path, KIND)
    try:
        config = _config(content)
        # On the meta device nothing is allocated before the stored shapes have been found to match.
        with torch.device("meta"):
            layers = build_yolov5(config)
        network = nn.ModuleList(layer.module for layer in layers)
        expected = network.state_dict()
        anchors = expected.pop(_ANCHORS)
        stored = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
        _check_tensors(stored, expected)
        weights = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
        network.load_state_dict({**weights, _ANCHORS: anchors}, assign=True)
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError, FeatcodecError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f"{path}: its config does not fit its weights ({reason}); train it again") from None
    network.eval().requires_grad_(False)
    return config, layers


def _config(content: Mapping[str, Any]) -> DetectorConfig:
    """The configuration, with the types that JSON does not promise."""
    names, training = content["names"], content["training"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("class names that are no text")
    if not isinstance(training, dict):
        raise TypeError(f"training {str(training)[:80]!r}")
    multiples = (content["depth_multiple"], content["width_multiple"])
    if any(isinstance(multiple, bool) or not isinstance(multiple, (int, float)) for multiple in multiples):
        raise TypeError(f"multiples {str(multiples)[:80]}")
    anchors = tuple(
        tuple((float(width), float(height)) for width, height in level) for level in list(content["anchors"])
    )
    return DetectorConfig(tuple(names), *multiples, anchors, training)


def _check_tensors(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError for a tensor too few or too many, or of another size or kind."""
    if strange := sorted(stored.keys() ^ expected.keys()):
        raise ValueError(f"{strange[0]} is {'missing' if strange[0] in expected else 'none of its tensors'}")
    for name, tensor in stored.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(expected[name].shape)}")
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise ValueError(f"{name} holds {tensor.dtype}")
