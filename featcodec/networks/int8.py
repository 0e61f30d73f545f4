"""Convolutions in int8, for CPUs with instructions for it (AVX512-VNNI).

Weights are rounded once, with one step per output channel. What a convolution is given is rounded at each call, with a
step and a zero point that follow from its own range. So nothing has to be calibrated, and an image's result does not
depend on other images. Sums are exact, in 32 bits.
"""

from __future__ import annotations

import copy
import math
from functools import cache
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from featcodec.errors import InputError

_LARGEST = 127
"""Of a rounded weight. -128 is left out, so that weights are symmetric."""
_LEVELS = 255
"""Steps between the smallest and the largest input."""
_ZERO_POINT = 128
"""While weights are packed. Any other than 0 makes room for the correction that zero points need."""
_SMALLEST_STEP = 1e-30
"""Its inverse is still a float32."""
_AGREES = 0.05
"""Largest relative error in the trial, whose usual error is 0.01."""


class Int8Conv2d(nn.Module):
    """A convolution that computes in int8 what another one computes in floating point. It cannot be trained.

    Args:
        convolution: of one group, with numbers as padding; it is not changed.
        silu: compute SiLU of the output, too.
    """

    def __init__(self, convolution: nn.Conv2d, *, silu: bool = False) -> None:
        super().__init__()
        self._then = "swish" if silu else "none"
        weight = convolution.weight.detach().float()
        self._steps = (weight.abs().amax((1, 2, 3)) / _LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = (weight / self._steps[:, None, None, None]).round().to(torch.int8)
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = None if convolution.bias is None else convolution.bias.detach().float()
        self._places = [list(convolution.stride), list(cast("Any", convolution.padding)), list(convolution.dilation), 1]
        self._packed = torch.ops.onednn.qconv_prepack(
            rounded, self._steps, 1.0, _ZERO_POINT, *self._places, [1, weight.shape[1], 32, 32]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W') in the dtype of `x`, float32 or bfloat16."""
        if len(x) > 1:
            return torch.cat([self(each[None]) for each in x])
        x = x.contiguous(memory_format=torch.channels_last)
        # In this order, the range is found without a copy.
        low, high = (float(end) for end in torch.aminmax(x.permute(0, 2, 3, 1)))
        is_broken = not math.isfinite(high - low)
        if is_broken:
            x, low, high = torch.zeros_like(x), 0.0, 0.0
        low, high = min(low, 0.0), max(high, 0.0)
        step = max((high - low) / _LEVELS, _SMALLEST_STEP)
        zero = round(-low / step)
        # Few passes over memory: the half makes the conversion, which cuts off, round.
        rounded = torch.add(torch.tensor([zero + 0.5]), x, alpha=1 / step).clamp_(0, _LEVELS).to(torch.uint8)
        output: Tensor = torch.ops.onednn.qconv2d_pointwise(
            rounded, step, zero, self._packed, self._steps, self._zeros, self._bias, *self._places,
            1.0, 0, x.dtype, self._then, [None], "",
        )  # fmt: skip
        return output.fill_(math.nan) if is_broken else output


@cache
def has_fast_int8() -> bool:
    """Whether this CPU computes convolutions in int8 faster than in bfloat16, and right."""
    # torch promises nothing about these names; without them, nothing computes in int8.
    asked = getattr(torch.cpu, "_is_vnni_supported", None)
    if asked is None or not asked():
        return False
    try:
        return _agrees()
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def computes_in_int8(precision: str | None, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether AD computes in int8.

    Args:
        precision: what was asked for, one of `devices.PRECISIONS` or None. "auto" takes int8 where the other networks
            compute in bfloat16 and this CPU is faster in int8.
        device, dtype: of the networks.

    Raises:
        InputError: int8 was asked for, but this device does not compute it.
    """
    is_fast = device.type == "cpu" and has_fast_int8()
    if precision == "int8" and not is_fast:
        raise InputError("`precision` int8 needs a CPU with AVX512-VNNI; use auto")
    return precision == "int8" or (precision == "auto" and is_fast and dtype is torch.bfloat16)


def _agrees() -> bool:
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(16, 16, 3, padding=1)
    with torch.no_grad():
        for parameter in convolution.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = torch.randn((1, 16, 8, 8), generator=generator)
        expected = convolution(x)
        return bool((Int8Conv2d(convolution)(x) - expected).norm() < _AGREES * expected.norm())


def in_int8(network: nn.Module) -> nn.Module:
    """A copy of a network whose convolutions of one group compute in int8.

    A SiLU that follows a convolution is computed with it.

    Args:
        network: on the CPU; float32 or bfloat16; not changed.
    """
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        children = [*parent.named_children(), ("", None)]
        for (name, child), (next_name, following) in pairwise(children):
            if isinstance(child, nn.Conv2d) and child.groups == 1 and not isinstance(child.padding, str):
                silu = isinstance(parent, nn.Sequential) and isinstance(following, nn.SiLU)
                setattr(parent, name, Int8Conv2d(child, silu=silu))
                if silu:
                    setattr(parent, next_name, nn.Identity())
    return network
