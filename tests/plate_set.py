"""Scenes with number plates: a few, drawn on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featcodec.images.reading import read_image
from featcodec.privacy.plate_reader import cut_plates
from featcodec.privacy.private_details import read_private_details
from featcodec.privacy.readers import Pixels
from featcodec.scenes.dataset import IMAGES, PRIVATE, write_scenes

SEED = 424_242
"""Not one that anything that ships was trained on."""


def make_scenes(folder: Path, count: int) -> Path:
    """A folder as `featcodec scenes` writes it."""
    assert len(list(write_scenes(folder, count, SEED, workers=1))) == count
    return folder


def plates_on(folder: Path) -> list[tuple[Path, tuple[float, float, float, float], str]]:
    """Every readable plate of a folder of scenes: image, box, text."""
    details = read_private_details(folder / PRIVATE)
    return [
        (path, plate.box, plate.text) for path in sorted((folder / IMAGES).iterdir()) for plate in details.plates(path)
    ]


def crops_of(folder: Path) -> tuple[Pixels, list[str]]:
    """All readable plates as the reader sees them, and what they say."""
    plates = plates_on(folder)
    crops = np.concatenate([cut_plates(read_image(path), [box]) for path, box, _ in plates])
    return crops, [text for _, _, text in plates]
