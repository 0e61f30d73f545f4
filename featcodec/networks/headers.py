"""The header of a safetensors file, checked before any tensor is read: a header can claim anything.

The format: 8 bytes with the header's length, the header in JSON, the raw numbers of the tensors one after another.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 1 << 30
"""The largest size of a checkpoint of featcodec: of its file, and of its numbers once they are float32 or int64."""
MAX_HEADER_BYTES = 8 << 20  # 4096 class names of 200 characters that are escaped twice
_METADATA = "__metadata__"
_MAX_DIMENSIONS = 8
_DTYPES = {
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "I8": torch.int8,
    "U8": torch.uint8,
}


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself.

    Attributes:
        metadata: texts by name.
        tensors: the tensors by name, on the meta device: shapes and types without numbers.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, Tensor]


def read_header(path: Path) -> Header:
    """Read and check the header of a file that `check_regular` has accepted.

    Raises:
        ValueError, TypeError: the header is damaged, or the tensors are of a kind or size that featcodec never writes.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        text = file.read(length)
    content = parse_json(text.decode())
    if not isinstance(content, dict):
        raise TypeError("the header is not a JSON object")
    metadata = content.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise TypeError("its metadata are not texts")
    tensors = {name: _claimed(name, entry) for name, entry in content.items()}
    built = sum(tensor.numel() * (4 if tensor.is_floating_point() else 8) for tensor in tensors.values())
    if built > MAX_BYTES:
        raise ValueError(f"its numbers take {built >> 20} MiB in memory, more than any checkpoint of featcodec")
    return Header(metadata, tensors)


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, is nested too deep, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a JSON object with a key twice")
    return entries


def _claimed(name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise TypeError(f"{name!r:.80} is not described as a tensor")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise TypeError(f"{name!r:.80} holds numbers of the type {dtype!r:.20}, which featcodec never writes")
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS or math.prod(shape) > MAX_BYTES:
        raise ValueError(f"{name!r:.80} has an impossible shape")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r:.80} has no place in the file")
    tensor = torch.empty(shape, dtype=_DTYPES[dtype], device="meta")
    if offsets[1] - offsets[0] != tensor.numel() * tensor.element_size():
        raise ValueError(f"{name!r:.80} has another size than its shape")
    return tensor


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= MAX_BYTES for value in values)
