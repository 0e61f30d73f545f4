"""The Detect head of the original, anchor-based YOLOv5 (v6/v7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AnchorDetect(nn.Module):
    """One 1x1 convolution per level, usually three. Their outputs are decoded relative to anchors.

    Args:
        classes: number of classes.
        anchors: (levels, anchors per cell, 2) float, width and height in units of the level's stride.
        strides: (levels,) float, pixels per cell.
        channels: input channels of each level.
    """

    anchors: Tensor
    strides: Tensor

    def __init__(self, classes: int, anchors: Tensor, strides: Tensor, channels: list[int]) -> None:
        super().__init__()
        self.classes = classes
        self.outputs = 5 + classes
        self.register_buffer("anchors", anchors)
        self.register_buffer("strides", strides, persistent=False)
        self.m = nn.ModuleList(nn.Conv2d(channel, self.outputs * anchors.shape[1], 1) for channel in channels)

    def raw(self, features: list[Tensor]) -> list[Tensor]:
        """Raw outputs per level, (B, anchors, H, W, 5 + classes): x, y, w, h, objectness, class logits."""
        outputs = []
        for convolution, feature in zip(self.m, features, strict=True):
            batch, _, height, width = feature.shape
            output = convolution(feature).view(batch, self.anchors.shape[1], self.outputs, height, width)
            outputs.append(output.permute(0, 1, 3, 4, 2).contiguous())
        return outputs

    def decode(self, raw: list[Tensor]) -> Tensor:
        """(B, 4 + classes, boxes): centre x, y, width, height in letterboxed pixels; objectness * class scores."""
        decoded = []
        for level, output in enumerate(output.float() for output in raw):  # at 4096, float16 has steps of 2 pixels
            batch, anchors, height, width, _ = output.shape
            y, x = torch.meshgrid(
                torch.arange(height, device=output.device, dtype=output.dtype),
                torch.arange(width, device=output.device, dtype=output.dtype),
                indexing="ij",
            )
            grid = torch.stack((x, y), -1) - 0.5
            stride = self.strides[level].float()
            anchor = (self.anchors[level].float() * stride).view(1, anchors, 1, 1, 2)
            scores = output.sigmoid()
            centre = (scores[..., 0:2] * 2 + grid) * stride
            size = (scores[..., 2:4] * 2) ** 2 * anchor
            classes = scores[..., 5:] * scores[..., 4:5]
            decoded.append(torch.cat((centre, size, classes), -1).view(batch, -1, 4 + self.classes))
        return torch.cat(decoded, 1).transpose(1, 2)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Run `raw`, then `decode`."""
        return self.decode(self.raw(features))
