"""Layers that several networks use: those of the bottleneck and RecNet (paper, Fig. 2), and YOLOv5's convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FULL_STRENGTH_QP = 40
"""From this QP on, a restoration's correction has its full strength. A QP plane is 0 here."""
QPS_PER_DOUBLING = 6
"""VVC's step size doubles every 6 QPs (H.266, clause 8.7.3)."""
_UNCODED = -4.0
"""The plane's value for tensors that were not coded. It is that of QP 16, where coding noise is below one sample."""


class ResBlock(nn.Module):
    """x + Conv3x3(SiLU(Conv3x3(x))).

    Args:
        channels: of input and output.
        normalized: BatchNorm after each convolution, which then has no bias.
    """

    def __init__(self, channels: int, *, normalized: bool = False) -> None:
        super().__init__()
        if normalized:
            last = (nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
            self.body = nn.Sequential(ConvBlock(channels, channels), *last)
        else:
            self.body = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        output: Tensor = x + self.body(x)
        return output


class ConvBlock(nn.Sequential):
    """Conv2d without bias, BatchNorm, SiLU.

    Args:
        inputs, outputs: channels.
        kernel, stride, padding: as in Conv2d, (height, width) or one number for both.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 1,
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
        )


def channel_stack(inputs: int, hidden: int, outputs: int, blocks: int = 1) -> list[nn.Module]:
    """AE, or AD without its last SiLU: Conv3x3 to hidden, SiLU, ResBlocks, Conv3x3 to outputs; no BatchNorm."""
    return [
        nn.Conv2d(inputs, hidden, 3, padding=1),
        nn.SiLU(),
        *(ResBlock(hidden) for _ in range(blocks)),
        nn.Conv2d(hidden, outputs, 3, padding=1),
    ]


def with_qp_plane(tensors: Tensor, qp: Tensor | None) -> Tensor:
    """Add a channel that says how coarsely each tensor was coded.

    The value is (QP - 40) / 6, because VVC's step size doubles every 6 QPs (H.266, clause 8.7.3), but at least -4.

    Args:
        tensors: (B, C, H, W).
        qp: (B,) floating, 0 to 63. None, or 0, means that a tensor was not coded.

    Returns:
        (B, C + 1, H, W) in the dtype of `tensors`.
    """
    if qp is None:
        plane = tensors.new_full((len(tensors), 1, 1, 1), _UNCODED)
    else:
        plane = ((qp.to(tensors) - FULL_STRENGTH_QP) / QPS_PER_DOUBLING).clamp(min=_UNCODED).reshape(-1, 1, 1, 1)
    return torch.cat((tensors, plane.expand(-1, 1, *tensors.shape[2:])), 1)
