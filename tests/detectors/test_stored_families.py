"""Stored detectors of ultralytics' families with forged configurations: refused in one line, in no time and memory."""

from __future__ import annotations

import copy
import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from make_families import NAMES
from refusals import refusal_of
from safetensors.torch import save_file

from featcodec.detectors import FamilyConfig, build_detector, configuration_of, load_detector, save_detector
from featcodec.errors import WeightsError
from featcodec.networks.checkpoints import load_checkpoint

CONV = [-1, 1, "Conv", [64, 3, 2]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = FamilyConfig(tuple(NAMES), configuration_of("yolo11n").with_classes(len(NAMES)).mapping())
    path = tmp_path_factory.mktemp("stored") / "mine.safetensors"
    layers = torch.nn.ModuleList(layer.module for layer in build_detector(config))
    save_detector(path, config, layers)
    return path


def forged(path: Path, target: Path, config: dict[str, Any], **changes: Any) -> Path:
    """A copy with other entries in its config and in the configuration of its layers."""
    content, state = load_checkpoint(path, "detector")
    content = {**copy.deepcopy(content), **config}
    if isinstance(content["configuration"], dict):
        content["configuration"].update(changes)
    save_file(state, target, {"featcodec": json.dumps(content)})
    return target


def refusal(path: Path) -> str:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    message = refusal_of(WeightsError, path, lambda path: load_detector(path, device="cpu"))
    assert time.process_time() - started < 15
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10
    assert len(message) < 600
    return message


CHANGES: dict[str, dict[str, Any]] = {
    "blocks": {"backbone": [CONV, *[[-1, 64, "A2C2f", [64, True, 1]]] * 60]},
    "upsampling": {"backbone": [CONV, *[[-1, 1, "nn.Upsample", [None, 32, "nearest"]]] * 3]},
    "a layer that is none": {"backbone": [CONV, [-1, 1, "nn.LSTM", [64, 64]]]},
    "no rows": {"backbone": []},
    "deep lists": {"backbone": [[-1, 1, "Conv", [[[[[[[[]]]]]]]]]] * 3},
    "width": {"scales": {"n": [0.5, 8.0, None]}},
    "depth": {"scales": {"n": [1e300, 0.25, 1024]}},
    "another size": {"scale": "x", "scales": {"x": [1.0, 1.5, 512]}},
    "classes": {"nc": 4},
    "two branches": {"end2end": True},
    "bins": {"reg_max": 1},
    "a head alone": {"backbone": [[[-1], 1, "Detect", [None]]]},
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (i % 3 > 0)) for i, n in enumerate(CHANGES)]
)
def test_forged_configurations_are_refused(tmp_path: Path, path: Path, name: str) -> None:
    assert "its config does not fit its weights (" in refusal(
        forged(path, tmp_path / "a.safetensors", {}, **CHANGES[name])
    )


@pytest.mark.parametrize(
    "config",
    [
        {"configuration": None},
        {"configuration": []},
        {"configuration": {}},
        {"names": ["a"]},
        {"names": ["", "b", "c"]},
    ],
    ids=str,
)
def test_forged_configs_are_refused(tmp_path: Path, path: Path, config: dict[str, Any]) -> None:
    assert "its config does not fit its weights (" in refusal(forged(path, tmp_path / "a.safetensors", config))


def test_a_detector_that_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    """Its head takes the picture, by way of a layer that does nothing."""
    rows = [[-1, 1, "nn.Identity", []], [-1, 1, "nn.Identity", []]]
    head = [[[1], 1, "Detect", [None]]]
    mapping = {**configuration_of("yolo11n").with_classes(3).mapping(), "backbone": rows, "head": head}
    config = FamilyConfig(tuple(NAMES), mapping)
    layers = torch.nn.ModuleList(layer.module for layer in build_detector(config))
    save_detector(tmp_path / "a.safetensors", config, layers)
    assert "it cannot be cut behind any layer: a later layer needs the picture" in refusal(tmp_path / "a.safetensors")
