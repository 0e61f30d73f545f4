"""Layers that the bottleneck and RecNet share; ResBlock is proven in test_bottleneck.py."""

from __future__ import annotations

import torch
from torch import nn

from featcodec.networks.blocks import ResBlock, channel_stack


def test_channel_stack_is_conv_silu_resblock_conv() -> None:
    layers = channel_stack(5, 4, 3)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.SiLU, ResBlock, nn.Conv2d]
    first, _, block, last = layers
    assert (first.in_channels, first.out_channels) == (5, 4)
    assert (last.in_channels, last.out_channels) == (4, 3)
    for convolution in (first, block.body[0], block.body[2], last):
        assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((3, 3), (1, 1), (1, 1))
    assert nn.Sequential(*layers)(torch.randn(2, 5, 7, 9)).shape == (2, 3, 7, 9)
