"""The reconstruction grid (paper, Fig. 3): originals, and what attackers made of them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec.errors import InputError
from featcodec.images.reading import read_image
from featcodec.images.side_by_side import Panel, side_by_side
from featcodec.privacy.attack_results import AttackResult, read_attack_results

_MOST_SIDE = 384
"""Pixels; larger pictures are shrunk to it."""
_JPEG_QUALITY = 85


@dataclass(frozen=True, eq=False)
class GridPanel:
    """One picture of the grid.

    Attributes:
        label: original, or what was attacked.
        measured: PSNR and edge-PSNR, one line each; nothing of the original.
        pixels: (height, width, 3) uint8 RGB.
    """

    label: str
    measured: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]

    @property
    def data_uri(self) -> str:
        """The picture as a JPEG inside a URI."""
        return "data:image/jpeg;base64," + base64.b64encode(_jpeg(self.pixels)).decode("ascii")


@dataclass(frozen=True, eq=False)
class GridRow:
    """An image: the original and its reconstructions."""

    name: str
    panels: tuple[GridPanel, ...]


def read_grid(folders: Sequence[Path], most: int) -> list[GridRow]:
    """The images that all attacks have in common, in the order of the first.

    Args:
        folders: of `featcodec invert`, one an attack.
        most: images.

    Raises:
        InputError: a folder has no results or lacks a picture, an original is missing, or there is no common image.
    """
    if not folders:
        return []
    attacks = [{result.picture: result for result in read_attack_results(folder)} for folder in folders]
    common = [name for name in attacks[0] if all(name in attack for attack in attacks) and attacks[0][name].original]
    if not common:
        raise InputError(
            f"{', '.join(map(str, folders))}: no image with an original that all have in common; invert the same "
            "images, with `originals` where they are bitstreams"
        )
    return [
        _row(name, [(folder, attack[name]) for folder, attack in zip(folders, attacks, strict=True)])
        for name in _spread(common, most)
    ]


def contact_sheet(rows: Sequence[GridRow]) -> bytes:
    """The grid as one JPEG, for where pictures cannot be embedded."""
    strips = [
        side_by_side([Panel(panel.pixels, (panel.label, *panel.measured)) for panel in row.panels]) for row in rows
    ]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips]
    return _jpeg(np.concatenate(padded))


def _spread(names: Sequence[str], most: int) -> list[str]:
    """So many of them, evenly spread."""
    count = min(most, len(names))
    return [names[index * len(names) // count] for index in range(count)]


def _row(name: str, attacked: Sequence[tuple[Path, AttackResult]]) -> GridRow:
    pictures = [read_image(_inside(folder, result)) for folder, result in attacked]
    height, width = pictures[0].shape[:2]
    original = Image.fromarray(read_image(Path(attacked[0][1].original))).resize((width, height), Image.Resampling.BOX)
    panels = [GridPanel("original", (), _shrunk(np.asarray(original)))]
    for (_, result), pixels in zip(attacked, pictures, strict=True):
        label = f"RecNet-{result.label}" + (f", QP {result.qp}" if result.qp else "")
        panels.append(GridPanel(label, _measured(result), _shrunk(pixels)))
    return GridRow(Path(name).with_suffix("").as_posix(), tuple(panels))


def _inside(folder: Path, result: AttackResult) -> Path:
    """The picture's file: the table may name nothing outside its folder."""
    path = folder / result.picture
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{folder}: its table names {result.picture}, outside the folder; run `featcodec invert` again"
        )
    return path


def _measured(result: AttackResult) -> tuple[str, ...]:
    measured = ("PSNR", result.psnr), ("edge-PSNR", result.edge_psnr)
    return tuple(f"{name} {value:.2f} dB" for name, value in measured if not math.isnan(value))


def _shrunk(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    factor = _MOST_SIDE / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return buffer.getvalue()
