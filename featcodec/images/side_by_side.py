"""Puts pictures side by side with captions, as in the paper's Fig. 3, and writes PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from featcodec.system.files import write_atomically

_PAPER, _INK = "white", "black"
_LEAST_FONT, _MOST_FONT = 12, 48
_FONTS_PER_PANEL = 34
"""The width of a panel divided by the height of its font. With this value, the usual captions fit below a panel."""
_COMPRESSION = 4
"""On photographs, as small as Pillow's default, 6, but written in half the time. RecNet takes even less than that."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One of the pictures.

    Attributes:
        pixels: (height, width, 3) uint8 RGB.
        captions: the lines below the picture.
    """

    pixels: npt.NDArray[np.uint8]
    captions: tuple[str, ...]


def side_by_side(panels: Sequence[Panel]) -> npt.NDArray[np.uint8]:
    """The panels in a row on white, unscaled. The captions of each panel are centred below it.

    A column is as wide as its panel or as its widest caption. So the captions of small pictures stay legible.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    return panel_rows([panels])


def panel_rows(rows: Sequence[Sequence[Panel]]) -> npt.NDArray[np.uint8]:
    """Several rows as in `side_by_side`, with their columns in line. A short row has no panels at its end.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    size = round(max(panel.pixels.shape[1] for row in rows for panel in row) / _FONTS_PER_PANEL)
    size = min(max(size, _LEAST_FONT), _MOST_FONT)
    font = ImageFont.load_default(size=size)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    widths = [0] * max(map(len, rows))
    for row in rows:
        for column, panel in enumerate(row):
            captions = [int(pen.textlength(text, font=font)) + 1 for text in panel.captions]
            widths[column] = max([widths[column], panel.pixels.shape[1], *captions])
    return np.concatenate([_drawn(row, widths, font, size) for row in rows])


def _drawn(
    row: Sequence[Panel], widths: Sequence[int], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, size: int
) -> npt.NDArray[np.uint8]:
    """One row in columns of these widths. Widths and the size of the font are in pixels."""
    gap, line = size // 2, round(1.4 * size)
    below = max(panel.pixels.shape[0] for panel in row) + round(1.5 * gap)
    lines = max(len(panel.captions) for panel in row)
    canvas = Image.new("RGB", (sum(widths) + gap * (len(widths) + 1), below + gap + line * lines), _PAPER)
    pen = ImageDraw.Draw(canvas)
    left = gap
    for panel, width in zip(row, widths, strict=False):
        canvas.paste(Image.fromarray(panel.pixels), (left + (width - panel.pixels.shape[1]) // 2, gap))
        for number, text in enumerate(panel.captions):
            pen.text((left + width / 2, below + line * (number + 0.5)), text, fill=_INK, font=font, anchor="mm")
        left += width + gap
    return np.array(canvas)


def save_png(path: Path, image: npt.NDArray[np.uint8], *, overwrite: bool = False) -> None:
    """Write an image as PNG, whole or not at all. A file of that name is replaced only with `overwrite`.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=_COMPRESSION)
    write_atomically(path, buffer.getvalue(), overwrite=overwrite)
