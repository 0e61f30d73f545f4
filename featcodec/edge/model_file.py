"""`model.json`: what an edge or a cloud without featcodec's checkpoints must know besides the two ONNX files.

`featcodec export` writes it, `EdgeEncoder` reads it and trusts nobody: every value has a type and a range.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from featcodec.bitstream.side_info import (
    MAX_CHANNELS,
    MAX_CHANNELS_IN_ALL,
    MAX_QP,
    MAX_SPLIT,
    MAX_TENSORS,
    STRIDES,
    TensorShape,
)
from featcodec.errors import FeatcodecError, WeightsError
from featcodec.images.letterbox import Fitting
from featcodec.packing.bands import TensorScale
from featcodec.packing.frames import Packing
from featcodec.packing.quantize import UniformQuantizer
from featcodec.packing.tiling import TileGrid
from featcodec.system.files import read_bounded

FORMAT = 1
MODEL_FILE, EDGE_FILE, CLOUD_FILE = "model.json", "edge.onnx", "cloud.onnx"
REMEDY = "export the model again with `featcodec export`"

_MAX_BYTES = 4 << 20
_MAX_NAMES = 10_000
_MAX_NAME_LENGTH = 200
_MAX_TEXT = 200
_MAX_FURTHER = 4096
_HEX = {"fingerprint": 16, "edge_sha256": 64, "cloud_sha256": 64}
_PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class ModelFile:
    """The content of `model.json`.

    Attributes:
        format: version of the file, `FORMAT`.
        featcodec: the version of featcodec that wrote it.
        detector: the detector's name, for people.
        fingerprint: 16 hex digits that name detector, bottleneck and layout, in the side info of every stream. They
            name the networks that decode, so an int8 edge has the same.
        precision: in what the edge's convolutions compute, float32 or int8.
        bottleneck: whether frames are those of a bottleneck; the video encoder's profiles have options for either.
        split: the last layer of the front-end.
        stride: the letterboxed sides are multiples of so many pixels.
        image_size: pixels of the letterboxed image's longer side.
        square: whether the letterbox is a square.
        tensors: channels and stride (pixels per sample) of each tensor that crosses the wire, the finest first.
        tile_rows, tile_cols: the grid of the finest tensor's tiles.
        clip_low, clip_high, bits: the quantizer.
        default_qp: what an edge uses if it is not told.
        names: class names, one per class id.
        masks: number of mask coefficients in the predictions; 0 without masks.
        keypoints: number of keypoints, and numbers of each, or None.
        needs_nms: whether boxes must be chosen by NMS.
        opset: version of ONNX's operators.
        edge_sha256, cloud_sha256: 64 hex digits, of the two ONNX files.
    """

    format: int
    featcodec: str
    detector: str
    fingerprint: str
    precision: str
    bottleneck: bool
    split: int
    stride: int
    image_size: int
    square: bool
    tensors: tuple[tuple[int, int], ...]
    tile_rows: int
    tile_cols: int
    clip_low: float
    clip_high: float
    bits: int
    default_qp: int
    names: tuple[str, ...]
    masks: int
    keypoints: tuple[int, int] | None
    needs_nms: bool
    opset: int
    edge_sha256: str
    cloud_sha256: str

    @cached_property
    def fitting(self) -> Fitting:
        """How images are fitted into the front-end's input."""
        return Fitting(self.image_size, self.square, self.stride)

    @cached_property
    def packing(self) -> Packing:
        """How the tensors lie in the frame, without the layout, which the networks apply."""
        (channels, finest), *others = self.tensors
        further = tuple(TensorScale(each, stride // finest) for each, stride in others)
        quantizer = UniformQuantizer(self.clip_low, self.clip_high, self.bits)
        return Packing(channels, quantizer, TileGrid(self.tile_rows, self.tile_cols), None, further)

    def tensor_shapes(self, width: int, height: int) -> tuple[TensorShape, ...]:
        """(channels, height, width) of each tensor of a letterboxed image.

        Args:
            width, height: pixels, multiples of `stride`.
        """
        return tuple((channels, height // stride, width // stride) for channels, stride in self.tensors)

    def to_json(self) -> bytes:
        """The bytes of the file."""
        return (json.dumps(asdict(self), indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> ModelFile:
        """Read the bytes of a file that anybody may have written. Unknown fields are skipped: later versions add some.

        Raises:
            WeightsError: it is not the content of such a file, or says something that featcodec never writes.
        """
        try:
            content = json.loads(data, parse_constant=_refuse_constant)
            if not isinstance(content, dict):
                raise ValueError("not a JSON object")
            if content.get("format") != FORMAT:
                raise ValueError(f"format {content.get('format')!r:.40}, but this featcodec reads format {FORMAT}")
            read = cls(**{name: _VALUES[name](content[name], name) for name in cls.__dataclass_fields__})
            read._check()
        except KeyError as error:
            raise WeightsError(f"has no {error.args[0]}; {REMEDY}") from None
        except (ValueError, RecursionError, FeatcodecError) as error:  # an InputError is a ValueError, others are not
            raise WeightsError(f"is not the model file of an exported model ({error}); {REMEDY}") from None
        return read

    def _check(self) -> None:
        channels, strides = zip(*self.tensors, strict=True)
        if list(strides) != sorted(strides) or not set(strides) <= set(STRIDES) or strides[-1] > self.stride:
            raise ValueError(f"tensors of {strides} pixels per sample, which are not powers of two in order")
        if self.stride not in (32, 64) or sum(channels) > MAX_CHANNELS_IN_ALL:
            raise ValueError(f"a stride of {self.stride} pixels, and {sum(channels)} channels")
        if len(self.tensors) > 1 and self.packing.grid.rows != -(-channels[0] // self.tile_cols):
            raise ValueError("a grid with empty rows")
        _ = self.fitting, self.packing  # raise InputError


def read_model_file(path: Path) -> ModelFile:
    """Read `model.json`.

    Raises:
        WeightsError: the file is missing, too large or not such a file.
    """
    data = read_bounded(
        path,
        _MAX_BYTES,
        WeightsError,
        what="model file",
        remedy="give the folder of an exported model",
        unreadable="give a folder that `featcodec export` wrote",
    )
    try:
        return ModelFile.from_json(data)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} where a number belongs")


def _whole(least: int, most: int) -> Any:
    def read(value: Any, name: str) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} is not a whole number from {least} to {most}")
        return value

    return read


def _flag(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{name} is neither true nor false")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{name} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large") from None


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError(f"{name} is not a text of at most {_MAX_TEXT} characters")
    digits = _HEX.get(name)
    if digits is not None and not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
        raise ValueError(f"{name} is not {digits} hex digits")
    if name == "precision" and value not in _PRECISIONS:
        raise ValueError(f"precision is not one of {', '.join(_PRECISIONS)}")
    return value


def _list(value: Any, name: str, most: int) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise ValueError(f"{name} is not a list of 1 to {most}")
    return value


def _names(value: Any, name: str) -> tuple[str, ...]:
    names = _list(value, name, _MAX_NAMES)
    if not all(isinstance(each, str) and len(each) <= _MAX_NAME_LENGTH for each in names):
        raise ValueError(f"{name} are not texts of at most {_MAX_NAME_LENGTH} characters")
    return tuple(names)


def _pair(value: Any, name: str, most: tuple[int, int]) -> tuple[int, int]:
    first, second = value if isinstance(value, list) and len(value) == 2 else (None, None)
    return _whole(1, most[0])(first, name), _whole(1, most[1])(second, name)


def _tensors(value: Any, name: str) -> tuple[tuple[int, int], ...]:
    return tuple(_pair(each, name, (MAX_CHANNELS, STRIDES[-1])) for each in _list(value, name, MAX_TENSORS))


def _keypoints(value: Any, name: str) -> tuple[int, int] | None:
    return None if value is None else _pair(value, name, (_MAX_FURTHER, 3))


_VALUES: Mapping[str, Any] = {
    **dict.fromkeys(("featcodec", "detector", "fingerprint", "precision", "edge_sha256", "cloud_sha256"), _text),
    **dict.fromkeys(("bottleneck", "square", "needs_nms"), _flag),
    **dict.fromkeys(("clip_low", "clip_high"), _number),
    **dict.fromkeys(("tile_rows", "tile_cols"), _whole(1, 255)),
    **dict.fromkeys(("format", "opset"), _whole(1, 1000)),
    "split": _whole(0, MAX_SPLIT),
    "stride": _whole(1, STRIDES[-1]),
    "image_size": _whole(1, 1 << 16),
    "bits": _whole(1, 8),
    "default_qp": _whole(0, MAX_QP),
    "masks": _whole(0, _MAX_FURTHER),
    "tensors": _tensors,
    "names": _names,
    "keypoints": _keypoints,
}
