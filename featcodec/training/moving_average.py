"""A moving average of a network's weights, which YOLOv5 evaluates and saves instead of the weights themselves."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import nn

DECAY = 0.9999
RAMP = 2000
"""Updates until the average has a long memory; before that, it follows the network closely.

DECAY and RAMP are YOLOv5's.
"""

M = TypeVar("M", bound=nn.Module)


class MovingAverage(nn.Module, Generic[M]):
    """An exponential moving average of parameters and buffers.

    Source: ModelEMA in github.com/ultralytics/yolov5, utils/torch_utils.py (v7.0).

    Args:
        network: where the average starts; already on the device. The network is copied.

    Attributes:
        network: the average, in eval mode, without gradients.
    """

    network: M

    def __init__(self, network: M) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: M, step: int) -> None:
        """Move the average towards the network. Whole numbers, such as BatchNorm's counters, are copied.

        Args:
            network: the network after the step.
            step: counted from 0. The decay is DECAY * (1 - exp(-(step + 1) / RAMP)).
        """
        decay = DECAY * (1 - math.exp(-(step + 1) / RAMP))
        current = network.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])
