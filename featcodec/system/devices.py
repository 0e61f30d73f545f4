"""Chooses the device to compute on, and how it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from featcodec.errors import InputError

R = TypeVar("R")


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name.

    Args:
        name: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:N or mps.

    Raises:
        InputError: this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:N or mps") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise InputError(f"device {name} is not on this machine; use `device` auto, or run `featcodec doctor`")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU with instructions for bfloat16 (AVX512-BF16). Other CPUs compute it slower than float32."""
    # torch promises nothing about this name; without it, everything computes in float32.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and asked is not None and bool(asked())


PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")


def choose_precision(name: str | None, half: bool | None, device: torch.device) -> torch.dtype:
    """The precision in which networks compute.

    Args:
        name: one of `PRECISIONS`. "auto" means float16 on CUDA, bfloat16 on a CPU that computes it fast, else float32.
            None means the same, but float32 on every CPU. "int8" means the same as "auto" on a CPU; only AD computes
            in int8 (`featcodec.networks.int8`).
        half: the older way to say it: True means float16, False means float32.
        device: where the networks are.

    Raises:
        InputError: there is no such precision, or both are given and contradict each other.
    """
    if name is not None and name not in PRECISIONS:
        raise InputError(f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}")
    if half is not None:
        older = torch.float16 if half else torch.float32
        if name not in (None, "auto") and getattr(torch, name, None) is not older:
            raise InputError(f"`precision` {name} and `half` contradict each other; leave out `half`")
        return older
    if name == "int8":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in (None, "auto"):
        chosen: torch.dtype = getattr(torch, name)
        return chosen
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if name == "auto" and has_fast_bfloat16(device) else torch.float32


def one_by_one(
    networks: Callable[..., R],
    *batches: Tensor,
    join: Callable[[list[R]], R] = cast("Any", torch.cat),  # noqa: B008
) -> R:
    """Call networks on a batch; on a CPU, on each image of it alone.

    There, one image takes less time than its part of a batch, because what it needs stays in the caches. And the
    result of an image is the same to the last bit, whatever its neighbours are: for batches of another size, oneDNN
    may sum in another order.

    Args:
        networks: takes tensors of (B, ...), and returns a batch of results.
        batches: tensors of (B, ...) on one device, B at least 1.
        join: makes one batch of those of the images; `torch.cat` for tensors.
    """
    if batches[0].device.type != "cpu" or len(batches[0]) == 1:
        return networks(*batches)
    places = range(len(batches[0]))
    return join([networks(*(batch[place : place + 1] for batch in batches)) for place in places])
