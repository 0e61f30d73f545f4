"""The model configuration of a detector: the rows from which ultralytics builds it, read from an untrusted file.

A checkpoint of ultralytics holds the configuration that its network was built from (`yaml`), and our own checkpoints of
these detectors hold it, too. A row names a kind of layer, the layers that it takes its input from, and arguments. Only
kinds on the list are taken, and every number is bounded here, before anything is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from featcodec.detectors.attributes import shown
from featcodec.errors import WeightsError

MAX_LAYERS = 64
MAX_CLASSES = 4096
MAX_SOURCES = 8

HEADS = ("Detect", "v10Detect", "Segment", "Segment26", "Pose", "Pose26")
"""Kinds of the last layer: boxes, boxes and masks, boxes and keypoints."""

# Kind -> how many of its first arguments are numbers of channels. All other numbers are small.
_KINDS = {
    "A2C2f": 1,
    "AConv": 1,
    "ADown": 1,
    "Bottleneck": 1,
    "BottleneckCSP": 1,
    "C2f": 1,
    "C2fCIB": 1,
    "C2fPSA": 1,
    "C2PSA": 1,
    "C2": 1,
    "C3": 1,
    "C3Ghost": 1,
    "C3k2": 1,
    "C3x": 1,
    "CBFuse": 0,
    "CBLinear": 1,
    "Concat": 0,
    "Conv": 1,
    "DWConv": 1,
    "ELAN1": 3,
    "GhostBottleneck": 1,
    "GhostConv": 1,
    "nn.Identity": 0,
    "nn.Upsample": 0,
    "PSA": 1,
    "RepNCSPELAN4": 3,
    "SCDown": 1,
    "SPP": 1,
    "SPPELAN": 2,
    "SPPF": 1,
}
_OLD_NAMES = {"Silence": "nn.Identity"}  # YOLOv9's first layer, before ultralytics 8.2.56
_WITHOUT_LEGACY = frozenset({"A2C2f", "C2fCIB", "C3k2"})
"""Behind these, Detect has the lighter class branch (ultralytics' parse_model)."""
_TEXTS = frozenset({"None", "nearest"})
_MAX_CHANNELS = 8192
_RGB = 3
_REPEATED = frozenset(
    {
        *("A2C2f", "Bottleneck", "BottleneckCSP", "C2", "C2f", "C2fCIB", "C2fPSA", "C2PSA"),
        *("C3", "C3Ghost", "C3k2", "C3x"),
    }
)
"""Kinds that repeat their blocks. Every other layer is there once."""
_WITH_LISTS = frozenset({"CBFuse", "CBLinear", "SPP"})
"""Kinds that take lists: channels of several outputs, outputs to take, kernels."""
_MAX_REPEATS = 64
_MAX_BLOCKS = 128  # of the whole network; yolov9e and yolov5x-p6 have 79. To build a block takes some milliseconds
_MAX_ARGUMENTS = 8
_MAX_SMALL = 32
_MAX_FACTOR = 8.0
_MAX_REG = 64
_MAX_KEYPOINTS = 1024
_PLAIN_SCALE = "none"

Argument = int | float | bool | str | None | tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        sources: the layers that its inputs come from; a negative number counts back from this layer.
        repeats: how often its blocks are repeated, before the depth multiple.
        kind: the kind of layer, as ultralytics' configurations name it.
        arguments: its arguments, without those that follow from its inputs.
    """

    sources: tuple[int, ...]
    repeats: int
    kind: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Configuration:
    """A network without its weights.

    Attributes:
        rows: the layers; the last one is the head.
        classes: number of classes.
        scale: the letter of its size, n to x; ultralytics gives larger sizes other blocks. "none" where it has none.
        depth, width: factors for the repeats and for the channels.
        max_channels: channels before the factor are at most so many; infinity means any number.
        reg_max: bins of the distribution over each side of a box; 1 means that sides are predicted as they are.
        end2end: whether the head answers without non-maximum suppression.
        keypoints: keypoints per object and numbers per keypoint (2, or 3 with visibility) of a pose head.
    """

    rows: tuple[Row, ...]
    classes: int
    scale: str = _PLAIN_SCALE
    depth: float = 1.0
    width: float = 1.0
    max_channels: float = math.inf
    reg_max: int = 16
    end2end: bool = False
    keypoints: tuple[int, int] | None = None

    @property
    def head(self) -> str:
        """The kind of the last layer."""
        return self.rows[-1].kind

    @property
    def legacy(self) -> bool:
        """Whether the head has the class branch of YOLOv8 and before."""
        return not any(row.kind in _WITHOUT_LEGACY for row in self.rows)

    def with_classes(self, classes: int) -> Configuration:
        """The same network for another number of classes."""
        return replace(self, classes=classes)

    def mapping(self) -> dict[str, Any]:
        """The configuration as JSON can hold it; `read_configuration` reads it."""
        limit = None if math.isinf(self.max_channels) else self.max_channels
        rows = [[list(row.sources), row.repeats, row.kind, list(row.arguments)] for row in self.rows]
        return {
            "nc": self.classes,
            "scale": self.scale,
            "scales": {self.scale: [self.depth, self.width, limit]},
            "reg_max": self.reg_max,
            "end2end": self.end2end,
            **({} if self.keypoints is None else {"kpt_shape": list(self.keypoints)}),
            "backbone": rows,
            "head": [],
        }


def read_configuration(content: Any) -> Configuration:
    """Check a configuration that ultralytics, `Configuration.mapping` or anybody else wrote.

    Args:
        content: what the file holds in its place.

    Raises:
        WeightsError: it is not a configuration, names a kind of layer that is not on the list, or has a number that no
            such detector has.
    """
    if not isinstance(content, Mapping):
        raise WeightsError(f"its configuration is {shown(content)}, not a table; use a checkpoint of ultralytics")
    found: list[Any] = []
    for name in ("backbone", "head"):
        part = content.get(name)
        found.extend(part if isinstance(part, (list, tuple)) and len(part) <= MAX_LAYERS else [None] * MAX_LAYERS)
    if not 2 <= len(found) <= MAX_LAYERS:
        raise WeightsError(f"its configuration does not have 2 to {MAX_LAYERS} layers; use a detection checkpoint")
    _check_channels(content)
    for index, row in enumerate(found):
        _check_kind(index, row)
    rows = tuple(_row(index, row) for index, row in enumerate(found))
    if rows[-1].kind not in HEADS or any(row.kind in HEADS for row in rows[:-1]):
        raise WeightsError(
            f"its last layer is {rows[-1].kind}, or another is a head, too; a detector ends in its only head "
            f"({', '.join(HEADS)})"
        )
    scale, depth, width, limit = _scale(content)
    depth = _real(depth, "depth")
    blocks = sum(_blocks(row, depth) for row in rows)
    if blocks > _MAX_BLOCKS:
        raise WeightsError(f"its layers have {blocks:.0f} blocks, more than any such detector; download it again")
    return Configuration(
        rows=rows,
        classes=_whole(content.get("nc", 80), "nc", 1, MAX_CLASSES),
        scale=scale,
        depth=depth,
        width=_real(width, "width"),
        max_channels=math.inf
        if limit is None or limit == math.inf
        else _whole(limit, "max_channels", 1, _MAX_CHANNELS),
        reg_max=_whole(content.get("reg_max", 16), "reg_max", 1, _MAX_REG),
        end2end=rows[-1].kind == "v10Detect" or _flag(content.get("end2end")),
        keypoints=_keypoints(content.get("kpt_shape")) if rows[-1].kind.startswith("Pose") else None,
    )


def _check_channels(content: Mapping[str, Any]) -> None:
    channels = content.get("channels", content.get("ch"))
    if channels not in (None, _RGB):
        one = f"{shown(channels)} channel{'' if channels == 1 else 's'}"
        raise WeightsError(f"it takes pictures of {one}, not of {_RGB}; use a detector for RGB pictures")


def _check_kind(index: int, row: Any) -> None:
    """Refuse a row of another family by its kind, before an earlier row is refused by its numbers."""
    if not isinstance(row, (list, tuple)) or len(row) != 4:
        raise WeightsError(f"layer {index} of its configuration is not a row of four; download it again")
    kind = row[2]
    if not isinstance(kind, str) or _OLD_NAMES.get(kind, kind) not in (*_KINDS, *HEADS):
        raise WeightsError(
            f"layer {index} is {shown(kind)}, which is not a layer of YOLOv5, YOLOv8 to v10, YOLO11, YOLO12 or YOLO26; "
            "use a checkpoint of one of these"
        )


def _row(index: int, row: Any) -> Row:
    origin, repeats, name, arguments = row
    kind = _OLD_NAMES.get(name, name)
    origins = origin if isinstance(origin, (list, tuple)) else [origin]
    if not 1 <= len(origins) <= MAX_SOURCES or not all(
        type(each) is int and -index - 1 <= each < max(index, 1) for each in origins
    ):
        raise WeightsError(f"layer {index} ({kind}) takes its input from {shown(origin)}; download it again")
    if not isinstance(arguments, (list, tuple)) or len(arguments) > _MAX_ARGUMENTS:
        raise WeightsError(f"layer {index} ({kind}) has {shown(arguments)} as its arguments; download it again")
    checked = tuple(_argument(index, kind, place, each) for place, each in enumerate(arguments))
    most = _MAX_REPEATS if kind in _REPEATED else 1
    return Row(tuple(origins), _whole(repeats, f"repeats of {kind}", 1, most), kind, checked)


def _blocks(row: Row, depth: float) -> float:
    """How many blocks a layer has."""
    if row.kind == "RepNCSPELAN4":  # two chains, as long as its last argument says
        return 2.0 * sum(value for value in row.arguments[3:] if type(value) is int)
    return row.repeats * max(depth, 1.0 / row.repeats) if row.kind in _REPEATED else 1.0


def _argument(index: int, kind: str, place: int, value: Any) -> Argument:
    """An argument, if it is a plain value within the bounds of its place."""
    if kind in HEADS:  # the numbers of a head stand beside the rows, but for its masks
        return _whole(value, f"argument of {kind}", 1, _MAX_CHANNELS) if type(value) is int else None
    is_channels = place < _KINDS[kind]
    most = _MAX_CHANNELS if is_channels else _MAX_SMALL
    if kind in _WITH_LISTS and isinstance(value, (list, tuple)) and 1 <= len(value) <= MAX_SOURCES:
        return tuple(_whole(each, f"argument of {kind}", 0, most) for each in value)
    if type(value) is int and (1 if is_channels else -1) <= value <= most:
        return value
    if not is_channels and (value is None or isinstance(value, bool) or (isinstance(value, str) and value in _TEXTS)):
        return None if value == "None" else value
    if not is_channels and type(value) is float and 0 <= value <= _MAX_FACTOR:
        return value
    raise WeightsError(
        f"layer {index} ({kind}) has the argument {shown(value)}, which no such layer has; download it again"
    )


def _scale(content: Mapping[str, Any]) -> tuple[str, Any, Any, Any]:
    """Letter, depth, width and most channels; ultralytics' first configurations have factors and no letter."""
    scales = content.get("scales")
    if not scales:
        return _PLAIN_SCALE, content.get("depth_multiple", 1.0), content.get("width_multiple", 1.0), None
    scale = content.get("scale") or next(iter(scales)) if isinstance(scales, Mapping) else None
    values = scales.get(scale) if isinstance(scale, str) else None
    if not isinstance(scale, str) or len(scale) > len(_PLAIN_SCALE):
        raise WeightsError(f"its configuration has the scale {shown(scale)}; download it again")
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise WeightsError(
            f"its configuration has no depth, width and channels for the scale {scale!r}; download it again"
        )
    return scale, *values


def _keypoints(value: Any) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise WeightsError(f"its keypoints are {shown(value)}, not two numbers; download it again")
    return _whole(value[0], "keypoints", 1, _MAX_KEYPOINTS), _whole(value[1], "numbers of a keypoint", 2, 3)


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise WeightsError(f"{name} {shown(value)} is not a whole number from {least} to {most}; download it again")
    return value


def _real(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not 0 < value <= _MAX_FACTOR:
        raise WeightsError(f"{name} {shown(value)} is not above 0 and up to {_MAX_FACTOR:g}; download it again")
    return float(value)


def _flag(value: Any) -> bool:
    if value is not None and type(value) is not bool:
        raise WeightsError(f"end2end is {shown(value)}, not True or False; download it again")
    return bool(value)
