"""Which anchors are responsible for which boxes, and how well two boxes agree (YOLOv5's definitions)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import complete_box_iou_loss

MAX_RATIO = 4.0
"""An anchor matches boxes whose width and height differ from its own by less than this factor."""
_SMALLEST_SIDE = 1e-4


@dataclass(frozen=True, eq=False)
class Matches:
    """Which outputs of one level match which labels: M pairs.

    Attributes:
        label: (M,) int64, the row among the labels.
        anchor, row, column: (M,) int64, the output.
        boxes: (M, 4) float32 centre x, centre y relative to the cell's corner, width, height; in cells.
    """

    label: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    boxes: Tensor


def match_anchors(boxes: Tensor, anchors: Tensor, height: int, width: int) -> Matches:
    """Match labels with the anchors and cells of a level, as YOLOv5 does.

    A box matches every anchor whose width and height are less than `MAX_RATIO` times larger or smaller. It matches the
    anchor in the cell of its centre and in the two neighbours nearest to the centre: one to the left or right, and one
    above or below. A neighbour does not count if it is outside the grid, or if it is not nearer than the opposite
    neighbour.

    Args:
        boxes: (N, 4) float32 centre x, centre y, width, height as fractions of the image.
        anchors: (A, 2) float32 width and height in cells.
        height, width: rows and columns of the grid.
    """
    grid = boxes.new_tensor((width, height))
    centres, sizes = boxes[:, 0:2] * grid, boxes[:, 2:4] * grid
    ratios = sizes[:, None] / anchors  # a side of 0 has an infinite inverse, which never matches
    label, anchor = (torch.maximum(ratios, 1 / ratios).amax(2) < MAX_RATIO).nonzero(as_tuple=True)

    home = torch.minimum(centres.floor().clamp(min=0), grid - 1)  # a centre on the far border has no cell of its own
    step = (centres - home - 0.5).sign()
    axes = torch.eye(2, device=boxes.device)
    steps = torch.stack((torch.zeros_like(step), step * axes[0], step * axes[1]))
    cells = home + steps
    counts = ((cells >= 0) & (cells < grid)).all(2)
    counts[1:] &= steps[1:].any(2)

    choice, pair = counts[:, label].nonzero(as_tuple=True)
    label, anchor = label[pair], anchor[pair]
    cell = cells[choice, label]
    column, row = cell.long().unbind(1)
    return Matches(label, anchor, row, column, torch.cat((centres[label] - cell, sizes[label]), 1))


def complete_iou(predictions: Tensor, targets: Tensor) -> Tensor:
    """Complete IoU of pairs of boxes: IoU, minus a penalty for distance and a penalty for another aspect ratio.

    Source: Zheng et al., arXiv:1911.08287.

    Args:
        predictions: (M, 4) centre x, centre y, width, height.
        targets: (M, 4) centre x, centre y, width, height, of positive size and in the same unit.

    Returns:
        (M,), at most 1 (for equal boxes), negative for distant boxes.
    """
    pairs = []
    for boxes in (predictions, targets):
        # Sides that underflow would divide by zero in the aspect ratio and make the gradient NaN.
        half = boxes[:, 2:4].clamp(min=_SMALLEST_SIDE) / 2
        pairs.append(torch.cat((boxes[:, 0:2] - half, boxes[:, 0:2] + half), 1))
    overlaps: Tensor = 1 - complete_box_iou_loss(*pairs, reduction="none")
    return overlaps
