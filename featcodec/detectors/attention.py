"""Attention of ultralytics' layers in bounded memory.

Attention compares every cell with every cell. In ultralytics' own forward, this is one matrix: for 4096x4096 pixels it
takes about 20 GB in yolo12n, and a stream of a few hundred bytes can hold such a picture. Here some cells are compared
at a time. Each cell's result is that of ultralytics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Attention
from ultralytics.nn.modules.block import AAttn

MAX_NUMBERS = 1 << 25
"""Of the matrix at a time: 128 MB in float32."""


def bound_attention(module: nn.Module) -> None:
    """Replace the forward of all attention in a module. Its weights stay."""
    for part in module.modules():
        for known in (_Attention, _AreaAttention):
            if type(part) is known.__base__:
                part.__class__ = known


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each cell takes from the others.

    Args:
        queries, keys, values: (B, heads, numbers, cells); queries are scaled already.

    Returns:
        (B, heads, numbers, cells)
    """
    if torch.compiler.is_compiling():
        # Export to ONNX: the number of parts would be fixed, but not that of the cells.
        return _attend(queries, keys, values)
    batch, heads, _, cells = queries.shape
    at_once = max(1, MAX_NUMBERS // (batch * heads * cells))
    found = [_attend(some, keys, values) for some in torch.split(queries, at_once, dim=-1)]
    return found[0] if len(found) == 1 else torch.cat(found, -1)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = (queries.transpose(-2, -1) @ keys).softmax(dim=-1)
    return values @ weights.transpose(-2, -1)


class _Attention(Attention):
    def forward(self, x: Tensor) -> Tensor:
        batch, channels, rows, columns = x.shape
        parts = self.qkv(x).view(batch, self.num_heads, self.key_dim * 2 + self.head_dim, rows * columns)
        queries, keys, values = parts.split([self.key_dim, self.key_dim, self.head_dim], dim=2)
        taken = attend(queries * self.scale, keys, values).view(x.shape)
        output: Tensor = self.proj(taken + self.pe(values.reshape(batch, channels, rows, columns)))
        return output


class _AreaAttention(AAttn):
    def forward(self, x: Tensor) -> Tensor:
        batch, _, rows, columns = x.shape
        area = max(1, self.area)
        parts = self.qkv(x).flatten(2).transpose(1, 2)
        parts = parts.reshape(batch * area, rows * columns // area, self.num_heads, self.head_dim * 3)
        queries, keys, values = parts.permute(0, 2, 3, 1).split([self.head_dim] * 3, dim=2)
        taken = attend(queries * self.head_dim**-0.5, keys, values)
        taken, values = (
            each.permute(0, 3, 1, 2).reshape(batch, rows, columns, self.all_head_dim).permute(0, 3, 1, 2).contiguous()
            for each in (taken, values)
        )
        output: Tensor = self.proj(taken + self.pe(values))
        return output
