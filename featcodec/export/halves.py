"""The two halves of a codec as modules from samples to samples: what `edge.onnx` and `cloud.onnx` compute.

Layout, quantizer and tiling are inside. They compute what `Packing` computes with numpy, in the same precision.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featcodec.bitstream import RAW_QP
from featcodec.codec import FeatureCodec
from featcodec.networks.features import Features, features_of_levels, levels_of
from featcodec.packing.tiling import TileGrid

CLOUD_INPUTS = ("frames", "qp")
"""Names of the inputs of `cloud.onnx`."""


class EdgeHalf(nn.Module):
    """The front-end, AE, and the way into the frame.

    Args:
        codec: float32, on the CPU.
    """

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__()
        self.detector, self.bottleneck = codec.model.detector, codec.model.bottleneck
        self._model, self._packing = codec.model, codec.packing

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 RGB, letterboxed -> (B, frame height, frame width) uint8."""
        levels = levels_of(self._model.encode(pictures.permute(0, 3, 1, 2).float() / 255))
        layout, quantizer = self._packing.layout, self._packing.quantizer
        if layout is not None:
            scale, offset = (torch.from_numpy(each)[:, None, None] for each in (layout.scale, layout.offset))
            levels = (levels[0].index_select(1, torch.from_numpy(layout.order)) * scale + offset,)
        bands = []
        for level, grid in zip(levels, self._packing.bands.grids, strict=True):
            # In float64, as `UniformQuantizer.quantize`. Both round halves to the even number.
            steps = (level.double().clamp(quantizer.low, quantizer.high) - quantizer.low) / quantizer.step
            bands.append(_tiled(torch.round(steps).to(torch.uint8), grid))
        return bands[0] if len(bands) == 1 else torch.cat(bands, 1)


class CloudHalf(nn.Module):
    """The way out of the frame, restoration, AD and the back-end.

    Args:
        codec: float32, on the CPU.
    """

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__()
        self.detector, self.bottleneck, self.restoration = (
            codec.model.detector,
            codec.model.bottleneck,
            codec.restoration,
        )
        self._model, self._packing = codec.model, codec.packing
        quantizer, layout = codec.packing.quantizer, codec.packing.layout
        table = quantizer.dequantize(np.arange(1 << 8, dtype=np.uint8))
        self.register_buffer("_values", torch.from_numpy(table), persistent=False)
        self._values: Tensor
        self._back = None if layout is None else torch.from_numpy(np.argsort(layout.order))

    def forward(self, frames: Tensor, qp: Tensor) -> tuple[Tensor, ...]:
        """Decoded frames -> predictions.

        Args:
            frames: (B, frame height, frame width) uint8.
            qp: (B,) int64, that of each stream; 255 means raw samples.

        Returns:
            (B, 4 + classes + extra, boxes) as `SplitDetector.back`; with masks also (B, coefficients, h, w).
        """
        tensors = self._tensors(frames)
        is_raw = qp == RAW_QP
        # As a codec: raw samples have no coding noise, so nothing is undone in them.
        known = torch.where(is_raw, torch.zeros_like(qp), qp).float()
        if self.restoration is not None and isinstance(tensors, Tensor):
            restored = self.restoration(tensors, known)
            tensors = torch.where(is_raw.reshape(-1, 1, 1, 1), tensors, restored)
        found = self._model.predict(tensors, known)
        return (found.values,) if found.prototypes is None else (found.values, found.prototypes)

    def _tensors(self, frames: Tensor) -> Features:
        bands = self._packing.bands
        coarsest = bands.scales[-1].divisor
        rows = sum(grid.rows * (coarsest // each.divisor) for grid, each in zip(bands.grids, bands.scales, strict=True))
        height, width = frames.shape[1] // rows, frames.shape[2] // (bands.grid.cols * coarsest)
        levels: list[Tensor] = []
        top = 0
        for grid, scale in zip(bands.grids, bands.scales, strict=True):
            times = coarsest // scale.divisor
            bottom = top + grid.rows * times
            samples = _untiled(frames[:, top * height : bottom * height], grid, height * times, width * times)
            samples = samples[:, : scale.channels]
            levels.append(self._values.index_select(0, samples.reshape(-1).int()).reshape(samples.shape))
            top = bottom
        layout = self._packing.layout
        if layout is None or self._back is None:
            return features_of_levels(levels)
        scale_of, offset = (torch.from_numpy(each)[:, None, None] for each in (layout.scale, layout.offset))
        return ((levels[0] - offset) / scale_of).index_select(1, self._back)


def _tiled(samples: Tensor, grid: TileGrid) -> Tensor:
    """(B, C, H, W) -> (B, rows * H, cols * W); as `TileGrid.tile`."""
    batch, channels, height, width = samples.shape
    padded = F.pad(samples, (0, 0, 0, 0, 0, grid.rows * grid.cols - channels))
    cells = padded.reshape(batch, grid.rows, grid.cols, height, width).permute(0, 1, 3, 2, 4)
    return cells.reshape(batch, grid.rows * height, grid.cols * width)


def _untiled(band: Tensor, grid: TileGrid, height: int, width: int) -> Tensor:
    """(B, rows * H, cols * W) -> (B, rows * cols, H, W); as `TileGrid.untile`, with the empty tiles."""
    cells = band.reshape(band.shape[0], grid.rows, height, grid.cols, width).permute(0, 1, 3, 2, 4)
    return cells.reshape(band.shape[0], grid.rows * grid.cols, height, width)


def frame_unit(codec: FeatureCodec) -> tuple[int, int]:
    """Height and width of the frame of a picture of one stride by one stride. All other frames are multiples of it."""
    stride = codec.model.detector.stride
    _, height, width = codec.model.tensor_shapes(stride, stride)[0]
    return codec.packing.bands.frame_shape(height, width)
