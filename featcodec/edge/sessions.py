"""Networks in ONNX Runtime, on the CPU."""

from __future__ import annotations

from typing import Any

from featcodec.errors import FeatcodecError, WeightsError, reason_of

_ONLY_FATAL = 4


def open_session(data: bytes, threads: int) -> Any:
    """Open a network. `featcodec.edge.onnx_files.check_onnx` must have seen it, if it comes from others.

    Args:
        data: the bytes of an ONNX file.
        threads: at a time, at least 1.

    Raises:
        WeightsError: the runtime refuses it; the message names the cause without the file.
        FeatcodecError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415  (an optional library)
    except ImportError:
        raise FeatcodecError("this needs onnxruntime; install it with: pip install 'featcodec[edge]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL  # what goes wrong is raised, too
    # Threads that wait in loops would take the cores that the video encoder needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has classes of its own, which share no base
        raise WeightsError(f"ONNX Runtime refuses it ({reason_of(error)})") from None
