"""Writes and reads the checkpoints that featcodec trains: safetensors files with a JSON config. Nothing is unpickled.

The file's metadata holds one key, `featcodec`, with the JSON config:
    {"format": 1, "kind": "bottleneck", ...fields of the kind...}

`load_network` loads all networks. Every kind passes two functions to it: one reads the config, one builds the module.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from featcodec.bitstream.side_info import MAX_SPLIT
from featcodec.errors import FeatcodecError, WeightsError, reason_of
from featcodec.fingerprints import fingerprint_of_arrays
from featcodec.networks.headers import MAX_BYTES, parse_json, read_header
from featcodec.system.files import check_regular, write_atomically

FORMAT = 1
MAX_CHANNELS = 4096
"""The largest number of channels in one layer of featcodec's networks."""
_METADATA_KEY = "featcodec"

C = TypeVar("C")
N = TypeVar("N", bound=nn.Module)


def fingerprint(*states: Mapping[str, Tensor], structure: str = "") -> bytes:
    """8 bytes that name a network; see `featcodec.fingerprints.fingerprint_of_arrays`.

    Args:
        states: state dicts, in order.
        structure: a text that tells apart networks with equal weights.
    """
    return fingerprint_of_arrays(*map(_as_arrays, states), structure=structure)


def save_checkpoint(
    path: Path,
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    half: bool = False,
    overwrite: bool = True,
) -> None:
    """Write weights and config to a `.safetensors` file; with `half`, weights are stored as float16.

    A checkpoint of that name is replaced, unless `overwrite` is False.

    Raises:
        WeightsError: a number is too large for float16.
        OutputError: the file cannot be written.
    """
    if half:
        state = {name: _half(path, name, tensor) for name, tensor in state.items()}
    text = json.dumps({"format": FORMAT, "kind": kind, **config}, sort_keys=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomically(path, save(tensors, {_METADATA_KEY: text}), overwrite=overwrite)


def store_half(source: Path, target: Path) -> None:
    """Write a copy of a checkpoint, of any kind, with its floating-point numbers as float16, for shipping.

    Rounded weights have another fingerprint. What was bound to the given weights does not fit the copy.

    Raises:
        WeightsError: the file is missing or damaged, or a number is too large for float16.
        OutputError: the file cannot be written.
    """
    kind = kind_of(source)
    content, state = load_checkpoint(source, kind)
    config = {name: value for name, value in content.items() if name not in ("format", "kind")}
    save_checkpoint(target, kind, config, state, half=True)


def kind_of(path: Path) -> str:
    """The kind of a checkpoint as the file names it, or an empty string if the file is not a checkpoint of featcodec.

    Raises:
        WeightsError: the file is missing, or is not a safetensors file.
    """
    content, _ = _read_content(path, "checkpoint")
    kind = content.get("kind") if isinstance(content, dict) else ""
    return kind if isinstance(kind, str) else ""


def load_checkpoint(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the weights in a checkpoint of the kind.

    Raises:
        WeightsError: the file is missing, is damaged or too large, or has another kind or a later format.
    """
    config, _ = _read_config(path, kind)
    return config, _read_tensors(path)


def _read_config(path: Path, kind: str) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """The config, and the tensors without their numbers (on the meta device). Nothing else is read."""
    config, tensors = _read_content(path, kind)
    if not isinstance(config, dict) or config.get("kind") != kind:
        raise WeightsError(f"{path}: not a {kind} of featcodec; use a checkpoint of `featcodec train`")
    if not isinstance(config.get("format"), int) or config["format"] > FORMAT:
        found = str(config.get("format"))[:20]
        raise WeightsError(f"{path}: has format {found}, but this featcodec reads up to format {FORMAT}; update it")
    return config, tensors


def _read_content(path: Path, kind: str) -> tuple[Any, Mapping[str, Tensor]]:
    # safetensors maps the file into memory. Without this check, it would wait for a pipe.
    check_regular(path, MAX_BYTES, WeightsError, what=kind, remedy="use another file")
    with _no_checkpoint(path):
        header = read_header(path)
        return parse_json(header.metadata.get(_METADATA_KEY, "{}")), header.tensors


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with _no_checkpoint(path), safe_open(path, framework="pt", device="cpu") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    if not all(map(all_finite, state.values())):
        raise WeightsError(f"{path}: holds weights that are not finite; train it again")
    return state


def all_finite(tensor: Tensor) -> bool:
    """Whether every number is finite as float32, in which the networks are built. No copy is made."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    largest = torch.finfo(torch.float32).max
    return all(abs(float(extreme)) <= largest for extreme in torch.aminmax(tensor))  # NaN is not


@contextlib.contextmanager
def _no_checkpoint(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a safetensors checkpoint ({reason_of(error)}); train or download it again"
        ) from None


def load_network(path: Path, kind: str, read_config: Callable[[Mapping[str, Any]], C], build: Callable[[C], N]) -> N:
    """Read the network in a checkpoint.

    The network is first built on the meta device. So nothing is allocated before the stored shapes are checked.
    Tensors that `build` makes with `device="cpu"` keep their values. These values come only from the config, and the
    file must not hold them. Buffers that are not persistent must be made with `device="cpu"`.

    Args:
        path: the file.
        kind: the kind of network, as the file names it.
        read_config: makes the checked config from the JSON dict; see `config_from`.
        build: makes the network from the config.

    Returns:
        the network with the stored weights, on the CPU, in eval mode, frozen. Floating-point numbers are float32, also
        if the file stores another type.

    Raises:
        WeightsError: the file is missing, is damaged or has another kind, or its config contradicts its weights.
    """
    content, claimed = _read_config(path, kind)
    with refusing(path, "its config does not fit its weights", "train it again"):
        config = read_config(content)
        with torch.device("meta"):
            network = build(config)
        state = network.state_dict()
        fixed = {name: tensor for name, tensor in state.items() if not tensor.is_meta}
        expected = {name: tensor for name, tensor in state.items() if tensor.is_meta}
        check_tensors(claimed, expected)
    stored = _read_tensors(path)
    with refusing(path, "it changed while it was read", "load it again"):
        weights = {name: tensor.to(expected[name].dtype) for name, tensor in stored.items()}
        network.load_state_dict({**weights, **fixed}, assign=True)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        assert not tensor.is_meta, f'{name} is not stored, so make it with device="cpu"'  # noqa: S101
    return network.eval().requires_grad_(False)


@contextlib.contextmanager
def refusing(path: Path, problem: str, remedy: str) -> Iterator[None]:
    """Turn every failure in the block into a WeightsError of one line. A wrong config or wrong weights can cause many.

    Args:
        path: the file.
        problem: what a failure in the block means for the file.
        remedy: what to do.

    Raises:
        WeightsError: the block failed; the message names file, problem, cause and remedy.
    """
    try:
        yield
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError, FeatcodecError) as error:
        raise WeightsError(f"{path}: {problem} ({reason_of(error)}); {remedy}") from None


def config_from(
    config: type[C], content: Mapping[str, Any], aliases: Mapping[str, str] | None = None, later: Collection[str] = ()
) -> C:
    """Make a config dataclass from the JSON dict of a checkpoint, and check the types of its fields.

    Args:
        config: the dataclass; its fields are int, float, str, bool, dict, and tuples of these.
        content: the JSON dict. It may have more keys. Lists become tuples.
        aliases: field name -> the key that older checkpoints use for this field.
        later: fields that older checkpoints do not have. If one is missing, it has its default value.

    Raises:
        ValueError: a field is missing, or a tuple has another length.
        TypeError: a field has another type. A bool is not a number.
        OverflowError: a whole number is too large for a float field.
    """
    hints = get_type_hints(config)
    values = {}
    for name in (field.name for field in fields(config)):  # type: ignore[arg-type]
        key = name if name in content else (aliases or {}).get(name, name)
        if key not in content and name in later:
            continue
        if key not in content:
            raise ValueError(f"{name} is missing")
        values[name] = _typed(name, content[key], hints[name])
    return config(**values)


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Convert a JSON value to the type of its field."""
    kind = get_origin(hint) or hint
    if kind is tuple and isinstance(value, (list, tuple)):
        inner = get_args(hint)
        hints = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(value) != len(hints):
            raise ValueError(f"{name} has {len(value)} entries, not {len(hints)}")
        return tuple(_typed(name, one, each) for one, each in zip(value, hints, strict=True))
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} holds {value!r:.40}, which is not {kind.__name__}")
    return float(value) if kind is float else value


def check_sizes(what: str, sizes: Sequence[int], low: int, high: int) -> None:
    """Raise ValueError unless all are whole numbers from `low` to `high`, both included. A bool is not a number."""
    if any(isinstance(size, bool) or not isinstance(size, int) or not low <= size <= high for size in sizes):
        raise ValueError(f"{what} {', '.join(map(repr, sizes))}: not whole numbers within {low}..{high}")


def check_power_of_two(what: str, size: int, high: int) -> None:
    """Raise ValueError unless it is a power of two, from 1 to `high`."""
    check_sizes(what, [size], 1, high)
    if size & (size - 1):
        raise ValueError(f"{what} {size}: not a power of two")


def check_split(split: int) -> None:
    """Raise ValueError unless a stream can name that layer as its split, 0..127."""
    check_sizes("split", [split], 0, MAX_SPLIT)


def check_fingerprint(what: str, digits: str) -> None:
    """Raise ValueError unless the value is a fingerprint of 16 hex digits."""
    if not isinstance(digits, str) or not re.fullmatch("[0-9a-f]{16}", digits):
        raise ValueError(f"{what} {digits!r:.40}: not 16 hex digits")


def check_tensors(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a tensor is missing, is not expected, or has another shape or kind of number."""
    if strange := sorted(stored.keys() ^ expected.keys()):
        raise ValueError(f"{strange[0]} is {'missing' if strange[0] in expected else 'not one of its tensors'}")
    for name, tensor in stored.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(expected[name].shape)}")
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise ValueError(f"{name} holds {tensor.dtype}")


def _half(path: Path, name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    if not largest <= torch.finfo(torch.float16).max:
        raise WeightsError(
            f"{path}: {name} holds {largest:g}, too large for float16; use a lower learning rate, or save float32"
        )
    return tensor.half()


def _as_arrays(state: Mapping[str, Tensor]) -> dict[str, Any]:
    # numpy has no bfloat16, so floats become float32 here.
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()
        for name, tensor in state.items()
    }
