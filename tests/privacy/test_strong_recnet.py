"""The strong RecNet: its shapes, what it knows, and checkpoints that are read back or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refusal_of
from safetensors.torch import save_file
from torch import nn

from featcodec.errors import WeightsError
from featcodec.privacy.strong_recnet import StrongRecNet, StrongRecNetConfig, load_strong_recnet, save_strong_recnet

SMALL = StrongRecNetConfig(
    channels=4, hidden_channels=8, blocks=2, edge_fingerprint="0011223344556677", training={"stage": "attack"}
)


def small(seed: int = 0) -> StrongRecNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return StrongRecNet(SMALL)


def test_batchnorm_only_where_the_config_has_it(tmp_path: Path) -> None:
    """The first strong RecNets had none, and their configs do not say so."""
    normalized = StrongRecNet(dataclasses.replace(SMALL, normalized=True))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in normalized.modules()) == 1 + 2 * SMALL.blocks
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small().modules())
    save_strong_recnet(tmp_path / "new.safetensors", normalized)
    found = load_strong_recnet(tmp_path / "new.safetensors")
    assert found.config.normalized
    coded = torch.randn(1, 4, 6, 5)
    assert torch.equal(found(coded), normalized(coded))
    old = load_strong_recnet(write(tmp_path / "old.safetensors", normalized=None))
    assert old.config == SMALL
    assert torch.equal(old(coded), small()(coded))


def write(path: Path, of: StrongRecNetConfig = SMALL, **changes: Any) -> Path:
    config = {"format": 1, "kind": "strong-recnet", **dataclasses.asdict(of), **changes}
    config = {name: value for name, value in config.items() if value is not None}
    network = small() if of is SMALL else StrongRecNet(of)
    save_file(network.state_dict(), path, {"featcodec": json.dumps(config)})
    return path


def test_eight_pixels_per_sample_and_a_linear_output() -> None:
    network = small()
    coded = torch.randn(2, 4, 6, 5)
    assert network(coded).shape == (2, 3, 48, 40)
    assert not isinstance(network.net[-1], nn.SiLU)
    # Below 0 as well as above 1: nothing is cut off before the picture is measured.
    wild = 50 * network(100 * coded)
    assert wild.min() < 0
    assert wild.max() > 1


def test_it_knows_the_qp() -> None:
    network, coded = small(), torch.randn(1, 4, 6, 5)
    assert not torch.equal(network(coded, torch.tensor([22.0])), network(coded, torch.tensor([40.0])))
    assert torch.equal(network(coded), network(coded, torch.tensor([0.0])))


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    save_strong_recnet(path, small())
    found = load_strong_recnet(path)
    assert found.config == SMALL
    assert not found.training
    coded, qp = torch.randn(1, 4, 6, 5), torch.tensor([33.0])
    assert torch.equal(found(coded, qp), small()(coded, qp))
    assert not any(parameter.requires_grad for parameter in found.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 0},
        {"channels": 10**9},
        {"channels": 5},
        {"hidden_channels": True},
        {"blocks": 10**9},
        {"blocks": 3},
        {"normalized": True},
        {"normalized": 1},
        {"edge_fingerprint": "x"},
        {"edge_fingerprint": ""},
        {"training": None},
    ],
)
def test_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    message = refusal_of(WeightsError, write(tmp_path / "r.safetensors", **changes), load_strong_recnet)
    assert "its config does not fit its weights" in message


LEVELS = dataclasses.replace(
    SMALL, channels=9, split=3, pixels_per_sample=4, level_channels=(2, 3, 4), level_scales=(0, 1, 3)
)


def test_a_checkpoint_from_before_says_nothing_of_levels(tmp_path: Path) -> None:
    later = dict.fromkeys(("split", "pixels_per_sample", "level_channels", "level_scales"))
    assert load_strong_recnet(write(tmp_path / "a", **later)).config == SMALL


@pytest.mark.parametrize("pixels", [1, 2, 4, 16, 32])
def test_any_number_of_pixels_per_sample(pixels: int) -> None:
    network = StrongRecNet(dataclasses.replace(SMALL, pixels_per_sample=pixels))
    assert network(torch.randn(2, 4, 3, 5)).shape == (2, 3, 3 * pixels, 5 * pixels)


def test_levels_become_one_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a", of=LEVELS)
    network = load_strong_recnet(path).train().requires_grad_(True)
    assert network.config == LEVELS
    levels = [torch.randn(2, channels, 8 >> scale, 16 >> scale) for channels, scale in LEVELS.inputs]
    for level in levels:
        level.requires_grad_()
    picture = network(tuple(levels), torch.tensor([0.0, 40.0]))
    assert picture.shape == (2, 3, 32, 64)
    picture.square().mean().backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in levels)
    with pytest.raises(WeightsError, match="for 3 tensors was given 1"):
        network(levels[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"pixels_per_sample": 8},
        {"pixels_per_sample": 3},
        {"pixels_per_sample": 0},
        {"pixels_per_sample": 128},
        {"pixels_per_sample": 1 << 70},
        {"pixels_per_sample": 4.0},
        {"split": -1},
        {"level_channels": [2, 3, 5]},
        {"level_channels": [2, 3]},
        {"level_channels": []},
        {"level_channels": [0] * 3},
        {"level_scales": [0, 1]},
        {"level_scales": [0, 3, 1]},
        {"level_scales": [0, 1, 1 << 70]},
        {"channels": 10},
    ],
    ids=repr,
)
def test_levels_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    message = refusal_of(WeightsError, write(tmp_path / "r", of=LEVELS, **changes), load_strong_recnet)
    assert "its config does not fit its weights" in message


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.safetensors", kind="recnet")
    assert "not a strong-recnet" in refusal_of(WeightsError, path, load_strong_recnet)
