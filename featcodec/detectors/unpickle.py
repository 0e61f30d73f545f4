"""Reads YOLOv5 checkpoints without running any pickled code. These checkpoints are pickles of whole module trees.

torch's weights-only unpickler runs no code. The module classes that a checkpoint names are replaced by inert classes,
which only store their attributes. A checkpoint that names a class outside the list is refused; the message names it.
"""

from __future__ import annotations

import contextlib
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
)

from featcodec.errors import WeightsError, reason_of
from featcodec.system.files import check_regular

MAX_CHECKPOINT_BYTES = 2 << 30
_MAX_DEPTH = 16
_MAX_MODULES = 5000

_TORCH_MODULES = tuple(
    f"torch.nn.modules.{name}"
    for name in (
        "activation.Hardswish",
        "activation.LeakyReLU",
        "activation.ReLU",
        "activation.SiLU",
        "batchnorm.BatchNorm2d",
        "container.ModuleList",
        "container.Sequential",
        "conv.Conv2d",
        "linear.Identity",
        "pooling.MaxPool2d",
        "upsampling.Upsample",
    )
)
_YOLOV5_MODULES = (
    *("models.yolo.Model", "models.yolo.DetectionModel", "models.yolo.Detect"),
    *(f"models.common.{name}" for name in ("Conv", "C3", "Bottleneck", "SPPF", "Concat")),
)
_ULTRALYTICS_MODULES = (
    "ultralytics.nn.tasks.DetectionModel",
    *(f"ultralytics.nn.modules.conv.{name}" for name in ("Conv", "Concat")),
    *(f"ultralytics.nn.modules.block.{name}" for name in ("C3", "Bottleneck", "SPPF", "DFL")),
    "ultralytics.nn.modules.head.Detect",
)
# Classes that training leaves in a checkpoint besides the network. They are read but not used.
_BYSTANDERS = (
    "argparse.Namespace",
    # Only Python 3.13 has these classes in pathlib._local.
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("Path", "PosixPath", "WindowsPath")),
    *("ultralytics.utils.IterableSimpleNamespace", "ultralytics.yolo.utils.IterableSimpleNamespace"),
    *(f"{numpy}.multiarray.{name}" for numpy in ("numpy.core", "numpy._core") for name in ("scalar", "_reconstruct")),
    *("numpy.ndarray", "numpy.dtype", "numpy.float64", "datetime.datetime"),
)


_safe_globals_lock = threading.Lock()


class _Inert:
    """Stores the attributes that a pickle gives it, and does nothing else."""

    kind = ""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


_STAND_INS = {
    name: type(name.rpartition(".")[2], (_Inert,), {"kind": name})
    for name in (*_TORCH_MODULES, *_YOLOV5_MODULES, *_ULTRALYTICS_MODULES, *_BYSTANDERS)
}


@dataclass(frozen=True)
class ModuleRecord:
    """One module of a checkpoint, as data.

    Attributes:
        kind: the class name without its package, e.g. "Conv".
        package: the package of the class: "yolov5", "ultralytics" or "torch".
        attributes: the plain attributes of the module.
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
        WeightsError: the file is missing, is not a checkpoint, is damaged or too large, or names a class that is not on
            the list.
    """
    _check_archive(path)
    try:
        with _safe_globals([]):
            names = set(get_unsafe_globals_in_checkpoint(path))
    except Exception as error:  # a hostile pickle can raise any exception
        raise WeightsError(f"{path}: not a readable checkpoint ({reason_of(error)}); download it again") from None
    if refused := sorted(names - _STAND_INS.keys()):
        raise WeightsError(
            f"{path}: refused, because it needs the Python class {refused[0]}, which no YOLOv5 detector has; "
            "use a detection checkpoint from ultralytics/yolov5 or ultralytics"
        )
    try:
        with _safe_globals([(_STAND_INS[name], name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path}: refused by torch's unpickler ({reason_of(error)}); download it again") from None
    model = content
    if isinstance(content, dict):
        model = content.get("model") if content.get("ema") is None else content["ema"]
    if not isinstance(model, _Inert):
        raise WeightsError(f"{path}: holds no model, only {type(model).__name__}; use a checkpoint of a whole detector")
    try:
        return _record(model, [0], 0)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its module tree is damaged ({reason_of(error)}); download it again") from None


@contextlib.contextmanager
def _safe_globals(allowed: list[Any]) -> Iterator[None]:
    """Let torch's unpickler make only these classes, not even the real classes that other code has registered."""
    with _safe_globals_lock:  # torch has one list for the whole process
        others = get_safe_globals()
        clear_safe_globals()
        try:
            add_safe_globals(allowed)
            yield
        finally:
            clear_safe_globals()
            add_safe_globals(others)


def _check_archive(path: Path) -> None:
    check_regular(path, MAX_CHECKPOINT_BYTES, WeightsError, what="YOLOv5", remedy="use another file")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: not a PyTorch checkpoint ({reason_of(error)}); download it again") from None
    if size > MAX_CHECKPOINT_BYTES:
        raise WeightsError(f"{path}: unpacks to {size >> 20} MiB, larger than any YOLOv5; use another file")


def _record(module: _Inert, count: list[int], depth: int) -> ModuleRecord:
    count[0] += 1
    if depth > _MAX_DEPTH or count[0] > _MAX_MODULES:
        raise ValueError("modules nested or repeated without end")
    state = vars(module)
    children = {
        str(name): _record(child, count, depth + 1)
        for name, child in dict(state.get("_modules", {})).items()
        if isinstance(child, _Inert)
    }
    tensors = {}
    for group in ("_parameters", "_buffers"):
        for name, tensor in dict(state.get(group, {})).items():
            if tensor is not None:
                tensors[str(name)] = _own(str(name), tensor)
    attributes = {name: value for name, value in state.items() if isinstance(name, str) and not name.startswith("_")}
    package, _, kind = module.kind.rpartition(".")
    root = package.partition(".")[0]
    return ModuleRecord(kind, "yolov5" if root == "models" else root, attributes, tensors, children)


def _own(name: str, tensor: Any) -> torch.Tensor:
    """The tensor, if the file really holds all its numbers. With a stride of 0, a tensor could claim any size."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        raise TypeError(f"{name} is not a plain tensor")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name} claims more numbers than the file holds")
    return tensor.detach().contiguous()
