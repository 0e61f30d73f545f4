"""An edge in int8: which of its layers compute in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exported_model import SIDE
from pictures import texture

from featcodec.edge.encoder import PICTURES
from featcodec.edge.model_file import EDGE_FILE
from featcodec.edge.sessions import open_session
from featcodec.export.int8 import NARROW, quantized_edge

WIDE = 64
"""Output channels of the first layer of `scenes` that is not narrow."""
CALIBRATION = [texture(SIDE, SIDE, seed) for seed in range(8)]


@pytest.fixture(scope="module")
def edge(exported_model: Path) -> bytes:
    return (exported_model / EDGE_FILE).read_bytes()


@pytest.fixture(scope="module")
def quantized(edge: bytes) -> bytes:
    return quantized_edge(edge, CALIBRATION)


def convolutions(model: bytes) -> list[tuple[str, str]]:
    """Of each convolution in order: what makes its input, and what makes its weights."""
    graph: Any = onnx.load_from_string(model).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    return [
        (made_by[node.input[0]], made_by.get(node.input[1], "stored")) for node in graph.node if node.op_type == "Conv"
    ]


def test_narrow_layers_at_the_beginning_stay_in_floating_point(edge: bytes, quantized: bytes) -> None:
    graph = onnx.load_from_string(edge).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    outputs = [shapes[node.input[1]][0] for node in graph.node if node.op_type == "Conv"]
    first = outputs.index(WIDE)
    assert 0 < first == sum(each <= NARROW for each in outputs[:first])
    found = convolutions(quantized)
    assert len(found) == len(outputs)
    for number, (inputs, weights) in enumerate(found):
        is_quantized = weights == "DequantizeLinear"
        assert is_quantized == (inputs == "DequantizeLinear")
        assert is_quantized == (number >= first), number


def test_that_makes_less_noise(edge: bytes, quantized: bytes) -> None:
    """On other pictures than those it was calibrated on."""
    whole = quantized_edge(edge, CALIBRATION, narrow=0)
    pictures = np.stack([texture(SIDE, SIDE, seed) for seed in range(20, 24)])
    exact, ours, other = (open_session(data, 1).run(None, {PICTURES: pictures})[0] for data in (edge, quantized, whole))
    noise, noise_of_whole = (np.square(each.astype(float) - exact).mean() for each in (ours, other))
    assert 0 < noise < 0.75 * noise_of_whole
