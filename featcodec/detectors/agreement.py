"""Fills the modules that were built from a configuration with a checkpoint's weights, where both agree.

A checkpoint holds a tree of modules and the configuration of its network. The network is built from the configuration.
Then the tree must have the same kinds of modules in the same places, with the same numbers, and weights of the same
shapes. What a configuration does not say, the tree says: activations, and the constants of BatchNorm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from featcodec.detectors.anchor_free import AnchorFree
from featcodec.detectors.attributes import child, real, shown, whole
from featcodec.detectors.configuration import MAX_CLASSES, Configuration, read_configuration
from featcodec.detectors.details import ACTIVATIONS
from featcodec.detectors.families import build_layers_of
from featcodec.detectors.graph import plain
from featcodec.detectors.layers import Layer
from featcodec.detectors.unpickle import ModuleRecord
from featcodec.errors import WeightsError, reason_of
from featcodec.networks.checkpoints import check_tensors

_SAME_KINDS = {"SyncBatchNorm": "BatchNorm2d", "Silence": "Identity"}
# Those of a run, those that are taken over, and those of ultralytics' own forward.
_NOT_COMPARED = frozenset(
    (
        *("training", "inplace", "i", "f", "type", "np", "momentum", "eps"),
        *("legacy", "dynamic", "export", "format", "max_det", "shape", "xyxy", "agnostic_nms"),
    )
)
_MAX_COMPARED = 16


def layers_of_record(model: ModuleRecord) -> tuple[Configuration, list[Layer]]:
    """The configuration and the layers of a detector of ultralytics' families, with their weights.

    The layers are in eval mode, frozen, in float32, on the CPU.

    Raises:
        WeightsError: the configuration is not one of these families', or the modules do not agree with it.
    """
    records = list(child(model, "model").children.values())
    if not records:
        raise WeightsError("it has no layers; use a detection checkpoint")
    classes = whole(records[-1], "nc")
    if not 1 <= classes <= MAX_CLASSES:
        raise WeightsError(f"{shown(classes)} classes are outside 1..{MAX_CLASSES}")
    configuration = replace(read_configuration(model.attributes.get("yaml")), classes=classes)
    if len(records) != len(configuration.rows):
        raise WeightsError(
            f"{len(records)} layers, but {len(configuration.rows)} in its configuration; download it again"
        )
    # On the meta device, nothing is allocated before the stored shapes are checked.
    with torch.device("meta"):
        layers = build_layers_of(configuration)
    for index, (layer, record) in enumerate(zip(layers, records, strict=True)):
        try:
            _agree(layer.module, record)
            _check_sources(layer, record, index)
            state = record.state()
            check_tensors(state, layer.module.state_dict())
            layer.module.load_state_dict({name: plain(name, tensor) for name, tensor in state.items()}, assign=True)
        except WeightsError as error:
            raise WeightsError(f"layer {index} ({record.kind}): {error}") from None
        except (IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(
                f"layer {index} ({record.kind}) is damaged: {reason_of(error)}; download it again"
            ) from None
        layer.module.eval().requires_grad_(False)
    _check_strides(layers[-1].module, records[-1])
    return configuration, layers


def _agree(module: nn.Module, record: ModuleRecord) -> None:
    """Check a module against its record, and take over what only the record knows."""
    kind = module.kind if isinstance(module, AnchorFree) else type(module).__name__
    if _SAME_KINDS.get(record.kind, record.kind) != kind:
        raise WeightsError(
            f"{record.kind} in the place of {kind}, which its configuration has there; download it again"
        )
    _compare(module, record)
    if isinstance(module, nn.BatchNorm2d):
        module.eps = real(record, "eps")
    for name, part in module.named_children():
        if name not in record.children:
            _refuse_fused(part, record)
            continue
        found = record.children[name]
        if found.kind in ACTIVATIONS and type(part).__name__ in ACTIVATIONS:
            setattr(module, name, ACTIVATIONS[found.kind](found))
        else:
            _agree(part, found)
    for name in record.children.keys() - dict(module.named_children()).keys():
        if record.children[name].kind != "Identity":
            raise WeightsError(
                f"it has {record.children[name].kind} as {name[:40]!r}, which its configuration does not have there; "
                "download it again"
            )


def _refuse_fused(part: nn.Module, record: ModuleRecord) -> None:
    """A part that is missing must have no weights."""
    if any(True for _ in part.parameters()) or any(True for _ in part.buffers()):
        fused = isinstance(part, nn.BatchNorm2d) or "conv" in record.children
        reason = "it was fused for inference, so parts are missing" if fused else "it lacks parts"
        raise WeightsError(f"{reason} ({type(part).__name__}); use the checkpoint of the training, such as best.pt")


def _compare(module: nn.Module, record: ModuleRecord) -> None:
    """Raise WeightsError if a plain number, flag or text differs. What the record does not have has today's value."""
    for name, expected in vars(module).items():
        if name.startswith("_") or name in _NOT_COMPARED or name not in record.attributes:
            continue
        found = record.attributes[name]
        if _is_plain(expected) and not _same(found, expected):
            raise WeightsError(
                f"{record.kind} with {name} {shown(found)}, not {shown(expected)} as configured; download it again"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return len(value) <= _MAX_COMPARED and all(isinstance(each, (int, float, str)) for each in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _same(found: Any, expected: Any) -> bool:
    # Only plain values are compared: comparing lists that share their parts could take hours.
    if isinstance(expected, (tuple, list)):
        same_length = isinstance(found, (tuple, list)) and len(found) == len(expected)
        return same_length and all(_same(one, other) for one, other in zip(found, expected, strict=True))
    if type(expected) in (int, float) and type(found) in (int, float):
        return bool(found == expected)
    return type(found) is type(expected) and bool(found == expected)


def _check_strides(head: nn.Module, record: ModuleRecord) -> None:
    """The head's strides follow from the layers before it. A stopped run may hold none yet."""
    found = record.attributes.get("stride")
    stored = tuple(found.tolist()) if isinstance(found, Tensor) and found.ndim == 1 else found
    expected = tuple(cast("Tensor", head.stride).tolist())
    if stored not in (None, expected):
        raise WeightsError(f"its head has the strides {shown(stored)}, not {shown(expected)}; download it again")


def _check_sources(layer: Layer, record: ModuleRecord, index: int) -> None:
    origin = record.attributes.get("f")
    origins = origin if isinstance(origin, (list, tuple)) else [origin]
    found = tuple(
        index + each if type(each) is int and each < 0 else each for each in origins[: len(layer.sources) + 1]
    )
    if not all(type(each) is int for each in found) or found != layer.sources:
        raise WeightsError(f"takes its input from {shown(origin)}, unlike its configuration; download it again")
