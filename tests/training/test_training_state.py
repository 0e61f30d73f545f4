"""The state of a run: weights, optimizers and progress come back bit for bit, and what does not fit is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refusal_of
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from featcodec.errors import OutputError, WeightsError
from featcodec.training.state import Progress, load_state, read_settings, save_state

PROGRESS = Progress(
    7, {"stage": "toy", "clip": [-3.0, 3.0], "data": {"images": 5}}, 0.25, {"loss": (1.5, 3)}, {"scale": 1024.0}
)


def network(width: int = 3, seed: int = 0) -> nn.Module:
    """With BatchNorm, whose statistics and counter belong to the state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 1, 1))


def optimizer_for(module: nn.Module, kind: str) -> Optimizer:
    return AdamW(module.parameters(), 0.01) if kind == "adamw" else SGD(module.parameters(), 0.01, momentum=0.9)


def advance(module: nn.Module, optimizer: Optimizer, seed: int) -> None:
    images = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    module(images).square().mean().backward()
    optimizer.step()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    module = network()
    optimizer = optimizer_for(module, kind)
    for step in range(3):
        advance(module, optimizer, step)
    save_state(tmp_path / "state", PROGRESS, {"net": module}, {"net": optimizer})

    resumed = network(seed=1)
    resumed_optimizer = optimizer_for(resumed, kind)
    assert load_state(tmp_path / "state", {"net": resumed}, {"net": resumed_optimizer}) == PROGRESS
    assert same(resumed.state_dict(), module.state_dict())
    assert same(resumed_optimizer.state_dict(), optimizer.state_dict())
    for step in range(3, 6):
        advance(module, optimizer, step)
        advance(resumed, resumed_optimizer, step)
    assert same(resumed.state_dict(), module.state_dict())
    assert same(resumed_optimizer.state_dict(), optimizer.state_dict())


def test_saving_changes_nothing_and_says_the_same_again(tmp_path: Path) -> None:
    module = network()
    optimizer = optimizer_for(module, "adamw")
    advance(module, optimizer, 0)
    before = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
    for name in ("a", "b"):
        save_state(tmp_path / name, PROGRESS, {"net": module}, {"net": optimizer})
    assert same(before[0], module.state_dict())
    assert same(before[1], optimizer.state_dict())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_several_networks_keep_apart(tmp_path: Path) -> None:
    modules = {"bottleneck": network(), "recnet": network(4, seed=1)}
    optimizers = {name: optimizer_for(module, "adamw") for name, module in modules.items()}
    for name, module in modules.items():
        advance(module, optimizers[name], 0)
    save_state(tmp_path / "state", PROGRESS, modules, optimizers)
    others = {"bottleneck": network(seed=2), "recnet": network(4, seed=3)}
    load_state(tmp_path / "state", others, {name: optimizer_for(module, "adamw") for name, module in others.items()})
    for name, module in modules.items():
        assert same(others[name].state_dict(), module.state_dict())


def test_tensors_that_share_memory_are_stored(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    save_state(tmp_path / "state", PROGRESS, {"net": module}, {})
    load_state(tmp_path / "state", {"net": module}, {})


def test_a_run_that_has_not_stepped_has_no_optimizer_state(tmp_path: Path) -> None:
    module = network()
    fresh = Progress(0, {}, None, {}, {})
    save_state(tmp_path / "state", fresh, {"net": module}, {"net": optimizer_for(module, "sgd")})
    assert load_state(tmp_path / "state", {"net": module}, {"net": optimizer_for(module, "sgd")}) == fresh


def test_settings_can_be_read_alone(tmp_path: Path) -> None:
    save_state(tmp_path / "state", PROGRESS, {"net": network()}, {})
    assert read_settings(tmp_path / "state") == PROGRESS.settings
    with pytest.raises(WeightsError, match="no such file"):
        read_settings(tmp_path / "absent")


def test_nothing_in_it_is_pickled(tmp_path: Path) -> None:
    module = network()
    optimizer = optimizer_for(module, "adamw")
    advance(module, optimizer, 0)
    save_state(tmp_path / "state", PROGRESS, {"net": module}, {"net": optimizer})
    with safe_open(tmp_path / "state", framework="pt") as file:
        names = set(file.keys())
        assert set(file.metadata()) == {"featcodec"}
    assert {"model/net/0.weight", "model/net/1.running_mean", "optimizer/net/0/exp_avg"} <= names


def refusal(path: Path, module: nn.Module) -> str:
    return refusal_of(
        WeightsError, path, lambda path: load_state(path, {"net": module}, {"net": optimizer_for(module, "adamw")})
    )


def test_other_networks_are_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "state", PROGRESS, {"net": network()}, {})
    assert "does not fit this run" in refusal(tmp_path / "state", network(4))
    assert "does not fit this run" in refusal(tmp_path / "state", nn.Linear(2, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"step": None},
        {"step": "seven"},
        {"settings": None},
        {"settings": 5},
        {"best": None},
        {"scaler": None},
        {"scaler": 3},
        {"kind": "bottleneck"},
        {"format": 2},
    ],
    ids=repr,
)
def test_damaged_states_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    import json

    module = network()
    content = {"format": 1, "kind": "training state", "step": 1, "settings": {}, "best": 0.5, "scaler": {}, **changes}
    content = {name: value for name, value in content.items() if value is not None}
    tensors = {f"model/net/{name}": tensor for name, tensor in module.state_dict().items()}
    save_file(tensors, tmp_path / "state", {"featcodec": json.dumps(content)})
    refusal(tmp_path / "state", module)
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-5])
    refusal(tmp_path / "state", module)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        save_state(tmp_path / "file/state", PROGRESS, {"net": network()}, {})
