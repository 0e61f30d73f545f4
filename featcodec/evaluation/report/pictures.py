"""The reconstruction grid (paper, Fig. 3): original images and their reconstructions."""

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
from featcodec.privacy.audit_results import FILE_NAME as AUDIT_TABLE
from featcodec.privacy.audit_results import AuditResult, read_audit_results
from featcodec.privacy.readers import Score
from featcodec.privacy.worst_case import ATTACKS, LATENT
from featcodec.system.paths import resolved

_MOST_SIDE = 384
"""In pixels. Larger pictures are scaled down to this size."""
_JPEG_QUALITY = 85


@dataclass(frozen=True, eq=False)
class GridPanel:
    """One picture of the grid.

    Attributes:
        label: "original", or what was attacked.
        measured: PSNR and edge-PSNR, one line each; empty for the original.
        pixels: (height, width, 3) uint8 RGB.
    """

    label: str
    measured: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]

    @property
    def data_uri(self) -> str:
        """The picture as a JPEG in a data URI."""
        return "data:image/jpeg;base64," + base64.b64encode(_jpeg(self.pixels)).decode("ascii")


@dataclass(frozen=True, eq=False)
class GridRow:
    """One row of the grid: the original image and its reconstructions."""

    name: str
    panels: tuple[GridPanel, ...]


def read_grid(folders: Sequence[Path], most: int, originals: Sequence[Path] = ()) -> list[GridRow]:
    """Read the images that all attacks have in common, in the order of the first attack.

    Args:
        folders: output folders of `featcodec invert`, one per attack, or of `featcodec audit`, with all its attacks.
        most: largest number of images.
        originals: folders (or files) of the original images. The tables may name originals in them and in the folder of
            the attack, and nowhere else: whoever gets the page sees these images.

    Raises:
        InputError: a folder has no results or a picture of it is missing, an original is missing or is somewhere else,
            or the attacks have no image in common.
    """
    if not folders:
        return []
    columns = [column for folder in folders for column in _columns(folder)]
    common = [name for name in columns[0] if all(name in column for column in columns) and columns[0][name].original]
    if not common:
        raise InputError(
            f"{', '.join(map(str, folders))}: have no image with an original in common; invert the same images, "
            "and give `originals` for bitstreams"
        )
    return [_row(name, [column[name] for column in columns], originals) for name in _spread(common, most)]


@dataclass(frozen=True)
class _Picture:
    """A reconstruction, from a table of either kind.

    Attributes:
        folder: the output folder of the attack or audit.
        picture: the path of the PNG below it.
        original: the path of the original image, or an empty string.
        label: what was attacked, and how.
        measured: lines about PSNR and edge-PSNR.
    """

    folder: Path
    picture: str
    original: str
    label: str
    measured: tuple[str, ...]


def _columns(folder: Path) -> list[dict[str, _Picture]]:
    """Return the attacks of a folder, each with its pictures by the name of the image."""
    if not (folder / AUDIT_TABLE).exists():
        return [{_name(result.picture): _of_attack(folder, result) for result in read_attack_results(folder)}]
    by_attack: dict[tuple[str, str], dict[str, _Picture]] = {}
    for result in read_audit_results(folder):
        if result.picture:
            by_attack.setdefault((result.side, result.attack), {})[result.image] = _of_audit(folder, result)
    if not by_attack:
        raise InputError(f"{folder}: its table has no picture; run `featcodec audit` again")
    # Latent coding first, because the others are compared with it; else in the order of the attacks.
    order = sorted(by_attack, key=lambda key: (key[0] != LATENT, ATTACKS.index(key[1]) if key[1] in ATTACKS else -1))
    return [by_attack[key] for key in order]


def _name(picture: str) -> str:
    return picture[: len(picture) - len(Path(picture).suffix)]


def _of_attack(folder: Path, result: AttackResult) -> _Picture:
    label = f"RecNet-{result.label}" + (f", QP {result.qp}" if result.qp else "")
    return _Picture(folder, result.picture, result.original, label, _measured(result.psnr, result.edge_psnr))


def _of_audit(folder: Path, result: AuditResult) -> _Picture:
    label = f"{result.label}, {result.attack}" + (f", QP {result.qp}" if result.qp else "")
    values = (result.scores.get(name, Score()).mean for name in ("psnr", "edge_psnr"))
    return _Picture(folder, result.picture, result.original, label, _measured(*values))


def contact_sheet(rows: Sequence[GridRow]) -> bytes:
    """Return the grid as one JPEG, for formats that cannot hold pictures."""
    strips = [
        side_by_side([Panel(panel.pixels, (panel.label, *panel.measured)) for panel in row.panels]) for row in rows
    ]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips]
    return _jpeg(np.concatenate(padded))


def _spread(names: Sequence[str], most: int) -> list[str]:
    """Choose at most `most` names, evenly spread."""
    count = min(most, len(names))
    return [names[index * len(names) // count] for index in range(count)]


def _row(name: str, attacked: Sequence[_Picture], originals: Sequence[Path]) -> GridRow:
    pictures = [read_image(_inside(one)) for one in attacked]
    height, width = pictures[0].shape[:2]
    original = Image.fromarray(read_image(_allowed(attacked[0], originals))).resize(
        (width, height), Image.Resampling.BOX
    )
    panels = [GridPanel("original", (), _shrunk(np.asarray(original)))]
    for one, pixels in zip(attacked, pictures, strict=True):
        panels.append(GridPanel(one.label, one.measured, _shrunk(pixels)))
    return GridRow(name, tuple(panels))


def _inside(one: _Picture) -> Path:
    """Return the path of the picture. The table must not name a file outside its folder."""
    path = one.folder / one.picture
    if not resolved(path).is_relative_to(resolved(one.folder)):
        raise InputError(
            f"{one.folder}: its table names {one.picture}, which is outside the folder; run `featcodec invert` again"
        )
    return path


def _allowed(one: _Picture, originals: Sequence[Path]) -> Path:
    """Return the path of the original. A foreign table must not bring any image of this machine to the page."""
    path = Path(one.original)
    if not any(resolved(path).is_relative_to(resolved(allowed)) for allowed in (one.folder, *originals)):
        raise InputError(
            f"{one.folder}: its table names the original {one.original}; if it belongs on the page, give its folder "
            "with `originals`"
        )
    return path


def _measured(psnr: float, edge_psnr: float) -> tuple[str, ...]:
    measured = ("PSNR", psnr), ("edge-PSNR", edge_psnr)
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
