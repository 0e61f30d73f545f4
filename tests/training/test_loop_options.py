"""What follows from a run's options alone: folder, devices, optimizers, learning rates, and what a run must share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_training import toy_options

from featcodec.errors import InputError
from featcodec.training.loop_options import (
    check_free,
    identity_of,
    launch_fabric,
    optimizer_for,
    rise,
    rise_and_fall,
)


def test_a_new_folder_is_free(tmp_path: Path) -> None:
    check_free(toy_options(tmp_path / "new"))
    (tmp_path / "notes.txt").write_bytes(b"")
    check_free(toy_options(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("state.safetensors", "/out: holds a training run; go on with `resume`, or give another folder"),
        ("last-recnet.safetensors", "/out/last-recnet.safetensors: would be replaced; move it away, or give another"),
    ],
)
def test_only_a_resumed_run_replaces_a_checkpoint(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"")
    with pytest.raises(InputError) as caught:
        check_free(toy_options(tmp_path / "out"))
    assert message in str(caught.value)
    check_free(toy_options(tmp_path / "out", resume=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"accelerator": "abacus"},
        {"accelerator": "tpu"},
        {"precision": "7-bit"},
        {"devices": 0},
    ],
    ids=repr,
)
def test_a_machine_that_is_not_there_is_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^cannot train here \(.*\); change `accelerator`") as caught:
        launch_fabric(toy_options(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_float16_on_a_cpu_is_refused_before_fabric_warns_that_it_computes_in_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str
) -> None:
    monkeypatch.setattr("featcodec.system.devices.torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="16-mixed needs a GPU; bf16-mixed runs on CPUs"):
        launch_fabric(toy_options(tmp_path, precision="16-mixed", accelerator=accelerator))


def test_optimizers_are_those_of_the_options(tmp_path: Path) -> None:
    sgd = optimizer_for(nn.Linear(1, 1), toy_options(tmp_path, optimizer="sgd", weight_decay=0.5), 0.1, _always)
    assert isinstance(sgd, torch.optim.SGD)
    assert [sgd.param_groups[0][name] for name in ("lr", "momentum", "weight_decay")] == [0.1, 0.937, 0.5]
    adamw = optimizer_for(nn.Linear(1, 1), toy_options(tmp_path, weight_decay=0.25), 0.2, _always)
    assert isinstance(adamw, torch.optim.AdamW)
    assert [adamw.param_groups[0][name] for name in ("lr", "weight_decay")] == [0.2, 0.25]
    with pytest.raises(InputError, match="optimizer 'lion' is not known; use adamw or sgd"):
        optimizer_for(nn.Linear(1, 1), toy_options(tmp_path, optimizer="lion"), 0.1, _always)


@pytest.mark.parametrize(
    ("decays", "expected"),
    [
        (lambda parameter: True, [(0.25, ["weight", "bias"])]),
        (lambda parameter: parameter.ndim == 2, [(0.25, ["weight"]), (0.0, ["bias"])]),
        (lambda parameter: False, [(0.0, ["weight", "bias"])]),
    ],
    ids=["all", "some", "none"],
)
def test_weight_decay_may_be_for_some_parameters(
    tmp_path: Path, decays: Callable[[Tensor], bool], expected: list[tuple[float, list[str]]]
) -> None:
    module = nn.Linear(2, 1)
    names = {parameter: name for name, parameter in module.named_parameters()}
    optimizer = optimizer_for(module, toy_options(tmp_path, weight_decay=0.25), 0.1, decays)
    groups = [(group["weight_decay"], [names[one] for one in group["params"]]) for group in optimizer.param_groups]
    assert groups == expected


def test_a_rate_rises_then_falls_as_a_cosine_to_a_hundredth(tmp_path: Path) -> None:
    options = toy_options(tmp_path, steps=20, warmup_steps=4)
    cosine = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(21)]
    rates = [rise_and_fall(options, step) for step in range(21)]
    assert rates == pytest.approx([share * min(1, (step + 1) / 4) for step, share in enumerate(cosine)])
    assert rates[20] == pytest.approx(0.01)
    assert [rise(options, step) for step in (0, 1, 3, 4, 19)] == [0.25, 0.5, 1, 1, 1]
    assert rise(toy_options(tmp_path, warmup_steps=0), 0) == 1


def test_what_a_resumed_run_must_share_is_json_and_nothing_of_this_machine(tmp_path: Path) -> None:
    options = toy_options(tmp_path, seed=7)
    found = identity_of(options)
    assert json.loads(json.dumps(found)) == found
    assert (found["seed"], found["devices"], found["precision"]) == (7, 1, "32-true")
    elsewhere = toy_options(tmp_path / "other", seed=7, save_every=9, evaluate_every=9, log_every=9, resume=True)
    assert identity_of(elsewhere) == found


def _always(_parameter: Tensor) -> bool:
    return True
