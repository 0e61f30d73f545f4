"""Pictures beside each other: nothing of them is changed or covered, and captions are there."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pictures import texture
from PIL import Image

from featcodec.errors import OutputError
from featcodec.images.side_by_side import Panel, save_png, side_by_side

CAPTIONS = ("latent features", "PSNR 21.78 dB, edge-PSNR 25.61 dB")


def find(canvas: np.ndarray, picture: np.ndarray) -> tuple[int, int]:
    """(left, top) of a picture in a canvas, pixel for pixel."""
    height, width = picture.shape[:2]
    for top in range(canvas.shape[0] - height + 1):
        for left in range(canvas.shape[1] - width + 1):
            if np.array_equal(canvas[top, left], picture[0, 0]) and np.array_equal(
                canvas[top : top + height, left : left + width], picture
            ):
                return left, top
    raise AssertionError("the picture is not there")


@pytest.mark.parametrize("size", [(512, 341), (340, 512), (64, 43), (512, 1), (1, 512)])
def test_every_panel_is_there_pixel_for_pixel_in_one_row(size: tuple[int, int]) -> None:
    pictures = [texture(*size, seed=seed) for seed in range(3)]
    pictures[0][0, 0] = (1, 2, 3)
    panels = [Panel(pictures[0], ("original",)), *(Panel(picture, CAPTIONS) for picture in pictures[1:])]
    canvas = side_by_side(panels)
    places = [find(canvas, picture) for picture in pictures]
    assert len({top for _, top in places}) == 1
    lefts = [left for left, _ in places]
    assert lefts == sorted(lefts)
    assert all(right - left > size[0] for left, right in pairwise(lefts))
    margins = np.concatenate([canvas[0], canvas[-1], canvas[:, 0], canvas[:, -1]])
    assert (margins == 255).all(), "a caption is cut off"
    for left, top in places:
        column = canvas[top + size[1] :, max(0, left - 5) : left + size[0] + 5]
        assert column.min() < 64, "no caption below it"
        canvas[top : top + size[1], left : left + size[0]] = 255
    assert (canvas[: places[0][1] + size[1] + 2] == 255).all(), "something lies beside or over the pictures"


def test_captions_of_two_small_panels_do_not_touch() -> None:
    canvas = side_by_side([Panel(texture(8, 8), CAPTIONS)] * 2)
    ink = (canvas[20:] < 200).any(axis=(0, 2)).nonzero()[0]
    middle = canvas.shape[1] // 2
    assert ink[ink < middle].max() + 4 < middle < ink[ink >= middle].min() - 2


def test_captions_grow_with_the_picture() -> None:
    heights = [side_by_side([Panel(texture(width, 16), CAPTIONS)]).shape[0] for width in (64, 512, 1024, 4096)]
    assert heights == sorted(heights)
    assert heights[0] < heights[2] / 1.5


def test_png_is_lossless_and_whole_or_not_there(tmp_path: Path) -> None:
    save_png(tmp_path / "deep/a.png", texture(33, 17))
    with Image.open(tmp_path / "deep/a.png") as image:
        assert image.format == "PNG"
        assert np.array_equal(np.array(image), texture(33, 17))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        save_png(tmp_path / "file/a.png", texture(33, 17))
    assert not list(tmp_path.rglob("*.part"))
