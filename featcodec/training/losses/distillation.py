"""Distillation losses: with the bottleneck, the back-end should answer as it does without the bottleneck.

These losses are not in the paper, are off by default and need no labels. Feature matching compares the feature tensor
after the bottleneck with the original one (as in Romero et al., FitNets, arXiv:1412.6550). Output matching compares the
back-end's feature maps and its predictions. The predictions are weighted by how sure the detector was (as in Hinton et
al., arXiv:1503.02531, for the classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from featcodec.detectors import SplitDetector
from featcodec.networks.features import Features, levels_of


@dataclass(frozen=True, eq=False)
class BackEndOutput:
    """The back-end's outputs for features: the neck's feature maps, and the head's undecoded outputs."""

    neck: list[Tensor]
    raw: Any


def run_back_end(detector: SplitDetector, features: Features) -> BackEndOutput:
    """Run the back-end up to the outputs that the losses use."""
    neck = detector.neck(features)
    return BackEndOutput(neck, detector.head.raw(neck))


def feature_matching(restored: Features, features: Features) -> Tensor:
    """Mean squared error in units of the features' variance, as a mean over levels.

    A constant tensor, the features' mean, would get 1.

    Args:
        restored, features: (B, C, H, W), or a tuple with such a tensor per level, after the bottleneck and before it.
    """
    return _mean_error(levels_of(restored), levels_of(features))


def neck_matching(student: BackEndOutput, teacher: BackEndOutput) -> Tensor:
    """Mean squared error of the neck's feature maps in units of their variance, as a mean over levels."""
    return _mean_error(student.neck, teacher.neck)


def _mean_error(levels: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    errors = [
        F.mse_loss(mine.float(), theirs.float()) / _variance(theirs)
        for mine, theirs in zip(levels, wanted, strict=True)
    ]
    return torch.stack(errors).mean()


def prediction_matching(student: BackEndOutput, teacher: BackEndOutput) -> Tensor:
    """Divergence of the predictions, weighted by the teacher's confidence and divided by its sum; 0 means equal."""
    if isinstance(teacher.raw, dict):
        return _anchor_free_matching(student.raw, teacher.raw)
    levels = [
        _anchor_matching(mine.float(), theirs.float()) for mine, theirs in zip(student.raw, teacher.raw, strict=True)
    ]
    return torch.stack(levels).mean()


def _anchor_matching(student: Tensor, teacher: Tensor) -> Tensor:
    """One level, (B, anchors, H, W, 5 + classes)."""
    confidence = teacher[..., 4].sigmoid()
    classes = _divergence(student[..., 5:], teacher[..., 5:]).sum(-1)
    boxes = (student[..., :4].sigmoid() - teacher[..., :4].sigmoid()).abs().sum(-1)
    total = _divergence(student[..., 4], teacher[..., 4]) + confidence * (classes + 2 * boxes)
    return total.sum() / confidence.sum().clamp(min=1)


def _anchor_free_matching(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> Tensor:
    """Scores (B, classes, cells), and the distributions of the box sides (B, 4 * reg_max, cells)."""
    confidence = teacher["scores"].float().sigmoid().amax(1)
    scores = _divergence(student["scores"].float(), teacher["scores"].float()).sum()
    sides = [_sides(raw["boxes"].float()) for raw in (student, teacher)]
    boxes = F.kl_div(sides[0], sides[1], reduction="none", log_target=True).sum(2).mean(1)
    return (scores + (confidence * boxes).sum()) / confidence.sum().clamp(min=1)


def _sides(boxes: Tensor) -> Tensor:
    """(B, 4, reg_max, cells) log-probabilities of the distances to the four sides."""
    batch, channels, cells = boxes.shape
    return boxes.reshape(batch, 4, channels // 4, cells).log_softmax(2)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Binary Kullback-Leibler divergence of logits, element by element."""
    target = teacher.sigmoid()
    cross = F.binary_cross_entropy_with_logits(student, target, reduction="none")
    return cross - F.binary_cross_entropy_with_logits(teacher, target, reduction="none")


def _variance(values: Tensor) -> Tensor:
    return values.detach().float().var().clamp(min=1e-6)
