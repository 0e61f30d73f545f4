"""What crosses the wire behind a split: one tensor, or several of different resolutions.

Behind an early layer, one tensor crosses: `Features` is that tensor. Behind a later layer, the back-end needs several
("levels"): `Features` is then a tuple of them, the finest level first. Each level is (B, C, H, W), and the sides of a
coarser level are those of the finest level divided by a power of two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Features: TypeAlias = Tensor | tuple[Tensor, ...]
"""One tensor of (B, C, H, W), or a tuple of two or more, the finest level first."""


def levels_of(features: Features) -> tuple[Tensor, ...]:
    """The levels of features: one or several."""
    return (features,) if isinstance(features, Tensor) else tuple(features)


def features_of_levels(levels: Sequence[Tensor]) -> Features:
    """Undo `levels_of`: one level is the tensor itself."""
    return levels[0] if len(levels) == 1 else tuple(levels)


def map_levels(change: Callable[[Tensor], Tensor], features: Features) -> Features:
    """Change each level."""
    return features_of_levels([change(level) for level in levels_of(features)])


def join_batches(batches: Sequence[Features]) -> Features:
    """One batch out of several, which have the same number of levels, of the same shapes."""
    return features_of_levels([torch.cat(levels) for levels in zip(*map(levels_of, batches), strict=True)])
