"""The anchor-based head, decoded by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from featcodec.detectors.head import AnchorDetect

THREE_QUARTERS = math.log(3)  # the logit of 0.75
ANCHORS = torch.tensor([[[2.0, 3.0], [4.0, 1.0]], [[1.0, 2.0], [5.0, 5.0]]])


def head(classes: int = 2) -> AnchorDetect:
    """Two levels of two anchors."""
    return AnchorDetect(classes, ANCHORS.clone(), torch.tensor([8.0, 16.0]), [6, 10]).eval().requires_grad_(False)


def raw(classes: int = 2) -> list[Tensor]:
    """Logits of 0 for a 32x16 image: 2 rows of 4 cells, then 1 row of 2."""
    return [torch.zeros(1, 2, rows, columns, 5 + classes) for rows, columns in ((2, 4), (1, 2))]


def test_one_cell_by_hand() -> None:
    logits = raw()
    # Second anchor of the first level, in row 1 and column 3.
    logits[0][0, 1, 1, 3] = torch.tensor([THREE_QUARTERS, -THREE_QUARTERS, 0, THREE_QUARTERS, THREE_QUARTERS, 0, -99])
    predictions = head().decode(logits)
    assert predictions.shape == (1, 4 + 2, 2 * 8 + 2 * 2)
    box = predictions[0, :, 8 + 1 * 4 + 3].tolist()
    # Centre: (2 * 0.75 - 0.5 + 3) * 8 and (2 * 0.25 - 0.5 + 1) * 8; size: (2 * 0.5)^2 * 4 * 8 and (2 * 0.75)^2 * 1 * 8.
    assert box[:4] == pytest.approx([32, 8, 32, 18], abs=1e-5)
    # Objectness times class.
    assert box[4:] == pytest.approx([0.75 * 0.5, 0], abs=1e-6)


def test_cells_without_a_say_lie_in_their_middle_with_their_anchors_size() -> None:
    boxes = head().decode(raw())[0, :4].T
    cells = [(8 * column + 4, 8 * row + 4) for row in range(2) for column in range(4)]
    expected = [[*cell, *size] for size in ((16, 24), (32, 8)) for cell in cells]
    expected += [[*cell, *size] for size in ((16, 32), (80, 80)) for cell in ((8, 8), (24, 8))]
    torch.testing.assert_close(boxes, torch.tensor(expected, dtype=torch.float32))


def test_scores_are_objectness_times_class_per_class() -> None:
    logits = raw(classes=3)
    logits[1][0, 0, 0, 1, 4:] = torch.tensor([THREE_QUARTERS, THREE_QUARTERS, -THREE_QUARTERS, 0])
    scores = head(3).decode(logits)[0, 4:, 16 + 1]
    torch.testing.assert_close(scores, torch.tensor([0.75 * 0.75, 0.75 * 0.25, 0.75 * 0.5]))


def test_raw_sorts_channels_by_anchor_then_output() -> None:
    detect = head()
    features = [torch.zeros(1, 6, 2, 4), torch.zeros(1, 10, 1, 2)]
    features[0][0, 5, 1, 2] = 1
    detect.m[0].bias.zero_()
    detect.m[0].weight.zero_()
    detect.m[0].weight[9, 5] = 7.0  # second anchor, third output: width
    first = detect.raw(features)[0]
    assert first.shape == (1, 2, 2, 4, 7)
    assert first.nonzero().tolist() == [[0, 1, 1, 2, 2]]
    assert first[0, 1, 1, 2, 2] == 7
    torch.testing.assert_close(detect(features), detect.decode(detect.raw(features)))


def test_half_precision_input_is_decoded_in_single_precision() -> None:
    """In float16 the right edge of an image of 4096 pixels could only be told to 2 pixels."""
    logits = torch.randn(1, 2, 1, 512, 7, generator=torch.Generator().manual_seed(0)).half()
    small = torch.randn(1, 2, 1, 256, 7, generator=torch.Generator().manual_seed(1)).half()
    ours = head().half().decode([logits, small])
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, head().decode([logits.float(), small.float()]), rtol=0, atol=0)
    assert (ours[0, 0] > 2048).any()
    assert (ours[0, 0] % 1 != 0).any()
