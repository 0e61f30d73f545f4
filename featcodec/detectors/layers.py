"""One layer of a detector's graph."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

PICTURE = -1
"""The place of the picture among the sources of a layer."""


@dataclass(frozen=True)
class Layer:
    """One layer of the graph: its module, and the layers that its inputs come from.

    The sources are absolute indices, or `PICTURE`.
    """

    module: nn.Module
    sources: tuple[int, ...]
