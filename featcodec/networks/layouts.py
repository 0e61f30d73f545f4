"""Writes and reads checkpoints of layouts (`featcodec.packing.layout`), and chooses the layout for a tensor."""

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


def save_layout(path: Path, layout: Layout, *, overwrite: bool = True) -> None:
    """Write a `.safetensors` checkpoint; `load_layout` reads it. `overwrite` replaces a file that exists.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    state = {name: torch.from_numpy(array) for name, array in layout.arrays().items()}
    save_checkpoint(path, KIND, asdict(layout.config), state, overwrite=overwrite)


def load_layout(path: Path) -> Layout:
    """Read a checkpoint.

    Raises:
        WeightsError: the file is missing, is damaged or is not a layout, or its values are not valid.
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
            raise TypeError("the order does not hold whole numbers")
        return Layout(config, order.long().numpy(), scale.float().numpy(), offset.float().numpy())


def choose_layout(
    name_or_path: str | Path | None, model: bytes, channels: int, split: int, stream: bytes | None = None
) -> Layout | None:
    """The layout for a model's tensor.

    Args:
        name_or_path: a `.safetensors` checkpoint, "none" (or None) for the tensor as it is, or "auto". "auto" takes no
            layout if `stream` says that the bitstream has none. Else it takes the layout that ships for this tensor,
            if any.
        model: 8 bytes that name the model whose tensor it is.
        channels: channels of the tensor.
        split: last layer of the model's front-end.
        stream: the fingerprint in a bitstream, 8 bytes, if there is a bitstream.

    Raises:
        WeightsError: the file is not a layout, or the layout does not fit this tensor.
    """
    if name_or_path is None or name_or_path == NONE or (name_or_path == AUTO and stream == model):
        return None
    if name_or_path == AUTO:
        layouts = (load_layout(shipped.path) for shipped in shipped_for(SHIPPED_LAYOUTS, model))
        return next((layout for layout in layouts if layout.config.split == split), None)
    layout = load_layout(Path(name_or_path))
    if layout.config.model_fingerprint != model.hex():
        raise WeightsError(
            f"{name_or_path}: lays out the tensor of the networks {layout.config.model_fingerprint}, but {model.hex()} "
            "are loaded; give the `detector` and `bottleneck` it was found with, or `layout` none"
        )
    if layout.config.split != split or len(layout.order) != channels:
        raise WeightsError(
            f"{name_or_path}: lays out {len(layout.order)} channels behind layer {layout.config.split}, not {channels} "
            f"channels behind layer {split}; use `layout` none"
        )
    return layout


def stream_fingerprint(model: bytes, layout: Layout | None) -> bytes:
    """8 bytes that name the networks that make a stream: the model and the layout, if there is one.

    Args:
        model: 8 bytes that name the model (`SplitModel.fingerprint`).
        layout: the layout of the model's tensor, or None.
    """
    return joined_fingerprint(model, None if layout is None else layout.fingerprint())


def model_fingerprint(stream: bytes | None, name_or_path: str | Path | None) -> bytes | None:
    """The fingerprint of the model that made a stream, from the stream fingerprint, which also names the layout.

    Args:
        stream: the fingerprint in the stream, 8 bytes, or None.
        name_or_path: the layout that the user wants, as in `choose_layout`.

    Returns:
        the model fingerprint, 8 bytes, if the stream's layout is the wanted layout or a shipped layout; else `stream`
        itself.

    Raises:
        WeightsError: the file is not a layout.
    """
    paths = [shipped.path for shipped in SHIPPED_LAYOUTS]
    if name_or_path not in (None, NONE, AUTO):
        paths.append(Path(str(name_or_path)))
    for layout in map(load_layout, paths if stream else ()):
        model = bytes.fromhex(layout.config.model_fingerprint)
        if stream == stream_fingerprint(model, layout):
            return model
    return stream
