"""Loads a `SplitDetector` from a name or a path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from ultralytics.nn.modules import Bottleneck, Conv, RepConv, RepVGGDW

from featcodec.detectors.agreement import layers_of_record
from featcodec.detectors.anchor_free import AnchorFree
from featcodec.detectors.attention import bound_attention
from featcodec.detectors.attributes import whole
from featcodec.detectors.configuration import Configuration
from featcodec.detectors.families import build_layers_of, configuration_of, is_architecture
from featcodec.detectors.graph import build_layers, is_yolov5
from featcodec.detectors.head import AnchorDetect
from featcodec.detectors.layers import Layer
from featcodec.detectors.split import SplitDetector
from featcodec.detectors.stored import SUFFIX, FamilyConfig, read_detector
from featcodec.detectors.unpickle import ModuleRecord, read_checkpoint
from featcodec.errors import InputError, WeightsError, reason_of
from featcodec.fingerprints import FINGERPRINT_BYTES
from featcodec.networks.catalogue import SHIPPED_DETECTORS
from featcodec.networks.checkpoints import fingerprint
from featcodec.networks.weights import locate_weights
from featcodec.system.devices import choose_device, choose_precision

_MAX_NAME_LENGTH = 200
_PROOF_SIDE = 64


def load_detector(
    name_or_path: str | Path = "yolov5n",
    *,
    split: int | None = None,
    device: str = "auto",
    half: bool | None = None,
    precision: str | None = None,
    fuse: bool = True,
    nms: bool = True,
) -> SplitDetector:
    """Load a detector, ready to run.

    Args:
        name_or_path: a `.pt` file, a `.safetensors` file of `featcodec train detector`, or a name such as yolov5n,
            yolov5m, yolov5mu or scenes (`featcodec models`).
        split: the last layer of the front-end; None means 4, or the first layer behind which this detector can be cut
            (`SplitDetector.splits`).
        device: auto, cpu, cuda, cuda:N or mps.
        half, precision: in what to compute; None means float16 on CUDA and else float32 (`devices.choose_precision`).
        fuse: fold BatchNorm into the convolutions; this is faster, and the results are equal up to rounding.
        nms: False takes the branch of YOLOv10 and YOLO26 that needs no NMS. ultralytics takes the other one, too,
            unless it is asked.

    Raises:
        WeightsError: the weights are missing, refused or damaged.
        InputError: the split, the device or the precision does not exist, or the detector needs NMS.
    """
    where = choose_device(device)
    dtype = choose_precision(precision, half, where)
    path = locate_weights(name_or_path, _read)
    layers, names, described = _read(path)
    if any("\ud800" <= character <= "\udfff" for name in names for character in name):
        raise WeightsError(f"{path}: its class names are not text; download it again")
    digest = fingerprint(*(layer.module.state_dict() for layer in layers), structure=_structure(layers) + described)
    _choose_branch(layers[-1].module, path, nms=nms)
    if fuse:
        layers = [Layer(_fuse(layer.module), layer.sources) for layer in layers]
    for layer in layers:
        bound_attention(layer.module)
    try:
        detector = SplitDetector(layers, names, digest, split).eval().requires_grad_(False)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    _prove(detector, path)
    detector = detector.to(where, dtype)
    return detector.to(memory_format=torch.channels_last)


def detector_outline(name_or_path: str | Path) -> SplitDetector:
    """A detector to look at, not to run: of an architecture such as yolo11n, its weights are not needed.

    Args:
        name_or_path: an architecture of ultralytics; or what `load_detector` takes.

    Raises:
        WeightsError: the weights are missing, refused or damaged.
        InputError: there is no such architecture.
    """
    name = str(name_or_path)
    if name in SHIPPED_DETECTORS or Path(name).suffix or not is_architecture(name):
        return load_detector(name_or_path, device="cpu", fuse=False)  # as an architecture: BatchNorm's weights count
    configuration = configuration_of(name)
    with torch.device("meta"):
        layers = build_layers_of(configuration)
    names = [str(index) for index in range(configuration.classes)]
    return SplitDetector(layers, names, bytes(FINGERPRINT_BYTES)).eval().requires_grad_(False)


def _read(path: Path) -> tuple[list[Layer], Sequence[str], str]:
    """Layers (eval mode, float32, BatchNorm not folded), class names and configuration, of both kinds of checkpoint.

    The configuration is a text. It is empty for YOLOv5, where the layers say it all.
    """
    if path.suffix.lower() == SUFFIX:
        config, layers = read_detector(path)
        return layers, config.names, _described(config.layers()) if isinstance(config, FamilyConfig) else ""
    record = read_checkpoint(path)
    try:
        if is_yolov5(record):
            return build_layers(record), _class_names(record), ""
        configuration, layers = layers_of_record(record)
        return layers, _class_names(record), _described(configuration)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def _choose_branch(head: nn.Module, path: Path, *, nms: bool) -> None:
    if nms:
        return
    if not isinstance(head, AnchorFree) or not head.has_two_branches:
        raise InputError(f"{path}: has no branch that needs no NMS, as YOLOv10 and YOLO26 have; use `nms`")
    head.end2end = True


def _described(configuration: Configuration) -> str:
    return json.dumps(configuration.mapping(), sort_keys=True)


def _structure(layers: Sequence[Layer]) -> str:
    """A text with everything that changes the predictions of equal weights: wiring, strides, activations, constants."""
    described = []
    for layer in layers:
        described.append(f"{type(layer.module).__name__.strip('_')}{layer.sources}")
        for name, part in layer.module.named_modules():
            if isinstance(part, Conv):
                constant = "" if isinstance(part.bn, nn.Identity) else f":{part.bn.eps:g}"
                described.append(f"{name}:{type(part.act).__name__}:{part.conv.stride}:{part.conv.padding}{constant}")
            elif isinstance(part, (RepConv, RepVGGDW)):
                described.append(f"{name}:{type(part.act).__name__}")
            elif isinstance(part, Bottleneck):
                described.append(f"{name}:{part.add}")
            elif isinstance(part, nn.MaxPool2d):
                described.append(f"{name}:{part.kernel_size}")
        strides = getattr(layer.module, "strides" if isinstance(layer.module, AnchorDetect) else "stride", None)
        if isinstance(strides, torch.Tensor):
            described.append(str(strides.tolist()))
    return "\n".join(described)


def _prove(detector: SplitDetector, path: Path) -> None:
    """Run the graph once, to find layers that do not fit together and weights that are not finite."""
    try:
        with torch.inference_mode():
            predictions = detector.back(detector.front(torch.zeros(1, 3, _PROOF_SIDE, _PROOF_SIDE)))
    except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its layers do not fit together ({reason_of(error)}); download it again") from None
    if predictions.shape[1] != detector.task.rows or not torch.isfinite(predictions).all():
        raise WeightsError(f"{path}: its predictions are not finite boxes; download it again")


def _class_names(record: ModuleRecord) -> Sequence[str]:
    classes = whole(list(record.children["model"].children.values())[-1], "nc")
    names: Any = record.attributes.get("names")
    if names is None or (isinstance(names, (dict, list, tuple)) and not names):
        names = {}
    if isinstance(names, dict):
        if not all(type(index) is int and 0 <= index < classes for index in names):
            raise WeightsError(f"its class names are not those of the classes 0..{classes - 1}; download it again")
        names = [names.get(index, f"class{index}") for index in range(classes)]
    if isinstance(names, (list, tuple)) and len(names) != classes:
        raise WeightsError(f"{classes} classes, but {len(names)} class names; use another checkpoint")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, (str, int)) for name in names):
        raise WeightsError("its class names are not text; download it again")
    return [str(name)[:_MAX_NAME_LENGTH] for name in names]


def _fuse(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if isinstance(part, Conv) and not isinstance(part.bn, nn.Identity):
            part.conv = fuse_conv_bn_eval(part.conv, part.bn)
            part.bn = nn.Identity()
    return module
