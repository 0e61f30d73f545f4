"""What the layers of a detector make of a picture, found by a run on torch's meta device: no number is computed.

So the layers of an untrusted file are measured before anything of their size is allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from featcodec.detectors.layers import PICTURE, Layer
from featcodec.errors import WeightsError, reason_of

_SIDES = ((640, 640), (64 * 3, 64 * 5))
_MAX_PER_PIXEL = 128  # numbers per pixel of the picture that one step makes; yolov9e has 96
_MAX_STRIDE = 64


@dataclass(frozen=True)
class LayerShape:
    """The output of a layer.

    Attributes:
        channels: its channels.
        stride: pixels of the picture per sample, in both directions.
    """

    channels: int
    stride: int


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Refuses steps that make more numbers than `most`, or a tensor without numbers.

    Raises:
        WeightsError: a step makes such a tensor; the message begins with "makes".
    """

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._most = most

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, arguments: Any = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        made = function(*arguments, **(options or {}))
        for each in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(each, Tensor) and each.numel() > self._most:
                raise WeightsError(
                    f"makes {each.numel()} numbers at once, more than any such detector; use another file"
                )
            if isinstance(each, Tensor) and not each.numel():
                raise WeightsError("makes a tensor without numbers, as no such detector does; use another file")
        return made


def run_layers(
    layers: Sequence[Layer], kept: dict[int, Any], first: int, last: int, wanted: Sequence[int] = ()
) -> dict[int, Any]:
    """Run the layers from `first` to `last`.

    Args:
        layers: the whole graph.
        kept: outputs of earlier layers by index, the picture under `PICTURE`; those that no later layer needs are
            taken out.
        first, last: indices; `last` is not run.
        wanted: outputs that are kept, although no layer up to `last` needs them again.

    Returns:
        `kept`, with the outputs of these layers that are still needed.
    """
    uses: dict[int, int] = {}
    for index in range(first, last):
        for source in layers[index].sources:
            uses[source] = index
    for index in range(first, last):
        layer = layers[index]
        inputs = [kept[source] for source in layer.sources]
        value = layer.module(inputs if len(inputs) > 1 else inputs[0])
        for source in set(layer.sources):
            if uses[source] == index and source not in wanted:
                kept.pop(source, None)
        if index in uses or index in wanted:
            kept[index] = value
    return kept


def layer_shapes(layers: Sequence[Layer]) -> list[LayerShape | None]:
    """The output of each layer, in order. None: the output is not one tensor, or not a regular part of the picture.

    Args:
        layers: on the meta device, without the head.

    Raises:
        WeightsError: the layers do not fit together, or are larger than those of any such detector.
    """
    found = [_outputs(layers, width, height) for width, height in _SIDES]
    shapes: list[LayerShape | None] = []
    for index, (one, other) in enumerate(zip(*found, strict=True)):
        shape = _shape(one, *_SIDES[0])
        if isinstance(one, Tensor) and (shape is None or shape != _shape(other, *_SIDES[1])):
            raise WeightsError(
                f"layer {index} ({type(layers[index].module).__name__}): makes {tuple(one.shape[1:])} of a picture of "
                f"{_SIDES[0]} pixels, which is not one sample for 1, 2, 4, ... or {_MAX_STRIDE} pixels; use another "
                "file"
            )
        shapes.append(shape)
    return shapes


def layer_flops(layers: Sequence[Layer], width: int, height: int) -> list[int]:
    """The floating-point operations of each layer for one picture. A multiplication and an addition are two.

    Args:
        layers: on the meta device, without the head.
        width, height: multiples of the detector's largest stride.
    """
    counts: list[int] = []

    class Counted(torch.nn.Module):
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, value: Any) -> Any:
            with FlopCounterMode(display=False) as counter:
                output = self.module(value)
            counts.append(int(counter.get_total_flops()))
            return output

    counted = [Layer(Counted(layer.module), layer.sources) for layer in layers]
    with torch.inference_mode():
        run_layers(counted, {PICTURE: torch.empty(1, 3, height, width, device="meta")}, 0, len(counted))
    return counts


def _outputs(layers: Sequence[Layer], width: int, height: int) -> list[Any]:
    outputs: dict[int, Any] = {}
    picture = torch.empty(1, 3, height, width, device="meta")
    index = 0
    try:
        with torch.inference_mode(), Bounded(_MAX_PER_PIXEL * width * height):
            kept: dict[int, Any] = {PICTURE: picture}
            for index in range(len(layers)):
                run_layers(layers, kept, index, index + 1, range(PICTURE, len(layers)))
                outputs[index] = kept[index]
    except WeightsError as error:
        raise WeightsError(f"layer {index} ({type(layers[index].module).__name__}) {error}") from None
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"layer {index} ({type(layers[index].module).__name__}): its layers do not fit together "
            f"({reason_of(error)}); download it again"
        ) from None
    return [outputs[index] for index in range(len(layers))]


def _shape(output: Any, width: int, height: int) -> LayerShape | None:
    if not isinstance(output, Tensor) or output.ndim != 4:
        return None
    channels, rows, columns = output.shape[1:]
    stride = width // columns
    fits = stride & (stride - 1) == 0 and 1 <= stride <= _MAX_STRIDE
    return LayerShape(channels, stride) if fits and (columns * stride, rows * stride) == (width, height) else None
