"""Compares the layers of a detector before any of them runs: channels, and pixels per cell.

What a layer makes of a picture follows from the sizes of its module. So no memory is allocated here, and none is
allocated later that the checks do not allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from ultralytics.nn.modules import C3, SPPF, Concat, Conv

from featcodec.detectors.head import AnchorDetect
from featcodec.detectors.layers import Layer
from featcodec.errors import WeightsError

MAX_STRIDE = 64
"""The largest number of pixels per cell. Pictures are fitted into sides that are multiples of it."""
_MAX_CHANNELS = 8192  # yolov5x has 1280
_MAX_PER_PIXEL = 64  # numbers per pixel of the picture; yolov5x has 20

Shape = tuple[int, int]  # channels, pixels per cell


def check_shapes(layers: Sequence[Layer]) -> None:
    """Raise WeightsError unless the layers fit together, the last layer is the head, and the sizes are a YOLOv5's."""
    shapes: list[Shape] = [(3, 1)]  # the picture first, so that source -1 is at 0
    for index, layer in enumerate(layers):
        inputs = [shapes[source + 1] for source in layer.sources]
        try:
            if index == len(layers) - 1:
                _check_head(layer.module, inputs)
            else:
                shapes.append(_check_size(*_shape(layer.module, inputs)))
        except WeightsError as error:
            raise WeightsError(f"layer {index} ({type(layer.module).__name__.strip('_')}): {error}") from None


def _shape(module: Any, inputs: list[Shape]) -> Shape:
    """What the module makes of these inputs."""
    if isinstance(module, Concat):
        if len({cell for _, cell in inputs}) != 1:
            raise WeightsError("joins layers of different sizes; download it again")
        return sum(channels for channels, _ in inputs), inputs[0][1]
    if len(inputs) != 1:
        raise WeightsError(f"has {len(inputs)} inputs, not one; download it again")
    channels, cell = inputs[0]
    if isinstance(module, nn.Upsample):
        if cell < 2:
            raise WeightsError("makes its input larger than the picture; download it again")
        return channels, cell // 2
    first = module.conv if isinstance(module, Conv) else module.cv1.conv
    if first.in_channels != channels:
        raise WeightsError(f"takes {first.in_channels} channels, but its input has {channels}; download it again")
    if isinstance(module, Conv):
        return int(first.out_channels), cell * _step(first)
    last = module.cv3 if isinstance(module, C3) else module.cv2
    parts = [part for part in module.modules() if isinstance(part, Conv)]
    if any(_step(part.conv) != 1 for part in parts) or not isinstance(module, (C3, SPPF)):
        raise WeightsError("has a convolution with a stride inside; no YOLOv5 has this")
    return int(last.conv.out_channels), cell


def _check_size(channels: int, cell: int) -> Shape:
    if cell > MAX_STRIDE:
        raise WeightsError(f"has {cell} pixels per cell; no YOLOv5 has over {MAX_STRIDE}; use another file")
    if channels > min(_MAX_CHANNELS, _MAX_PER_PIXEL * cell**2):
        raise WeightsError(f"has {channels} channels of {cell} pixels per cell, more than any YOLOv5; use another file")
    return channels, cell


def _check_head(head: Any, inputs: list[Shape]) -> None:
    anchored = isinstance(head, AnchorDetect)
    inputs_of: Any = head.m if anchored else [branch[0].conv for branch in head.cv2]
    channels = [convolution.in_channels for convolution in inputs_of]
    strides = head.strides if anchored else head.stride
    expected = [(int(count), float(stride)) for count, stride in zip(channels, strides.tolist(), strict=True)]
    if expected != [(count, float(cell)) for count, cell in inputs]:
        raise WeightsError(
            f"takes levels of (channels, stride) {expected[:8]}, but gets {inputs[:8]}; download it again"
        )


def _step(convolution: nn.Conv2d) -> int:
    """The stride, if a side of n pixels becomes n / stride for every n that is a multiple of it."""
    kernel, step, padding = convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])
    if not 0 <= kernel - 2 * padding - 1 < step:
        raise WeightsError(
            f"a convolution of {kernel}x{kernel} with stride {step} and padding {padding}; no YOLOv5 has it"
        )
    return step
