"""A detector in two halves. One tensor, or several, cross from the front-end to the back-end."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import CBLinear

from featcodec.detectors.layers import PICTURE, Layer
from featcodec.detectors.measure import LayerShape, layer_flops, layer_shapes, run_layers
from featcodec.detectors.task import Task
from featcodec.errors import InputError, WeightsError
from featcodec.networks.features import Features, features_of_levels, levels_of
from featcodec.networks.fusion import Level

DEFAULT_SPLIT = 4
"""The paper's, where the detector has it."""
LEAST_STRIDE = 32
MAX_TENSORS = 8
_BITS = 8


class Head(Protocol):
    """The last layer of a detector."""

    def __call__(self, features: list[Tensor]) -> Tensor:
        """Run `raw`, then `decode`."""

    def raw(self, features: list[Tensor]) -> Any:
        """Raw outputs from the neck's feature maps; their form depends on the kind of head."""

    def decode(self, raw: Any, conf: float | None = None) -> Tensor:
        """(B, 4 + classes + extra, boxes): centre x, y, width, height in letterboxed pixels; class scores; the extra.

        With `conf`, B must be 1, and boxes without a score above it may be left out.
        """

    def prototypes(self, raw: Any) -> Tensor | None:
        """(B, coefficients, H, W), of which masks are made, or None for a head without masks."""

    @property
    def task(self) -> Task:
        """What the predictions hold."""


class Predictions(NamedTuple):
    """What the back-end answers.

    Attributes:
        values: (B, rows, boxes): centre x, y, width, height in letterboxed pixels, class scores in [0, 1], then mask
            coefficients or keypoints (`Task`).
        prototypes: (B, coefficients, H, W), of which masks are made, or None for a detector without masks.
    """

    values: Tensor
    prototypes: Tensor | None


@dataclass(frozen=True)
class Split:
    """A place where a detector can be cut, for letterboxed images of one size.

    Attributes:
        layer: the last layer of the front-end.
        kind: what the layer is.
        shapes: (channels, height, width) of each tensor that crosses, finest first.
        flops: floating-point operations of the front-end; a multiplication and an addition are two.
        parameters: weights of the front-end.
    """

    layer: int
    kind: str
    shapes: tuple[tuple[int, int, int], ...]
    flops: int
    parameters: int

    @property
    def samples(self) -> int:
        """Numbers that cross."""
        return sum(channels * height * width for channels, height, width in self.shapes)

    @property
    def raw_bits(self) -> int:
        """Bits of these numbers at 8 bits each, before coding."""
        return _BITS * self.samples


class SplitDetector(nn.Module):
    """A detector that is cut behind one fixed layer: `front` runs at the edge, `back` runs in the cloud.

    `load_detector` returns it frozen.

    Args:
        layers: the graph, in order.
        names: class names.
        fingerprint: 8 bytes that name the weights.
        split: the last layer of the front-end, counted from 0; the paper's "layer 5" is model.4. None means 4, or the
            first layer behind which the detector can be cut.
        shapes: what the layers make (`layer_shapes`), at least up to the split, if it is known already.

    Attributes:
        names: class names, one per class id.
        fingerprint: as given.
        split: the last layer of the front-end.
        crossing: the layers whose outputs cross, the finest output first.

    Raises:
        InputError: the detector cannot be cut behind that layer.
        WeightsError: it cannot be cut behind any layer.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        names: Sequence[str],
        fingerprint: bytes,
        split: int | None = None,
        shapes: list[LayerShape | None] | None = None,
    ) -> None:
        super().__init__()
        if shapes is not None:
            self.__dict__["_shapes"] = shapes  # in the place of the cached property
        self.layers = nn.ModuleList(layer.module for layer in layers)
        self.sources = tuple(layer.sources for layer in layers)
        self.names = tuple(names)
        self.fingerprint = fingerprint
        self.split = self._choose(split)
        self.crossing = self._crossing(self.split)
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

    @property
    def stride(self) -> int:
        """Letterboxed sides are multiples of so many pixels: 32, or 64 for P6 models."""
        head: Any = self.layers[-1]
        strides = head.stride if hasattr(head, "stride") else head.strides
        return max(LEAST_STRIDE, int(strides.max()))

    def at(self, split: int) -> SplitDetector:
        """The same detector, cut behind another layer. The layers are shared, not copied.

        Raises:
            InputError: the detector cannot be cut behind that layer.
        """
        if split == self.split:
            return self
        if split not in self._views:
            known: list[LayerShape | None] | None = self.__dict__.get("_shapes")
            shapes = known if known is not None and len(known) > split else None
            self._views[split] = SplitDetector(self._graph(), self.names, self.fingerprint, split, shapes)
        return self._views[split].train(self.training)

    def front(self, images: Tensor) -> Features:
        """The feature tensor, or several behind a split where several cross.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], H and W multiples of `stride`.

        Returns:
            (B, C, H / 2**k, W / 2**k) in the detector's precision; for the default split 8 pixels per sample. Or a
            tuple of such tensors, the finest first.
        """
        # The convolution kernels of CPU and CUDA are fastest with channels last.
        picture = images.to(self.device, self.dtype, memory_format=torch.channels_last)
        kept = run_layers(self._graph(), {PICTURE: picture}, 0, self.split + 1, self.crossing)
        return features_of_levels([kept[index] for index in self.crossing])

    def back(self, features: Features, conf: float | None = None) -> Tensor:
        """The predictions from what `front` returns.

        Args:
            features: what `front` returns, possibly damaged by coding.
            conf: boxes without a score above it may be left out; B must be 1.

        Returns:
            (B, 4 + classes + extra, boxes): centre x, y, width, height in letterboxed pixels, then class scores in
            [0, 1], then what a head for masks or keypoints adds.
        """
        return self.predict(features, conf).values

    def predict(self, features: Features, conf: float | None = None) -> Predictions:
        """All that the back-end answers, with the prototypes of masks; arguments as in `back`."""
        raw = self.head.raw(self.neck(features))
        return Predictions(self.head.decode(raw, conf), self.head.prototypes(raw))

    @property
    def task(self) -> Task:
        """What the predictions hold besides boxes."""
        return self.head.task

    @property
    def head(self) -> Head:
        """The last layer. Its `raw` returns the outputs that a training loss takes."""
        return cast("Head", self.layers[-1])

    def neck(self, features: Features) -> list[Tensor]:
        """The feature maps that the head takes, (B, C, H, W) per level, finest level first; arguments as in `back`."""
        levels = levels_of(features)
        if len(levels) != len(self.crossing):
            raise InputError(f"{len(levels)} tensors, but {len(self.crossing)} cross behind layer {self.split}")
        kept: dict[int, Any] = {
            index: level.to(self.device, self.dtype, memory_format=torch.channels_last)
            for index, level in zip(self.crossing, levels, strict=True)
        }
        last = len(self.layers) - 1
        run_layers(self._graph(), kept, self.split + 1, last, self.sources[-1])
        return [kept[source] for source in self.sources[-1]]

    def feature_shapes(self, width: int, height: int) -> tuple[tuple[int, int, int], ...]:
        """(channels, height, width) of each tensor that crosses, for a letterboxed image; `front` is not run.

        Args:
            width, height: pixels, multiples of `stride`.
        """
        shapes = [self._shapes[index] for index in self.crossing]
        return tuple((each.channels, height // each.stride, width // each.stride) for each in shapes)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Channels and scale of each tensor that crosses, the finest first."""
        shapes = [self._shapes[index] for index in self.crossing]
        times = [each.stride // self.pixels_per_sample for each in shapes]
        return tuple(Level(each.channels, scale.bit_length() - 1) for each, scale in zip(shapes, times, strict=True))

    @property
    def pixels_per_sample(self) -> int:
        """Pixels of the letterboxed image that a sample of the finest tensor covers, per side."""
        return int(self._shapes[self.crossing[0]].stride)

    @property
    def shapes(self) -> dict[int, LayerShape]:
        """What the picture is (`PICTURE`) and what each layer up to the split makes, if that is one tensor."""
        made = {PICTURE: LayerShape(3, 1), **dict(enumerate(self._shapes[: self.split + 1]))}
        return {place: shape for place, shape in made.items() if shape is not None}

    def splits(self, width: int = 512, height: int = 512) -> list[Split]:
        """Every place where the detector can be cut, in order.

        Args:
            width, height: pixels of the letterboxed image that sizes and operations are for, multiples of `stride`.
        """
        body = _on_meta(self._graph()[:-1])
        self.__dict__["_shapes"] = layer_shapes(body)  # once, for the views of all splits
        flops = layer_flops(body, width, height)
        parameters = [sum(each.numel() for each in layer.module.parameters()) for layer in body]
        return [
            Split(
                layer=index,
                kind=type(layer.module).__name__,
                shapes=self.at(index).feature_shapes(width, height),
                flops=sum(flops[: index + 1]),
                parameters=sum(parameters[: index + 1]),
            )
            for index, layer in enumerate(body)
            if self._obstacle(index) is None
        ]

    @cached_property
    def _shapes(self) -> list[Any]:
        """The shapes of the outputs of the front-end's layers."""
        return layer_shapes(_on_meta(self._graph()[: self.split + 1]))

    def _graph(self) -> list[Layer]:
        return [Layer(module, sources) for module, sources in zip(self.layers, self.sources, strict=True)]

    def _choose(self, split: int | None) -> int:
        """The split that was asked for, if the detector can be cut there, or the default."""
        possible = [index for index in range(len(self.layers) - 1) if self._obstacle(index) is None]
        if split is None and possible:
            return DEFAULT_SPLIT if DEFAULT_SPLIT in possible else possible[0]
        if split in possible:
            return split
        if not possible:
            raise WeightsError(f"it cannot be cut behind any layer: {self._obstacle(0)}; use another detector")
        exists = split is not None and 0 <= split < len(self.layers) - 1
        reason = self._obstacle(split or 0) if exists else "it has no such layer before its head"
        raise InputError(f"cannot split behind layer {split}: {reason}; choose one of {_ranges(possible)}")

    def _obstacle(self, split: int) -> str | None:
        """Why the detector cannot be cut behind a layer, or None."""
        needed = self._needed(split)
        origins = {self._origin(index) for index in needed}
        if min(origins) < 0:
            return "a later layer needs the picture itself"
        if any(isinstance(self.layers[index], CBLinear) for index in origins) or len(needed) > MAX_TENSORS:
            return f"over {MAX_TENSORS} tensors would cross"
        return None

    def _origin(self, layer: int) -> int:
        """The layer that made what a layer hands on (`nn.Identity`), or `PICTURE`; else the layer itself."""
        while layer >= 0 and isinstance(self.layers[layer], nn.Identity):
            layer = self.sources[layer][0]
        return layer

    def _needed(self, split: int) -> list[int]:
        """The layers up to the split that a later layer takes its input from."""
        return sorted({source for sources in self.sources[split + 1 :] for source in sources if source <= split})

    def _crossing(self, split: int) -> tuple[int, ...]:
        needed = self._needed(split)
        if len(needed) == 1:
            return tuple(needed)
        return tuple(sorted(needed, key=lambda index: (self._shapes[index].stride, index)))


def _on_meta(layers: Sequence[Layer]) -> list[Layer]:
    """A copy of layers without their numbers, in eval mode and float32."""
    copied = []
    for layer in layers:
        named = [*layer.module.parameters(), *layer.module.buffers()]
        memo: dict[int, Any] = {
            id(each): nn.Parameter(torch.empty_like(each, device="meta"), requires_grad=False)
            if isinstance(each, nn.Parameter)
            else torch.empty_like(each, device="meta")
            for each in named
        }
        module = copy.deepcopy(layer.module, memo).eval()
        copied.append(Layer(module.float(), layer.sources))
    return copied


def _ranges(numbers: Sequence[int]) -> str:
    """A short text: 0..4, 6, 8..10."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}..{part[-1]}" for part in parts)
