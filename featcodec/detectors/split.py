"""A detector in two halves, between which exactly one tensor crosses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from featcodec.detectors.graph import MAX_SPLIT, Layer
from featcodec.errors import InputError

DEFAULT_SPLIT = 4
_PROBE_SIDE = 64


class Head(Protocol):
    """The last layer of a detector."""

    def __call__(self, features: list[Tensor]) -> Tensor:
        """`decode` of `raw`."""

    def raw(self, features: list[Tensor]) -> Any:
        """Undecoded outputs from the neck's feature maps, as this kind of head has them."""

    def decode(self, raw: Any) -> Tensor:
        """(B, 4 + classes, boxes): centre x, y, width, height in letterboxed pixels; class scores."""


class SplitDetector(nn.Module):
    """A detector cut behind one fixed layer: `front` runs at the edge, `back` in the cloud. `load_detector` freezes it.

    Args:
        layers: the graph, in order.
        names: class names.
        fingerprint: 8 bytes that name the weights.
        split: the last layer of the front-end, 0..4; the paper's "layer 5" is model.4, counted from 0.

    Attributes:
        names: class names, one per class id.
        fingerprint: as given.
        split: as given.

    Raises:
        InputError: the split is outside 0..4: behind model.4 several tensors would have to cross.
    """

    def __init__(
        self, layers: Sequence[Layer], names: Sequence[str], fingerprint: bytes, split: int = DEFAULT_SPLIT
    ) -> None:
        super().__init__()
        check_split(split)
        self.layers = nn.ModuleList(layer.module for layer in layers)
        self.sources = tuple(layer.sources for layer in layers)
        self.names = tuple(names)
        self.fingerprint = fingerprint
        self.split = split
        self._probed: tuple[int, int] | None = None
        # In a dict, so that torch does not take the views for layers.
        self._views: dict[int, SplitDetector] = {}

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision it computes in."""
        return next(self.parameters()).dtype

    def at(self, split: int) -> SplitDetector:
        """The same detector cut behind another layer. The layers are shared, not copied.

        Raises:
            InputError: the split is outside 0..4.
        """
        if split == self.split:
            return self
        if split not in self._views:
            layers = [Layer(module, sources) for module, sources in zip(self.layers, self.sources, strict=True)]
            self._views[split] = SplitDetector(layers, self.names, self.fingerprint, split)
        return self._views[split].train(self.training)

    def front(self, images: Tensor) -> Tensor:
        """The feature tensor.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], H and W multiples of 32.

        Returns:
            (B, C, H / 2**k, W / 2**k) in the detector's precision; for the default split 8 pixels a sample.
        """
        # Channels last is what the convolution kernels of CPU and CUDA are fastest on.
        value = images.to(self.device, self.dtype, memory_format=torch.channels_last)
        for layer in self.layers[: self.split + 1]:
            value = layer(value)
        return value

    def back(self, features: Tensor) -> Tensor:
        """The predictions from a feature tensor.

        Args:
            features: what `front` gives, possibly damaged by coding.

        Returns:
            (B, 4 + classes, boxes): centre x, y, width, height in letterboxed pixels, then class scores in [0, 1].
        """
        predictions: Tensor = self.head(self.neck(features))
        return predictions

    @property
    def head(self) -> Head:
        """The last layer; `raw` gives what a training loss takes."""
        return cast(Head, self.layers[-1])

    def neck(self, features: Tensor) -> list[Tensor]:
        """The feature maps that the head takes, (B, C, H, W) a level, finest first; arguments as `back`."""
        kept = {self.split: features.to(self.device, self.dtype, memory_format=torch.channels_last)}
        last_use = {source: index for index, sources in enumerate(self.sources) for source in sources}
        for index in range(self.split + 1, len(self.layers) - 1):
            inputs = [kept[source] for source in self.sources[index]]
            value = self.layers[index](inputs if len(inputs) > 1 else inputs[0])
            for source in self.sources[index]:
                if last_use[source] == index:
                    kept.pop(source, None)
            kept[index] = value
        return [kept[source] for source in self.sources[-1]]

    def feature_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """The (channels, height, width) of `front`'s output for a letterboxed image, without running it in full.

        Args:
            width, height: pixels, multiples of 32.
        """
        if self._probed is None:
            with torch.inference_mode():
                probe = self.front(torch.zeros(1, 3, _PROBE_SIDE, _PROBE_SIDE))
            self._probed = (probe.shape[1], _PROBE_SIDE // probe.shape[2])
        channels, stride = self._probed
        return channels, height // stride, width // stride


def check_split(split: int) -> None:
    """Raise InputError unless exactly one tensor crosses there."""
    if not 0 <= split <= MAX_SPLIT:
        raise InputError(f"split layer {split} is outside 0..{MAX_SPLIT}: behind it several tensors would cross")
