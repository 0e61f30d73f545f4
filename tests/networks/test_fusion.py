"""The fusing bottleneck: shapes for any levels, checkpoints that are read back or refused, and a larger AD."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refusal_of
from safetensors.torch import save_file
from torch import Tensor

from featcodec.errors import WeightsError
from featcodec.networks.bottleneck import (
    Bottleneck,
    BottleneckConfig,
    load_bottleneck,
    save_bottleneck,
    with_decoder,
)
from featcodec.networks.features import levels_of
from featcodec.networks.fusion import Level, at_finest, default_sizes

SMALL = BottleneckConfig(
    feature_channels=19,
    hidden_channels=6,
    channels=4,
    clip_low=-3.0,
    clip_high=3.0,
    split=4,
    detector_fingerprint="0011223344556677",
    training={},
    level_channels=(5, 6, 8),
    level_scales=(0, 1, 2),
    fusion_scale=1,
)


def small(seed: int = 0, **changes: Any) -> Bottleneck:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Bottleneck(dataclasses.replace(SMALL, **changes))


def levels_for(config: BottleneckConfig, side: int = 8, batch: int = 2) -> tuple[Tensor, ...]:
    chance = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(batch, level.channels, side >> level.scale, (side + 8) >> level.scale, generator=chance)
        for level in config.levels
    )


def write(path: Path, **changes: Any) -> Path:
    """A checkpoint of `small` with another config; None removes a field."""
    config = {"format": 1, "kind": "bottleneck", **dataclasses.asdict(SMALL), **changes}
    config = {name: value for name, value in config.items() if value is not None}
    save_file(small().state_dict(), path, {"featcodec": json.dumps(config)})
    return path


@st.composite
def configs(draw: st.DrawFn) -> BottleneckConfig:
    scales = (0, *sorted(draw(st.lists(st.integers(0, 3), max_size=4))))
    channels = draw(st.lists(st.integers(1, 6), min_size=len(scales), max_size=len(scales)))
    return dataclasses.replace(
        SMALL,
        feature_channels=sum(channels),
        level_channels=tuple(channels),
        level_scales=scales,
        fusion_scale=draw(st.integers(0, scales[-1])),
        decoder_knows_qp=draw(st.booleans()),
    )


@settings(max_examples=30)
@given(configs())
def test_any_levels_are_fused_into_one_tensor_and_come_back(config: BottleneckConfig) -> None:
    bottleneck, levels = Bottleneck(config), levels_for(config)
    features = levels if len(levels) > 1 else levels[0]
    with torch.inference_mode():
        coded = bottleneck.encode(features)
        restored = bottleneck.decode(coded, torch.tensor([0.0, 40.0]))
    assert coded.shape == (2, 4, 8 >> config.fusion_scale, 16 >> config.fusion_scale)
    assert [level.shape for level in levels_of(restored)] == [level.shape for level in levels]
    assert isinstance(restored, Tensor) == (len(levels) == 1)


@settings(max_examples=10)
@given(configs())
def test_every_level_reaches_the_tensor_and_every_weight_learns(config: BottleneckConfig) -> None:
    bottleneck, levels = Bottleneck(config), [level.requires_grad_() for level in levels_for(config)]
    coded = bottleneck.encode(tuple(levels) if len(levels) > 1 else levels[0])
    torch.stack([level.square().sum() for level in levels_of(bottleneck.decode(coded))]).sum().backward()
    for level in levels:
        assert level.grad is not None
        # Each sample: no stride skips one.
        assert level.grad.abs().sum(1).min() > 0
    assert all(parameter.grad is not None for parameter in bottleneck.parameters())


def test_ae_is_cheap_beside_what_the_finest_scale_would_cost() -> None:
    def numbers(scale: int) -> int:
        """Multiplications per sample of the finest level."""
        with torch.device("meta"):
            bottleneck = small(fusion_scale=scale)
        total, side = 0, 64
        for module in bottleneck.encoder.modules():
            if isinstance(module, torch.nn.Conv2d):
                total += module.weight.numel()
        return total * (side >> scale) ** 2

    assert numbers(1) < numbers(0) / 3


def test_ad_ends_in_silu_and_learns_where_a_level_does_not() -> None:
    """A layer that ends in a sum may go below -0.2785, SiLU's least value."""
    bottleneck = small()
    coded = 10 * torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    levels = levels_of(bottleneck.decode(coded))
    assert all(float(level.detach().min()) >= -0.2785 for level in levels)
    torch.stack([(level + 1).square().mean() for level in levels]).sum().backward()
    slopes = [parameter for name, parameter in bottleneck.named_parameters() if name.endswith("slope")]
    assert [len(slope) for slope in slopes] == [5, 6, 8]
    for slope in slopes:
        assert slope.grad is not None
        assert slope.grad.abs().min() > 0
        slope.data.fill_(1)
    assert all(float(level.detach().min()) < -0.3 for level in levels_of(bottleneck.decode(coded)))


def test_levels_of_another_number_are_refused() -> None:
    levels = levels_for(SMALL)
    with pytest.raises(WeightsError, match="for 3 tensors was given 2; use the detector and split"):
        small().encode(levels[:2])
    one = Bottleneck(dataclasses.replace(SMALL, feature_channels=5, level_channels=(), level_scales=(), fusion_scale=0))
    assert one.encode(levels[0]).shape == (2, 4, 8, 16)
    with pytest.raises(WeightsError, match="for 1 tensors was given 3"):
        one.encode(levels)


def test_round_trip(tmp_path: Path) -> None:
    save_bottleneck(tmp_path / "a.safetensors", small())
    loaded = load_bottleneck(tmp_path / "a.safetensors")
    assert (loaded.config, loaded.fingerprint()) == (SMALL, small().fingerprint())
    assert loaded.edge_fingerprint() == small().edge_fingerprint()
    levels = levels_for(SMALL)
    with torch.inference_mode():
        assert torch.equal(loaded.encode(levels), small().encode(levels))
        pairs = zip(loaded.decode(loaded.encode(levels)), small().decode(small().encode(levels)), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)


def test_a_fingerprint_names_the_scales_too() -> None:
    """Weights of two coarser levels fit at any scale, and so tell nothing of it."""
    one, other = small(), small(level_scales=(0, 1, 3))
    other.encoder.load_state_dict(one.encoder.state_dict())
    assert one.edge_fingerprint() != other.edge_fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"level_channels": [5, 6]},
        {"level_channels": [5, 6, 9]},
        {"level_channels": [5, 6, 9], "feature_channels": 20},
        {"level_channels": [6, 5, 8]},
        {"level_channels": [5, 6, 0], "feature_channels": 11},
        {"level_channels": [5, 6, 1 << 40], "feature_channels": (1 << 40) + 11},
        {"level_channels": []},
        {"level_channels": None},
        {"level_channels": [5.0, 6.0, 8.0]},
        {"level_channels": [1] * 19, "level_scales": [0] * 19},
        {"level_scales": None},
        {"level_scales": [0, 1]},
        {"level_scales": [1, 1, 2]},
        {"level_scales": [0, 2, 1]},
        {"level_scales": [0, 1, 6]},
        {"level_scales": [0, 1, 1 << 70]},
        {"level_scales": [0, -1, 2]},
        {"level_scales": "012"},
        {"level_channels": None, "level_scales": None},
        {"level_channels": None, "level_scales": None, "fusion_scale": None},
        {"fusion_scale": 3},
        {"fusion_scale": -1},
        {"fusion_scale": 0},
        {"fusion_scale": True},
        {"fusion_scale": 1 << 70},
        {"fusion_scale": None},
        {"feature_channels": 20},
        {"hidden_channels": 1 << 40},
    ],
    ids=repr,
)
def test_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    message = refusal_of(WeightsError, write(tmp_path / "a", **changes), load_bottleneck)
    assert "its config does not fit its weights" in message


def test_large_claims_allocate_nothing(tmp_path: Path) -> None:
    """Sub-pixels of five doublings, 4096 channels throughout: 600 TB of weights."""
    claims = {"level_channels": [4096] * 8, "level_scales": [0] * 7 + [5], "fusion_scale": 5}
    path = write(tmp_path / "a", feature_channels=8 * 4096, hidden_channels=4096, channels=4096, **claims)
    refusal_of(WeightsError, path, load_bottleneck)


# An AD that is larger than AE


def trained() -> Bottleneck:
    """With slopes that are no longer 0."""
    bottleneck = small()
    for number, leave in enumerate(bottleneck.decoder.exits):
        leave.slope.data.fill_(0.1 * (number + 1))
    return bottleneck


def larger(**changes: Any) -> Bottleneck:
    torch.manual_seed(3)
    return with_decoder(trained(), **{"hidden_channels": 9, "blocks": 3, "knows_qp": True, **changes})


def test_a_larger_decoder_computes_the_same_until_it_is_trained(tmp_path: Path) -> None:
    coded, qp = torch.randn(2, 4, 4, 8), torch.tensor([0.0, 43])
    for changes in ({}, {"blocks": 1}, {"hidden_channels": 6}, {"knows_qp": False}):
        grown = larger(**changes)
        for mine, theirs in zip(grown.decode(coded, qp), trained().decode(coded), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-6)
        assert grown.edge_fingerprint() == small().edge_fingerprint()
    save_bottleneck(tmp_path / "b.safetensors", larger())
    assert load_bottleneck(tmp_path / "b.safetensors").config == larger().config


def test_all_of_a_larger_decoder_learns() -> None:
    grown, coded, qp = larger(), torch.randn(2, 4, 4, 8), torch.tensor([20.0, 43])
    optimizer = torch.optim.SGD(grown.decoder.parameters(), 0.02)
    before = {name: tensor.clone() for name, tensor in grown.decoder.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        torch.stack([level.square().sum() for level in grown.decode(coded, qp)]).sum().backward()
        optimizer.step()
    unchanged = [name for name, tensor in grown.decoder.state_dict().items() if torch.equal(tensor, before[name])]
    assert unchanged == []


# Levels and sizes


def test_default_sizes() -> None:
    assert default_sizes([Level(192, 0)]) == (128, 64, 0)
    assert default_sizes([Level(1, 0)]) == (1, 1, 0)
    yolo11n = [Level(64, 0), Level(128, 1), Level(256, 2)]
    assert default_sizes(yolo11n) == (96, 64, 1)
    assert default_sizes(yolo11n, fusion_scale=2) == (384, 256, 2)
    assert default_sizes(yolo11n, channels=20) == (30, 20, 1)
    assert default_sizes([Level(64, 0), Level(64, 0)]) == (24, 16, 0)
    assert max(default_sizes([Level(4096, 0), Level(9, 5)], fusion_scale=5)) == 4096


def test_at_finest() -> None:
    levels = levels_for(SMALL)
    joined = at_finest(levels)
    assert joined.shape == (2, 19, 8, 16)
    assert torch.equal(joined[:, :5], levels[0])
    assert torch.equal(joined[:, 5:11, ::2, 1::2], levels[1])
    assert torch.equal(joined[:, 11:, 3::4, 2::4], levels[2])
    assert at_finest(levels[0]) is levels[0]
