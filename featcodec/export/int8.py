"""An edge in 8-bit integers: its convolutions and what stands between them, by ONNX Runtime (static, QDQ).

The last SiLU, layout, quantizer and tiling stay in floating point: what they make is rounded to 8 bits anyway. Ranges
are percentiles of what pictures make in each layer. The range from the least to the greatest value doubled the error of
the samples of `scenes` with `alley`.

The first convolutions stay in floating point, too, as long as they are narrow: in 8 bits they take no less time, but
make most of the error (docs/experiments.md, An edge in int8).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcodec.edge.encoder import FRAMES, PICTURES
from featcodec.errors import WeightsError, reason_of
from featcodec.export.graphs import quiet

INT8 = "int8"
_OPERATORS = ["Conv", "Mul", "Sigmoid", "Add", "Concat"]
_PERCENTILE = 99.99
_ROUNDS = 15
NARROW = 32
"""Output channels of the widest of the first convolutions that stay in floating point."""


def quantized_edge(edge: bytes, pictures: Sequence[npt.NDArray[np.uint8]], narrow: int = NARROW) -> bytes:
    """`edge.onnx` with convolutions in 8 bits: weights int8 per channel, activations uint8.

    Args:
        edge: the bytes of the float32 file.
        pictures: letterboxed, (height, width, 3) uint8 RGB, at least one; some ten like those that the edge will see.
        narrow: the first convolutions stay in floating point as long as they have at most so many output channels.

    Raises:
        WeightsError: ONNX Runtime does not quantize it.
    """
    import onnx  # noqa: PLC0415  (an optional library)
    from onnxruntime import quantization  # type: ignore[import-untyped]  # noqa: PLC0415

    model = onnx.load_from_string(edge)
    with tempfile.TemporaryDirectory() as folder, quiet():
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(edge)
        try:
            quantization.quantize_static(
                str(before),
                str(after),
                _Pictures(pictures),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=_beginning(model.graph, narrow) + _behind_convolutions(model.graph),
                calibrate_method=quantization.CalibrationMethod.Percentile,
                # One picture at a time: the runtime keeps all that it makes of those that it collects together.
                extra_options={"CalibPercentile": _PERCENTILE, "CalibStridedMinMax": 1},
            )
        except Exception as error:  # onnx and its runtime have classes of their own
            raise WeightsError(
                f"ONNX Runtime does not quantize the edge ({reason_of(error)}); leave out `int8`"
            ) from error
        made = onnx.load_from_string(after.read_bytes())
    used = {node.domain for node in made.graph.node}
    for opset in [each for each in made.opset_import if each.domain and each.domain not in used]:
        made.opset_import.remove(opset)  # ONNX Runtime's own operators, which are not used
    data: bytes = made.SerializeToString()
    return data


def speed_ratio(one: Any, other: Any, picture: npt.NDArray[np.uint8]) -> float:
    """How many times as fast the other network is: CPU time, in turns.

    Args:
        one, other: `edge.onnx` in ONNX Runtime, with one thread.
        picture: (height, width, 3) uint8 RGB, letterboxed.
    """

    def seconds(session: Any) -> float:
        started = time.process_time()
        session.run([FRAMES], {PICTURES: picture[np.newaxis]})
        return time.process_time() - started

    seconds(one), seconds(other)
    return statistics.median(seconds(one) / seconds(other) for _ in range(_ROUNDS))


class _Pictures:
    """What ONNX Runtime calibrates on, as its `CalibrationDataReader`."""

    def __init__(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> None:
        self._pictures = pictures
        self._left = iter(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._pictures[start_index:end_index])

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        picture = next(self._left, None)
        return None if picture is None else {PICTURES: picture[np.newaxis]}


def _beginning(graph: Any, narrow: int) -> list[str]:
    """The names of the operators before the first convolution with more output channels than `narrow`."""
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    widths = [shapes[node.input[1]][0] if node.op_type == "Conv" else 0 for node in graph.node]
    end = next((place for place, width in enumerate(widths) if width > narrow), 0)
    return [node.name for node in graph.node[:end]]


def _behind_convolutions(graph: Any) -> list[str]:
    """The names of the operators behind which no convolution stands on the way to the output."""
    made_by = {output: node for node in graph.node for output in node.output}
    waiting = [made_by[output.name] for output in graph.output]
    found: dict[str, None] = {}
    while waiting:
        node = waiting.pop()
        if node.op_type != "Conv" and node.name not in found:
            found[node.name] = None
            waiting += [made_by[name] for name in node.input if name in made_by]
    return list(found)
