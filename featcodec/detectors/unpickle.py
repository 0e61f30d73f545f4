"""Reads checkpoints of detectors without running any pickled code. These checkpoints are pickles of whole module trees.

The pickle is read as data (`pickles`). What it describes as a module tree becomes records, and the tensors of these
modules are read from the archive. The rest of the checkpoint (optimizer, settings, losses) is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from featcodec.detectors.archive import Archive, open_archive
from featcodec.detectors.pickles import ForbiddenCallError, Made, Named, read_pickle
from featcodec.detectors.tensors import TensorReader, is_tensor
from featcodec.errors import WeightsError, reason_of

_NETWORK = "model"  # other parts of a detector, such as a loss, are not used
_MAX_DEPTH = 16
_MAX_MODULES = 5000
_MAX_ITEMS = 200_000
_PACKAGES = {"models": "yolov5", "yolov5": "yolov5", "ultralytics": "ultralytics", "torch": "torch"}
_DETECTORS = {
    "yolov5": ("Model", "DetectionModel"),
    "ultralytics": ("DetectionModel", "SegmentationModel", "PoseModel"),
}
_REMEDY = "use a detection checkpoint from ultralytics/yolov5 or ultralytics"


@dataclass(frozen=True)
class ModuleRecord:
    """One module of a checkpoint, as data.

    Attributes:
        kind: the class name without its package, e.g. "Conv". With its package for any other package than those
            below.
        package: the package of the class: "yolov5", "ultralytics" or "torch"; "" for any other.
        attributes: the plain attributes of the module. Tensors of at most 64 numbers are tensors. Larger ones, and all
            other objects, are `Made`.
        tensors: the module's own parameters and buffers, detached, on the CPU, contiguous.
        children: the submodules by name.
    """

    kind: str
    package: str
    attributes: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    children: Mapping[str, ModuleRecord] = field(default_factory=dict)

    def state(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """All tensors in this module and below it, by their state-dict names."""
        result = {prefix + name: tensor for name, tensor in self.tensors.items()}
        for name, child in self.children.items():
            result.update(child.state(f"{prefix}{name}."))
        return result


def read_checkpoint(path: Path) -> ModuleRecord:
    """The module tree in a `.pt` file of ultralytics/yolov5 (v6, v7) or ultralytics (the u variants).

    Raises:
        WeightsError: the file is missing, is not a checkpoint, is damaged or too large, holds no detector, or calls a
            function that no checkpoint needs.
    """
    with open_archive(path) as archive:
        try:
            content = read_pickle(archive.pickled)
        except ForbiddenCallError as error:
            raise WeightsError(
                f"{path}: refused, because it calls {str(error)[:200]!r}, which no checkpoint of a detector needs; "
                "use another file, or save only the model if the file is yours"
            ) from None
        except Exception as error:  # a hostile pickle can raise any exception
            raise WeightsError(f"{path}: not a readable checkpoint ({reason_of(error)}); download it again") from None
        model = _model_in(path, content)
        try:
            return _Reader(archive).record(model)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(f"{path}: its module tree is damaged ({reason_of(error)}); download it again") from None


def _model_in(path: Path, content: Any) -> Made:
    """The detector in a checkpoint: the moving average of its weights, if there is one."""
    model = content
    if isinstance(content, dict):
        model = content.get("model") if content.get("ema") is None else content["ema"]
    weights = content if model is None else model
    if isinstance(weights, dict) and any(map(is_tensor, weights.values())):
        raise WeightsError(f"{path}: holds no model, only its weights (a state dict); {_REMEDY}")
    if not isinstance(model, (Made, Named)) or is_tensor(model):
        what = "a tensor" if is_tensor(model) else "nothing" if model is None else f"a {type(model).__name__}"
        raise WeightsError(f"{path}: holds no model, but {what} in its place; {_REMEDY}")
    name = model.kind if isinstance(model, Made) else model.name
    package, kind = _split_name(name)
    if isinstance(model, Named) or kind not in _DETECTORS.get(package, ()):
        raise WeightsError(f"{path}: holds {name[:200]!r}, which is not a YOLO model that can be split; {_REMEDY}")
    return model


class _Reader:
    """Makes records out of modules. Counts what it makes, because a pickle can name one part many times."""

    def __init__(self, archive: Archive) -> None:
        self._tensors = TensorReader(archive)
        self._modules = 0
        self._items = 0

    def record(self, module: Made, depth: int = 0) -> ModuleRecord:
        self._modules += 1
        if depth > _MAX_DEPTH or self._modules > _MAX_MODULES:
            raise ValueError("modules nested or repeated without end")
        state = module.state
        if not isinstance(state, dict):
            raise TypeError("a module without attributes")
        children = {
            name: self.record(child, depth + 1)
            for name, child in self._items_of(state.get("_modules", {}))
            if isinstance(child, Made) and (depth or name == _NETWORK)
        }
        tensors = {
            name: self._tensors.read(name, value)
            for group in ("_parameters", "_buffers")
            for name, value in self._items_of(state.get(group, {}))
            if value is not None
        }
        attributes = {
            name: self._tensors.read(name, value) if self._tensors.is_small(value) else value
            for name, value in self._items_of(state)
            if not name.startswith("_")
        }
        package, kind = _split_name(module.kind)
        return ModuleRecord(kind, package, attributes, tensors, children)

    def _items_of(self, mapping: Any) -> list[tuple[str, Any]]:
        if not isinstance(mapping, dict):
            raise TypeError("the parts of a module are not a dict")
        self._items += len(mapping)
        if self._items > _MAX_ITEMS:
            raise ValueError("parts repeated without end")
        if not all(isinstance(name, str) for name in mapping):
            raise TypeError("a part of a module has a name that is not text")
        return list(mapping.items())


def _split_name(name: str) -> tuple[str, str]:
    """(package, kind) of a class name, as a record has them."""
    root, _, rest = name.partition(".")
    if root not in _PACKAGES:
        return "", name[:200]
    return _PACKAGES[root], rest.rpartition(".")[2]
