"""The moving average of weights: YOLOv5's formula, buffers too, and apart from the network."""

from __future__ import annotations

import math

import torch
from torch import nn

from featcodec.training.moving_average import MovingAverage


def filled(value: float) -> nn.BatchNorm1d:
    """Parameters and buffers of one value."""
    network = nn.BatchNorm1d(2)
    for tensor in network.state_dict().values():
        tensor.fill_(value)
    return network


def test_it_is_yolov5s_formula() -> None:
    average = MovingAverage(filled(1.0))
    expected = 1.0
    for step, value in enumerate((3.0, -2.0, 7.0)):
        average.update(filled(value), step)
        decay = 0.9999 * (1 - math.exp(-(step + 1) / 2000))
        expected = decay * expected + (1 - decay) * value
        for name in ("weight", "bias", "running_mean", "running_var"):
            assert torch.allclose(average.network.state_dict()[name], torch.tensor(expected))


def test_late_steps_hardly_move_it() -> None:
    average = MovingAverage(filled(1.0))
    average.update(filled(2.0), 10**6)
    assert torch.allclose(average.network.weight, torch.tensor(1.0001), atol=1e-6)


def test_whole_numbers_are_copied() -> None:
    average = MovingAverage(filled(1.0))
    average.update(filled(5.0), 10**6)
    assert average.network.num_batches_tracked.item() == 5


def test_it_is_apart_from_the_network() -> None:
    network = filled(1.0)
    average = MovingAverage(network)
    network.weight.data.fill_(9.0)
    assert average.network.weight.tolist() == [1, 1]
    assert network.training
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert set(average.state_dict()) == {f"network.{name}" for name in network.state_dict()}
