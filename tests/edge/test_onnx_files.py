"""What no exported network holds is refused before ONNX Runtime sees it, and any bytes end in one line."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from featcodec.edge.onnx_files import check_onnx
from featcodec.edge.sessions import open_session
from featcodec.errors import WeightsError


def model(*nodes: Any, initializers: Any = (), domains: Any = ()) -> Any:
    """A model of these nodes; by default of one that copies its input."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    made = nodes or (helper.make_node("Identity", ["x"], ["y"]),)
    graph = helper.make_graph(list(made), "g", value[:1], value[1:], list(initializers))
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def refusal(made: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        check_onnx(made.SerializeToString())
    return str(caught.value)


def test_a_plain_model_passes() -> None:
    data = model(initializers=[numpy_helper.from_array(np.ones(3, np.float32), "w")]).SerializeToString()
    check_onnx(data)
    assert open_session(data, 1).run(None, {"x": np.ones(1, np.float32)})[0] == 1


def test_an_exported_edge_passes(exported_model: Path) -> None:
    check_onnx((exported_model / "edge.onnx").read_bytes())


def external(name: str) -> Any:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=name)
    return tensor


def test_weights_in_other_files_are_refused() -> None:
    assert "in other files" in refusal(model(initializers=[external("/etc/passwd")]))
    hidden = helper.make_node("Constant", [], ["c"])
    hidden.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=external("../x")))
    assert "in other files" in refusal(model(hidden))
    without_place = external("x")
    without_place.ClearField("data_location")
    assert "in other files" in refusal(model(initializers=[without_place]))


@pytest.mark.parametrize("field", ["sparse_tensor", "sparse_tensors"])
def test_sparse_weights_of_an_operator_are_refused(field: str) -> None:
    """Their values could be in other files, too."""
    node = helper.make_node("Constant", [], ["c"])
    attribute = onnx.AttributeProto(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    place = getattr(attribute, field)
    (place.add() if field.endswith("s") else place).values.CopyFrom(external("/etc/passwd"))
    node.attribute.append(attribute)
    assert "sparse" in refusal(model(node))


def test_strange_operators_are_refused() -> None:
    node = helper.make_node("Thing", ["x"], ["y"], domain="evil\x1b[2J")
    message = refusal(model(node))
    assert "needs operators of 'evil" in message
    assert "\x1b" not in message
    assert "needs operators" in refusal(model(domains=["com.microsoft"]))


def test_loops_and_functions_are_refused() -> None:
    body = model().graph
    loop = helper.make_node("Loop", ["", "", "x"], ["y"], body=body)
    assert "with a graph in it" in refusal(model(loop))
    made = model()
    made.functions.append(helper.make_function("d", "f", [], [], [], []))
    assert "functions" in refusal(made)
    sparse = model()
    sparse.graph.sparse_initializer.add()
    assert "sparse" in refusal(sparse)


def test_more_operators_than_any_network_has_are_refused() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    assert "over 20000 operators" in refusal(model(*[node] * 20_001))


@pytest.mark.parametrize("data", [b"", b"\xff" * 11, b"\x3a", b"\x3a\x05ab", b"\x38\x01", b"\x3b", b"\x3a\x00\x3a\x00"])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(WeightsError, match="not an ONNX file"):
        check_onnx(data)


def test_what_the_runtime_refuses_is_one_line() -> None:
    data = model(helper.make_node("Nonsense", ["x"], ["y"])).SerializeToString()
    check_onnx(data)
    with pytest.raises(WeightsError, match="ONNX Runtime refuses it") as caught:
        open_session(data, 1)
    assert "\n" not in str(caught.value)


WHOLE = model(initializers=[numpy_helper.from_array(np.ones(3, np.float32), "w")]).SerializeToString()


@given(st.binary(max_size=200))
def test_any_bytes_end_in_one_error(data: bytes) -> None:
    with contextlib.suppress(WeightsError):
        check_onnx(data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_damaged_models_end_in_one_error(place: int, value: int) -> None:
    data = bytearray(WHOLE)
    data[place] = value
    try:
        check_onnx(bytes(data))
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=50)
@given(st.integers(0, len(WHOLE) - 1))
def test_nothing_is_found_in_a_part_of_a_model(length: int) -> None:
    with contextlib.suppress(WeightsError):
        check_onnx(WHOLE[:length])
