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


def write(path: Path, **changes: Any) -> Path:
    config = {"format": 1, "kind": "strong-recnet", **dataclasses.asdict(SMALL), **changes}
    config = {name: value for name, value in config.items() if value is not None}
    save_file(small().state_dict(), path, {"featcodec": json.dumps(config)})
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


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.safetensors", kind="recnet")
    assert "not a strong-recnet" in refusal_of(WeightsError, path, load_strong_recnet)
