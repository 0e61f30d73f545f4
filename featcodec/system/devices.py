"""Chooses the device to compute on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from featcodec.errors import InputError


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


@contextlib.contextmanager
def beside_other_work(threads: int) -> Iterator[None]:
    """Let torch use few CPU threads inside the block, because other work keeps the cores busy.

    OpenMP threads spin while they wait for each other. So on busy cores, a network runs many times slower with two
    threads than with one. The number of threads holds for the whole process. It is set back at the end.

    Args:
        threads: the largest number of threads, at least 1.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU with instructions for bfloat16 (AVX512-BF16). Other CPUs compute it slower than float32."""
    # torch promises nothing about this name; without it, everything computes in float32.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and asked is not None and bool(asked())
