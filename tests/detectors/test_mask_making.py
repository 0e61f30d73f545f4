"""Masks from prototypes: those of ultralytics, in original pixels, and in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from torch import Tensor
from ultralytics.utils import ops

from featcodec.detectors.masks import masks_of
from featcodec.images.letterbox import Letterbox

COUNT = 8


def prototypes_of(letterbox: Letterbox, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(COUNT, letterbox.height // 4, letterbox.width // 4, generator=generator)


def boxes_of(letterbox: Letterbox, boxes: int, seed: int = 0) -> np.ndarray:
    """(boxes, 4), some of them at the edges of the image."""
    random = np.random.default_rng(seed)
    size = np.array([letterbox.original_width, letterbox.original_height] * 2)
    corners = np.sort(random.uniform(-0.2, 1.2, (boxes, 2, 2)), axis=1).reshape(boxes, 4) * size
    return np.clip(corners, 0, size).astype(np.float32)


@pytest.mark.parametrize(
    ("width", "height", "size", "square"),
    [
        *((640, 480, 640, False), (640, 480, 640, True), (500, 375, 640, False), (333, 500, 640, False)),
        *((97, 61, 160, False), (1000, 700, 320, True), (30, 20, 128, False), (641, 479, 320, False)),
        (5, 300, 320, True),
    ],
)
def test_the_masks_are_those_of_ultralytics(width: int, height: int, size: int, square: bool) -> None:
    """But for pixels where the sum is so near 0 that the order of additions counts."""
    letterbox = Letterbox.fit(width, height, size, square=square)
    prototypes, xyxy = prototypes_of(letterbox), boxes_of(letterbox, 20)
    weights = torch.randn(20, COUNT, generator=torch.Generator().manual_seed(1))
    theirs = ops.process_mask_native(prototypes, weights, torch.from_numpy(xyxy), (height, width)).numpy().astype(bool)
    mine = np.stack([mask.pixels() for mask in masks_of(weights, prototypes, xyxy, letterbox)])
    assert mine.shape == theirs.shape
    assert theirs.any()
    assert (mine != theirs).sum() <= 1e-4 * theirs.sum()


@pytest.mark.parametrize("times", [1, 2, 4, 8])
def test_prototypes_may_have_any_size_that_fits(times: int) -> None:
    """A ramp over the letterboxed image that crosses zero at 100 pixels, which are 200 of the original image."""
    letterbox = Letterbox.fit(640, 480, 320)
    ramp = (torch.arange(letterbox.width // times) + 0.5) * times - 100
    prototypes = ramp.expand(1, letterbox.height // times, -1)
    (mask,) = masks_of(torch.ones(1, 1), prototypes, np.array([[0, 0, 640, 480]], np.float32), letterbox)
    np.testing.assert_array_equal(mask.pixels(), np.broadcast_to(np.arange(640) >= 200, (480, 640)))


@pytest.mark.parametrize("shape", [(30, 40), (64, 106), (27, 27), (200, 200)])
def test_prototypes_that_do_not_fit_are_an_error(shape: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(640, 500, 320)
    with pytest.raises(ValueError, match="do not fit an input of 320x256"):
        masks_of(torch.ones(1, 1), torch.ones(1, *shape), np.ones((1, 4), np.float32), letterbox)


def test_no_boxes_and_boxes_without_pixels() -> None:
    letterbox = Letterbox.fit(640, 480, 320)
    prototypes = prototypes_of(letterbox)
    assert masks_of(torch.ones(0, COUNT), prototypes, np.zeros((0, 4), np.float32), letterbox) == ()
    boxes = np.array([[3.2, 3.2, 3.8, 9], [640, 480, 640, 480], [0, 0, 0, 0], [np.nan, 0, 640, 480]], np.float32)
    masks = masks_of(torch.ones(4, COUNT), prototypes, boxes, letterbox)
    assert [(mask.area, mask.pixels().shape) for mask in masks] == [(0, (480, 640))] * 4


def test_half_precision_is_taken() -> None:
    letterbox = Letterbox.fit(64, 64, 64)
    prototypes, box = prototypes_of(letterbox).bfloat16(), np.array([[0, 0, 64, 64]], np.float32)
    (mask,) = masks_of(torch.ones(1, COUNT).half(), prototypes, box, letterbox)
    assert mask == masks_of(torch.ones(1, COUNT), prototypes.float(), box, letterbox)[0]


def test_memory_does_not_grow_with_the_picture_times_the_boxes() -> None:
    """300 boxes on 20 megapixels: all masks at once would take 24 GB in float32."""
    letterbox = Letterbox.fit(5472, 3648, 640)
    xyxy = boxes_of(letterbox, 300) % 500 + np.array([0, 0, 500, 500], np.float32)
    xyxy[0] = 0, 0, 5472, 3648
    weights = torch.randn(300, COUNT, generator=torch.Generator().manual_seed(1))
    tracemalloc.start()
    masks = masks_of(weights, prototypes_of(letterbox), xyxy, letterbox)
    _, most = tracemalloc.get_traced_memory()  # of numpy; torch takes 256 columns at a time
    tracemalloc.stop()
    assert len(masks) == 300
    assert most < 200 << 20
