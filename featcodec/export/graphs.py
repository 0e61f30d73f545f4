"""ONNX files from PyTorch modules: quietly, with free height, width and batch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.errors import FeatcodecError, WeightsError, reason_of

OPSET = 18
"""The oldest that torch.onnx makes without translation."""


def check_installed() -> None:
    """Refuse to begin without the libraries of the extra `export`.

    Raises:
        FeatcodecError: one is not installed.
    """
    try:
        import onnx  # noqa: F401, PLC0415  (an optional library)
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401, PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise FeatcodecError(
            f"an export needs {error.name}; install it with: pip install 'featcodec[export]'"
        ) from None


def onnx_of(
    network: nn.Module,
    examples: Sequence[Tensor],
    free: Sequence[Mapping[int, Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    """One ONNX file with a network in eval mode.

    Args:
        network: the network.
        examples: one tensor per input, of at least 2 along each free axis.
        free: per input, its free axes: an axis and its `torch.export.Dim`.
        inputs, outputs: their names.

    Raises:
        WeightsError: torch.onnx cannot export it.
    """
    import onnx  # noqa: PLC0415  (an optional library)

    with quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                network,
                tuple(examples),
                dynamo=True,
                dynamic_shapes=tuple(dict(axes) for axes in free),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:  # torch.export can fail in any class
            raise WeightsError(
                f"these networks cannot be exported as ONNX ({reason_of(error)}); use another `detector` or `split`"
            ) from error
        model = program.model_proto
        onnx.checker.check_model(model, full_check=True)
    # torch writes where in the source code each operator was made.
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    data: bytes = model.SerializeToString()
    return data


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch.onnx, ONNX Runtime's quantization and what they use from printing, warning and logging."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
