"""Reads tensors. What the pickle claims of them is checked against what the archive holds before it is used."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from featcodec.detectors.archive import Archive
from featcodec.detectors.pickles import STORAGE, Made, Named

_PLAIN = ("torch._utils._rebuild_tensor_v2",)
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
_TENSOR_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_DTYPES = {
    "BFloat16": torch.bfloat16,
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Short": torch.int16,
}
_MAX_DIMENSIONS = 8
_SMALL = 64


class TensorReader:
    """Reads tensors from an archive. All of them together hold no more bytes than the file.

    Without this limit, many tensors could share one storage, and each would get its own copy.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._left = archive.size
        self._storages: dict[str, Tensor] = {}

    def read(self, name: str, value: Any) -> Tensor:
        """The tensor that the pickle describes: detached, on the CPU, contiguous.

        Raises:
            TypeError: it is not a plain tensor of real numbers.
            ValueError: it claims more numbers than the file holds.
            KeyError: the file does not hold its storage.
            zipfile.BadZipFile: the storage is damaged.
        """
        storage, offset, size, stride = _described(name, value)
        numbers = self._numbers(name, storage)
        count, last = math.prod(size), offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        self._left -= count * numbers.element_size()
        if last >= len(numbers) or count > len(numbers) or self._left < 0:
            raise ValueError(f"{name} claims more numbers than the file holds")
        return numbers.as_strided(size, stride, offset).contiguous()

    @staticmethod
    def is_small(value: Any) -> bool:
        """Whether the tensor is plain and has at most 64 numbers."""
        try:
            return math.prod(_described("", value)[2]) <= _SMALL
        except (TypeError, ValueError):
            return False

    def _numbers(self, name: str, storage: tuple[Any, ...]) -> Tensor:
        """All numbers of a storage, 1-D."""
        _, kind, key, _, count = storage
        short = kind.name.removeprefix("torch.").removesuffix("Storage") if isinstance(kind, Named) else ""
        if short not in _DTYPES or not isinstance(key, str):
            raise TypeError(f"{name} holds numbers of the kind {short[:40]!r}, which no detector has")
        dtype = _DTYPES[short]
        if key not in self._storages:
            data = self._archive.storage(key)
            if not _is_count(count) or not 0 < count * dtype.itemsize <= len(data):
                raise ValueError(f"{name} claims more numbers than the file holds")
            numbers = torch.frombuffer(data, dtype=dtype, count=count)
            if self._archive.big_endian:
                numbers = torch.from_numpy(numbers.view(torch.uint8).numpy().reshape(count, -1)[:, ::-1].copy())
                numbers = numbers.flatten().view(dtype)
            self._storages[key] = numbers
        numbers = self._storages[key]
        if numbers.dtype != dtype:
            raise TypeError(f"{name} shares its numbers with a tensor of another kind")
        return numbers


def is_tensor(value: Any) -> bool:
    """Whether a value out of a pickle describes a tensor of any kind."""
    return isinstance(value, Made) and (
        value.kind.startswith("torch._utils._rebuild_") or value.kind in (_WITH_ATTRIBUTES, *_TENSOR_CLASSES)
    )


def _described(name: str, value: Any) -> tuple[tuple[Any, ...], int, tuple[int, ...], tuple[int, ...]]:
    """(storage, offset, size, stride) of a plain tensor; the storage is not checked yet."""
    kind, arguments = _call_of(value)
    if kind == _WITH_ATTRIBUTES and len(arguments) == 4:  # a tensor or parameter with attributes of its own
        function, of_type, inner, _ = arguments
        if isinstance(of_type, Named) and of_type.name in _TENSOR_CLASSES and isinstance(function, Named):
            kind, arguments = function.name, inner
    if kind in _PARAMETERS and isinstance(arguments, tuple) and arguments:
        kind, arguments = _call_of(arguments[0])
    if kind not in _PLAIN or not isinstance(arguments, tuple) or not 6 <= len(arguments) <= 7:
        raise TypeError(f"{name} is not a plain tensor")
    if len(arguments) == 7 and arguments[6]:
        raise TypeError(f"{name} is not a plain tensor, but one that is negated or conjugated")
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, Made) or storage.kind != STORAGE or not isinstance(storage.arguments, tuple):
        raise TypeError(f"{name} has no storage")
    if len(storage.arguments) != 5 or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise TypeError(f"{name} is not a plain tensor")
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS or not all(map(_is_count, (offset, *size, *stride))):
        raise ValueError(f"{name} has an impossible shape")
    if 0 in size:
        raise ValueError(f"{name} is empty")
    return storage.arguments, offset, size, stride


def _call_of(value: Any) -> tuple[str, Any]:
    return (value.kind, value.arguments) if isinstance(value, Made) else ("", ())


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 40
