"""Attention in parts is ultralytics' attention."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn.modules import Attention
from ultralytics.nn.modules.block import AAttn

from featcodec.detectors import attention
from featcodec.detectors.attention import bound_attention


@pytest.mark.parametrize("most", [1, 1000, 1 << 25])
@pytest.mark.parametrize("make", [lambda: Attention(64, num_heads=2), lambda: AAttn(64, 2, 4), lambda: AAttn(64, 2, 1)])
def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch, make: Any, most: int) -> None:
    monkeypatch.setattr(attention, "MAX_NUMBERS", most)
    torch.manual_seed(0)
    own = nn.Sequential(make()).double().eval()
    ours = copy.deepcopy(own)
    bound_attention(ours)
    assert type(ours[0]) is not type(own[0])
    images = torch.randn(2, 64, 8, 12, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), own(images))
        torch.testing.assert_close(copy.deepcopy(ours)(images), own(images))
