"""Layers are measured where nothing is computed: forged ones are refused in no time and memory, without a warning."""

from __future__ import annotations

import copy
import resource
import time
from typing import Any

import pytest
import torch

from featcodec.detectors import configuration_of
from featcodec.detectors.configuration import read_configuration
from featcodec.detectors.families import build_layers_of
from featcodec.detectors.measure import layer_flops, layer_shapes
from featcodec.errors import WeightsError

CONV = [-1, 1, "Conv", [64, 3, 2]]
SMALL = [-1, 1, "Conv", [64, 3, 1]]
FULL: dict[str, Any] = {"scales": {"n": [1.0, 1.0, None]}}
UPSAMPLE = [-1, 1, "nn.Upsample", [None, 32, "nearest"]]


def network(*rows: list[Any], head: list[Any] | None = None, **further: Any) -> dict[str, Any]:
    last = head or [[len(rows) - 1], 1, "Detect", ["nc"]]
    plain = configuration_of("yolo11n").mapping()
    return {**plain, "backbone": copy.deepcopy(list(rows)), "head": [last], **further}


def refusal(content: dict[str, Any]) -> str:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(WeightsError) as caught, torch.device("meta"):
        build_layers_of(read_configuration(content))
    assert time.process_time() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "upsampling": (network(CONV, UPSAMPLE, UPSAMPLE, UPSAMPLE), "numbers at once"),
    "upsampling by nothing": (network(CONV, [-1, 1, "nn.Upsample", [None, 0, "nearest"]]), "do not fit together"),
    "upsampling to a size": (network(CONV, [-1, 1, "nn.Upsample", [32]]), "which is not one sample for"),
    "upsampling as text": (network(CONV, [-1, 1, "nn.Upsample", [None, 2, True]]), "do not fit together"),
    "attention on many cells": (network(CONV, CONV, [-1, 1, "C3k2", [256, True, 0.5, True]]), "numbers at once"),
    "concats that grow": (network(CONV, *[[[-1] * 8, 1, "Concat", [1]]] * 60), "numbers at once"),
    "concat along rows": (network(CONV, [[-1, -1], 1, "Concat", [2]]), "which is not one sample for"),
    "concat of one": (network(CONV, [-1, 1, "Concat", [1]]), "cannot be built"),
    "concat of sizes": (network(CONV, CONV, [[0, 1], 1, "Concat", [1]]), "do not fit together"),
    "groups": (network(CONV, [-1, 1, "Conv", [64, 3, 1, 1, 0]]), "cannot be built"),
    "groups that do not divide": (network(CONV, [-1, 1, "Conv", [64, 3, 1, 1, 7]]), "cannot be built"),
    "stride zero": (network(CONV, [-1, 1, "Conv", [64, 3, 0]]), "do not fit together"),
    "stride three": (network([-1, 1, "Conv", [64, 3, 3]], SMALL), "which is not one sample for"),
    "kernel zero": (network(CONV, [-1, 1, "Conv", [64, 0, 1]]), "a tensor without numbers"),
    "kernel negative": (network(CONV, [-1, 1, "Conv", [64, -1, 1]]), "cannot be built"),
    "kernel larger than the cells": (network(*[CONV] * 6, [-1, 1, "Conv", [64, 31, 1, 0]]), "do not fit together"),
    "halves of one": (network(CONV, [-1, 1, "RepNCSPELAN4", [64, 1, 1, 1]]), "without numbers"),
    "a weight of 8 GB": (
        network([-1, 1, "Conv", [8192, 3, 2]], [-1, 1, "Conv", [8192, 31, 2]], **FULL),
        "numbers at once",
    ),
    "wide start": (network([-1, 1, "Conv", [8192, 1, 1]], SMALL), "numbers at once"),
    "wide expansion": (network(CONV, CONV, CONV, [-1, 4, "C2f", [8192, True, 1, 8.0]], **FULL), "numbers at once"),
    "stride 128": (network(*[CONV] * 7), "which is not one sample for"),
    "fusion of a number": (network(CONV, [-1, 1, "CBFuse", [[0]]]), "cannot be built"),
    "fusion beyond the list": (
        network(CONV, [-1, 1, "CBLinear", [[64]]], [[1, 0], 1, "CBFuse", [[9]]]),
        "do not fit together",
    ),
    "a head of several tensors": (network(CONV, [-1, 1, "CBLinear", [[64]]]), "not one tensor"),
    "a head of the picture": (network(CONV, head=[[-2], 1, "Detect", ["nc"]]), "takes the picture"),
    "4096 classes for every pixel": (network(SMALL, SMALL, nc=4096), "its head makes"),
    "masks for every pixel": (network(SMALL, SMALL, head=[[1], 1, "Segment", ["nc", 32, 8192]]), "its head makes"),
    "a mask head without numbers": (network(CONV, head=[[0], 1, "Segment", ["nc"]]), "with 0 numbers"),
    "too many arguments": (network(CONV, [-1, 1, "Conv", [1, 1, 1, 1, 1, 1, 1, 1]]), "cannot be built"),
    "no arguments": (network(CONV, [-1, 1, "C3k2", []]), "cannot be built"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_layers_are_refused(name: str) -> None:
    content, reason = FORGED[name]
    assert reason in refusal(content)


@pytest.mark.slow
def test_the_slowest_network_that_is_taken_is_built_in_time() -> None:
    row = [-1, 2, "C2fCIB", [64, True, True]]
    started = time.process_time()
    with torch.device("meta"):
        build_layers_of(read_configuration(network(CONV, CONV, CONV, *[row] * 60)))
    assert time.process_time() - started < 40


def test_shapes_are_those_of_the_architecture() -> None:
    with torch.device("meta"):
        layers = build_layers_of(configuration_of("yolo11n"))
    found = [(shape.channels, shape.stride) for shape in layer_shapes(layers[:-1]) if shape is not None]
    assert found[:5] == [(16, 2), (32, 4), (64, 4), (64, 8), (128, 8)]
    assert [found[16], found[19]] == [(64, 8), (128, 16)]
    assert found[22] == (256, 32)


def test_operations_are_those_that_ultralytics_publishes() -> None:
    """yolo11n: 6.5 GFLOP at 640 pixels, of which the head takes 1.6 (counted with ultralytics' own profiler)."""
    with torch.device("meta"):
        layers = build_layers_of(configuration_of("yolo11n"))
    flops = layer_flops(layers[:-1], 640, 640)
    assert flops[0] == 2 * 320 * 320 * 16 * 3 * 9
    assert 4.5e9 < sum(flops) < 6.6e9
    assert sum(layer_flops(layers[:-1], 320, 320)) < sum(flops) / 3.9
