"""One layer of a detector's graph."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layer:
    """One layer of the graph: its module, and the layers that its inputs come from.

    The sources are absolute indices; -1 is the picture.
    """

    module: nn.Module
    sources: tuple[int, ...]
