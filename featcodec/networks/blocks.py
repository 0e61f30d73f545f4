"""Layers that several networks use: those of the bottleneck and RecNet (paper, Fig. 2), and YOLOv5's convolution."""

from __future__ import annotations

from torch import Tensor, nn


class ResBlock(nn.Module):
    """x + Conv3x3(SiLU(Conv3x3(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
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


def channel_stack(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    """AE, or AD without its last SiLU: Conv3x3 to hidden, SiLU, ResBlock, Conv3x3 to outputs; no BatchNorm."""
    return [
        nn.Conv2d(inputs, hidden, 3, padding=1),
        nn.SiLU(),
        ResBlock(hidden),
        nn.Conv2d(hidden, outputs, 3, padding=1),
    ]
