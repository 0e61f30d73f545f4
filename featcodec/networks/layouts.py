"""Checkpoints of layouts (`featcodec.packing.layout`), and which one a tensor gets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from featcodec.errors import WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.networks.catalogue import AUTO, NONE, SHIPPED_LAYOUTS, shipped_for
from featcodec.networks.checkpoints import (
    check_fingerprint,
    check_split,
    config_from,
    load_checkpoint,
    refusing,
    save_checkpoint,
)
from featcodec.packing.layout import Layout, LayoutConfig
from featcodec.packing.quantize import UniformQuantizer

KIND = "layout"
_OLD_KEYS = {"model_fingerprint": "tensor_fingerprint"}


def save_layout(path: Path, layout: Layout) -> None:
    """Write a `.safetensors` checkpoint; `load_layout` reads it.

    Raises:
        OutputError: it cannot be written.
    """
    save_checkpoint(
        path, KIND, asdict(layout.config), {name: torch.from_numpy(array) for name, array in layout.arrays().items()}
    )


def load_layout(path: Path) -> Layout:
    """Read a checkpoint.

    Raises:
        WeightsError: missing, damaged, not a layout, or numbers that are none.
    """
    content, state = load_checkpoint(path, KIND)
    with refusing(path, "not a layout", "find it again with `featcodec train layout`"):
        config = config_from(LayoutConfig, content, _OLD_KEYS)
        UniformQuantizer(config.clip_low, config.clip_high)
        check_split(config.split)
        check_fingerprint("model fingerprint", config.model_fingerprint)
        if missing := [name for name in ("order", "scale", "offset") if name not in state]:
            raise ValueError(f"{missing[0]} is missing")
        order, scale, offset = (state[name] for name in ("order", "scale", "offset"))
        if order.is_floating_point():
            raise TypeError("an order that is no whole numbers")
        return Layout(config, order.long().numpy(), scale.float().numpy(), offset.float().numpy())


def choose_layout(
    name_or_path: str | Path | None, model: bytes, channels: int, split: int, stream: bytes | None = None
) -> Layout | None:
    """The layout for a model's tensor.

    Args:
        name_or_path: a `.safetensors` checkpoint, "none" (or None) for the tensor as it is, or "auto": what `stream`
            names, else the one that ships for this tensor, else none.
        model: 8 bytes that name the networks which make the tensor.
        channels: of the tensor.
        split: the layer it was split behind.
        stream: 8 bytes, the fingerprint that stands in a bitstream, if there is one.

    Raises:
        WeightsError: not a layout, or not one for this tensor.
    """
    if name_or_path is None or name_or_path == NONE or (name_or_path == AUTO and stream == model):
        return None
    if name_or_path == AUTO:
        layouts = (load_layout(shipped.path) for shipped in shipped_for(SHIPPED_LAYOUTS, model))
        return next((layout for layout in layouts if layout.config.split == split), None)
    layout = load_layout(Path(name_or_path))
    if layout.config.model_fingerprint != model.hex():
        raise WeightsError(
            f"{name_or_path}: lays out the tensor of {layout.config.model_fingerprint}, but {model.hex()} is loaded; "
            "give the `detector` and `bottleneck` it was found with, or `layout` none"
        )
    if layout.config.split != split or len(layout.order) != channels:
        raise WeightsError(
            f"{name_or_path}: lays out {len(layout.order)} channels behind layer {layout.config.split}, not {channels} "
            f"behind {split}; use `layout` none"
        )
    return layout


def model_fingerprint(stream: bytes | None, name_or_path: str | Path | None) -> bytes | None:
    """Which networks made a stream, whatever its layout: the fingerprint in it without that of the layout.

    Args:
        stream: the fingerprint in the stream, 8 bytes, or None.
        name_or_path: the layout that was asked for, as `choose_layout` takes it.

    Returns:
        8 bytes of the networks where the layout is that one or one that ships, else `stream` itself.

    Raises:
        WeightsError: that file is no layout.
    """
    paths = [shipped.path for shipped in SHIPPED_LAYOUTS]
    if name_or_path not in (None, NONE, AUTO):
        paths.append(Path(str(name_or_path)))
    for layout in map(load_layout, paths if stream else ()):
        model = bytes.fromhex(layout.config.model_fingerprint)
        if stream == joined_fingerprint(model, layout.fingerprint()):
            return model
    return stream
