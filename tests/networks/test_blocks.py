"""Layers that the bottleneck and RecNet share; ResBlock is proven in test_bottleneck.py."""

from __future__ import annotations

import torch
from torch import nn

from featcodec.networks.blocks import ConvBlock, ResBlock, channel_stack, with_qp_plane


def test_channel_stack_is_conv_silu_resblock_conv() -> None:
    layers = channel_stack(5, 4, 3)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.SiLU, ResBlock, nn.Conv2d]
    first, _, block, last = layers
    assert (first.in_channels, first.out_channels) == (5, 4)
    assert (last.in_channels, last.out_channels) == (4, 3)
    for convolution in (first, block.body[0], block.body[2], last):
        assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((3, 3), (1, 1), (1, 1))
    assert nn.Sequential(*layers)(torch.randn(2, 5, 7, 9)).shape == (2, 3, 7, 9)


def test_conv_block_is_convolution_norm_and_activation() -> None:
    block = ConvBlock(3, 4)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.BatchNorm2d, nn.SiLU]
    assert block[0].bias is None
    assert block(torch.randn(2, 3, 8, 6)).shape == (2, 4, 8, 6)
    assert ConvBlock(3, 4, stride=(2, 1))(torch.randn(2, 3, 8, 6)).shape == (2, 4, 4, 6)
    assert ConvBlock(3, 4, 1, padding=0)(torch.randn(2, 3, 8, 6)).shape == (2, 4, 8, 6)
    assert ConvBlock(3, 4, (4, 1), padding=0)(torch.randn(2, 3, 8, 6)).shape == (2, 4, 5, 6)


def test_the_qp_plane_is_one_more_channel_that_doubles_with_the_step_size() -> None:
    tensors = torch.randn(4, 3, 2, 5)
    planes = with_qp_plane(tensors, torch.tensor([40.0, 46, 34, 0]))
    assert planes.shape == (4, 4, 2, 5)
    assert torch.equal(planes[:, :3], tensors)
    for index, value in enumerate((0, 1, -1, -4)):
        assert (planes[index, 3] == value).all()


def test_tensors_that_were_not_coded_look_like_qp_16_and_less() -> None:
    tensors = torch.randn(1, 3, 2, 2)
    uncoded = with_qp_plane(tensors, None)
    for qp in (0.0, 2, 16):
        assert torch.equal(with_qp_plane(tensors, torch.tensor([qp])), uncoded)
    assert not torch.equal(with_qp_plane(tensors, torch.tensor([18.0])), uncoded)
    half = with_qp_plane(tensors.half(), torch.tensor([40.0]))
    assert half.dtype == torch.float16
