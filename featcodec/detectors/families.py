"""Builds a detector from its configuration, with ultralytics' own modules: YOLOv8 to v10, YOLO11, YOLO12 and YOLO26.

On torch's meta device nothing is allocated. So a configuration out of an untrusted file is built there, and measured,
before a weight is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import ultralytics
import yaml  # type: ignore[import-untyped, unused-ignore]
from torch import nn
from ultralytics.nn.tasks import parse_model

from featcodec.detectors.anchor_free import AnchorFree, build_head
from featcodec.detectors.configuration import Configuration, Row, read_configuration
from featcodec.detectors.layers import Layer
from featcodec.detectors.measure import Bounded, layer_shapes
from featcodec.errors import InputError, WeightsError, reason_of

_BATCH_NORM = {"eps": 1e-3, "momentum": 0.03}  # ultralytics' initialize_weights
_MAX_OUTPUTS = 512  # numbers per pixel of the picture; 4096 classes make 90 behind the usual strides of 8 to 32
_MAX_WEIGHTS = 1 << 26  # of one tensor; a convolution of yolov5x-p6 has 15 million
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What ultralytics' constructors raise for numbers that do not fit together."""
_RENAMED = re.compile(r"(yolov5[nsmlx])(6?)u")  # the files of YOLOv5's anchor-free weights, and its P6 models
_NAME = re.compile(r"(yolov?\d+)([nstmblcex]?)(-[a-z0-9]+)?(-[a-z0-9]+)?")


def configuration_of(name: str) -> Configuration:
    """The configuration of one of ultralytics' detectors, for the classes that it names (COCO's 80).

    Args:
        name: for example yolo11n, yolov8s, yolov9c or yolo26m-seg.

    Raises:
        InputError: ultralytics has no such detector, or it is not one that can be split.
    """
    hint = "give a name like yolo11n, yolov8s, yolov9t or yolo26m"
    files, scale = _files(name)
    if not files:
        raise InputError(f"there is no architecture {name[:60]!r}; {hint}")
    content = yaml.safe_load(files[0].read_bytes())
    if content.get("scales") and scale not in content["scales"]:
        sizes = ", ".join(content["scales"])
        raise InputError(f"there is no architecture {name!r}: its sizes are {sizes}; {hint}")
    try:
        return read_configuration({**content, "scale": scale})
    except WeightsError as error:
        raise InputError(f"the architecture {name} cannot be split: {error}") from None


def is_architecture(name: str) -> bool:
    """Whether ultralytics has a configuration of that name."""
    return bool(_files(name)[0])


def _files(name: str) -> tuple[list[Path], str]:
    """The file of a configuration, and the letter of its size. YOLOv9 and v10 have one file per size."""
    renamed = _RENAMED.fullmatch(name)
    if renamed is not None:
        name = renamed[1] + ("-p6" if renamed[2] else "")
    parts = _NAME.fullmatch(name)
    if parts is None:
        return [], ""
    family, scale, *further = (part or "" for part in parts.groups())
    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    return [*folder.glob(f"*/{name}.yaml"), *folder.glob(f"*/{family}{''.join(further)}.yaml")], scale


def build_layers_of(configuration: Configuration) -> list[Layer]:
    """The layers of a configuration, with random weights from torch's generator; float32, in training mode.

    Raises:
        WeightsError: its layers do not fit together, or are larger than those of any such detector.
    """
    *rows, last = configuration.rows
    with torch.device("meta"):
        with Bounded(_MAX_WEIGHTS):
            measured = _body(configuration, rows)
        shapes = layer_shapes(measured)
    sources = _absolute(last, len(rows))
    inputs = [shapes[source] for source in sources]
    if min(sources) < 0 or any(shape is None for shape in inputs):
        raise WeightsError("its head takes the picture, or what is not one tensor; download it again")
    known = [shape for shape in inputs if shape is not None]
    body = _body(configuration, rows)
    try:
        head = build_head(configuration, [shape.channels for shape in known])
    except _FAILURES as error:
        raise WeightsError(f"its head cannot be built ({reason_of(error)}); download it again") from None
    head.stride = torch.tensor([float(shape.stride) for shape in known], device="cpu")
    _check_outputs(configuration, head, [shape.stride for shape in known])
    for part in head.modules():
        _set_batch_norm(part)
    return [*body, Layer(head, sources)]


def _check_outputs(configuration: Configuration, head: AnchorFree, strides: list[int]) -> None:
    """Refuse a head that makes more numbers than that of any known detector."""
    numbers = 4 * configuration.reg_max + head.task.rows
    prototypes = getattr(head, "npr", 0) * (2 / min(strides)) ** 2
    per_pixel = prototypes + sum(numbers / stride**2 for stride in strides)
    if per_pixel > _MAX_OUTPUTS:
        raise WeightsError(
            f"its head makes {per_pixel:.0f} numbers per pixel, more than that of any such detector; use another file"
        )


def _body(configuration: Configuration, rows: list[Row]) -> list[Layer]:
    """All layers but the head."""
    content = {
        "nc": configuration.classes,
        "scale": configuration.scale,
        "scales": {configuration.scale: [configuration.depth, configuration.width, configuration.max_channels]},
        "backbone": [_as_ultralytics(row) for row in rows],
        "head": [],
    }
    try:
        modules, _ = parse_model(content, ch=3, verbose=False)
    except WeightsError as error:
        raise WeightsError(f"a layer of its configuration {error}") from None
    except _FAILURES as error:
        raise WeightsError(f"its configuration cannot be built ({reason_of(error)}); download it again") from None
    for part in modules.modules():
        _set_batch_norm(part)
    return [Layer(module, _absolute(row, index)) for index, (module, row) in enumerate(zip(modules, rows, strict=True))]


def _as_ultralytics(row: Row) -> list[Any]:
    origin = row.sources[0] if len(row.sources) == 1 else list(row.sources)
    return [origin, row.repeats, row.kind, [list(each) if isinstance(each, tuple) else each for each in row.arguments]]


def _absolute(row: Row, index: int) -> tuple[int, ...]:
    return tuple(index + source if source < 0 else source for source in row.sources)


def _set_batch_norm(part: nn.Module) -> None:
    if isinstance(part, nn.BatchNorm2d):
        part.eps, part.momentum = _BATCH_NORM["eps"], _BATCH_NORM["momentum"]
