"""The Detect head of the original, anchor-based YOLOv5 (v6/v7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featcodec.detectors.task import Task


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

    def decode(self, raw: list[Tensor], conf: float | None = None) -> Tensor:
        """(B, 4 + classes, boxes): centre x, y, width, height in letterboxed pixels; objectness * class scores.

        Args:
            raw: from `raw`.
            conf: leave out boxes without a score above it; B must be 1. Most boxes are such, and to compute all of
                their scores takes longer than the convolutions of the head.
        """
        decoded = []
        for level, output in enumerate(raw):
            batch, anchors, height, width, _ = output.shape
            rows = output.reshape(batch, -1, self.outputs)
            y, x = torch.meshgrid(
                torch.arange(height, device=output.device, dtype=torch.float32),
                torch.arange(width, device=output.device, dtype=torch.float32),
                indexing="ij",
            )
            stride = self.strides[level].float()
            grid = (torch.stack((x, y), -1) - 0.5).view(1, -1, 2).expand(anchors, -1, 2).reshape(-1, 2)
            anchor = (self.anchors[level].float() * stride).view(anchors, 1, 2).expand(-1, height * width, 2)
            anchor = anchor.reshape(-1, 2)
            if conf is not None:
                # A class score is at most 1, so no score is above the objectness.
                kept = (rows[0, :, 4].float().sigmoid() > conf).nonzero()[:, 0]
                rows, grid, anchor = rows[:, kept], grid[kept], anchor[kept]
            scores = rows.float().sigmoid()  # at 4096, float16 has steps of 2 pixels
            centre = (scores[..., 0:2] * 2 + grid) * stride
            size = (scores[..., 2:4] * 2) ** 2 * anchor
            classes = scores[..., 5:] * scores[..., 4:5]
            decoded.append(torch.cat((centre, size, classes), -1))
        return torch.cat(decoded, 1).transpose(1, 2)

    @property
    def task(self) -> Task:
        """What the predictions hold."""
        return Task(self.classes)

    def prototypes(self, raw: list[Tensor]) -> None:
        """This head makes no masks."""
        return

    def forward(self, features: list[Tensor]) -> Tensor:
        """Run `raw`, then `decode`."""
        return self.decode(self.raw(features))
