"""A detector in two halves. Exactly one tensor crosses from the front-end to the back-end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from featcodec.detectors.graph import MAX_SPLIT
from featcodec.detectors.layers import Layer
from featcodec.errors import InputError

DEFAULT_SPLIT = 4
_PROBE_SIDE = 64


class Head(Protocol):
    """The last layer of a detector."""

    def __call__(self, features: list[Tensor]) -> Tensor:
        """Run `raw`, then `decode`."""

    def raw(self, features: list[Tensor]) -> Any:
        """Raw outputs from the neck's feature maps; their form depends on the kind of head."""

    def decode(self, raw: Any, conf: float | None = None) -> Tensor:
        """(B, 4 + classes, boxes): centre x, y, width, height in letterboxed pixels; class scores.

        With `conf`, B must be 1, and boxes without a score above it may be left out.
        """


class SplitDetector(nn.Module):
    """A detector that is cut behind one fixed layer: `front` runs at the edge, `back` runs in the cloud.

    `load_detector` returns it frozen.

    Args:
        layers: the graph, in order.
        names: class names.
        fingerprint: 8 bytes that name the weights.
        split: the last layer of the front-end, 0..4, counted from 0; the paper's "layer 5" is model.4.

    Attributes:
        names: class names, one per class id.
        fingerprint: as given.
        split: as given.

    Raises:
        InputError: the split is outside 0..4; behind model.4, more than one tensor crosses.
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
        """The device that holds the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which the detector computes."""
        return next(self.parameters()).dtype

    def at(self, split: int) -> SplitDetector:
        """The same detector, cut behind another layer. The layers are shared, not copied.

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
            (B, C, H / 2**k, W / 2**k) in the detector's precision; for the default split 8 pixels per sample.
        """
        # The convolution kernels of CPU and CUDA are fastest with channels last.
        value = images.to(self.device, self.dtype, memory_format=torch.channels_last)
        for layer in self.layers[: self.split + 1]:
            value = layer(value)
        return value

    def back(self, features: Tensor, conf: float | None = None) -> Tensor:
        """The predictions from a feature tensor.

        Args:
            features: what `front` returns, possibly damaged by coding.
            conf: boxes without a score above it may be left out; B must be 1.

        Returns:
            (B, 4 + classes, boxes): centre x, y, width, height in letterboxed pixels, then class scores in [0, 1].
        """
        return self.head.decode(self.head.raw(self.neck(features)), conf)

    @property
    def head(self) -> Head:
        """The last layer. Its `raw` returns the outputs that a training loss takes."""
        return cast(Head, self.layers[-1])

    def neck(self, features: Tensor) -> list[Tensor]:
        """The feature maps that the head takes, (B, C, H, W) per level, finest level first; arguments as in `back`."""
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
        """The (channels, height, width) of `front`'s output for a letterboxed image, without running `front` on it.

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
    """Raise InputError unless exactly one tensor crosses at this split."""
    if not 0 <= split <= MAX_SPLIT:
        raise InputError(f"split layer {split} is outside 0..{MAX_SPLIT}; behind other layers, several tensors cross")
