"""Checkpoints of what featcodec trains: safetensors with a JSON config; fingerprints of weights. Nothing is unpickled.

The file's metadata holds one key, `featcodec`, with the JSON config:
    {"format": 1, "kind": "bottleneck", ...fields of the kind...}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from featcodec.errors import WeightsError
from featcodec.fingerprints import fingerprint_of_arrays
from featcodec.system.files import write_atomically

FORMAT = 1
_METADATA_KEY = "featcodec"
_MAX_BYTES = 1 << 30


def fingerprint(*states: Mapping[str, Tensor], structure: str = "") -> bytes:
    """8 bytes that name a network; see `featcodec.fingerprints.fingerprint_of_arrays`.

    Args:
        states: state dicts, in order.
        structure: what else distinguishes networks of equal weights.
    """
    return fingerprint_of_arrays(*map(_as_arrays, states), structure=structure)


def save_checkpoint(
    path: Path, kind: str, config: Mapping[str, Any], state: Mapping[str, Tensor], *, half: bool = False
) -> None:
    """Write weights and config to a `.safetensors` file, if asked for as float16.

    Raises:
        WeightsError: a number is beyond float16's range.
        OutputError: it cannot be written.
    """
    if half:
        state = {name: _half(path, name, tensor) for name, tensor in state.items()}
    text = json.dumps({"format": FORMAT, "kind": kind, **config}, sort_keys=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomically(path, save(tensors, {_METADATA_KEY: text}))


def load_checkpoint(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the weights in a checkpoint of a kind.

    Raises:
        WeightsError: no such file, damaged, too large, of another kind or of a later format.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise WeightsError(f"{path}: over {_MAX_BYTES >> 20} MiB, larger than any {kind}; use another file")
        with safe_open(path, framework="pt", device="cpu") as file:
            config = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; check the path") from None
    except (OSError, RecursionError, SafetensorError, ValueError) as error:
        raise WeightsError(f"{path}: not a safetensors checkpoint ({error}); train or download it again") from None
    if not isinstance(config, dict) or config.get("kind") != kind:
        raise WeightsError(f"{path}: not a {kind} of featcodec; use a checkpoint of `featcodec train`")
    if not isinstance(config.get("format"), int) or config["format"] > FORMAT:
        raise WeightsError(f"{path}: of format {config.get('format')}; this featcodec reads up to {FORMAT}: update it")
    if any(tensor.is_complex() for tensor in state.values()):
        raise WeightsError(f"{path}: holds weights that are no real numbers; train it again")
    if any(not torch.isfinite(tensor.float()).all() for tensor in state.values() if tensor.is_floating_point()):
        raise WeightsError(f"{path}: holds weights that are not finite; train it again")
    return config, state


def _half(path: Path, name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    if not largest <= torch.finfo(torch.float16).max:
        raise WeightsError(
            f"{path}: {name} holds {largest:g}, which float16 cannot; train with a lower learning rate, or save float32"
        )
    return tensor.half()


def _as_arrays(state: Mapping[str, Tensor]) -> dict[str, Any]:
    # numpy knows no bfloat16, so floats become float32 here.
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()
        for name, tensor in state.items()
    }
