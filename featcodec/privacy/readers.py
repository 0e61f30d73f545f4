"""Readers: what looks for private content in the pictures that an attack makes, and how their scores add up.

A reader compares pictures with their original. It knows nothing of codecs and attacks. Plates, text, faces and
perceptual distance are all readers, so an audit treats them in one way. Without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Score:
    """A sum over things that count, such as the characters that were read, among those that can be read.

    Scores of images add up, so that every character or face counts the same, whatever image it is on.

    Attributes:
        total: the sum, at least 0.
        count: how many things were summed over, at least 0. Things that cannot be recognised on the original are left
            out.
    """

    total: float = 0.0
    count: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        """The sum per thing that counts: a share in [0, 1] for things recognised. NaN if nothing counts."""
        return self.total / self.count if self.count else math.nan


@dataclass(frozen=True)
class Measure:
    """What one kind of score means.

    Attributes:
        name: its key in JSON and its column in CSV files.
        title: its words in a table.
        is_share: whether it is a share in [0, 1], shown in percent.
        rises: whether a higher value means that the attacker sees more.
    """

    name: str
    title: str
    is_share: bool = True
    rises: bool = True


@dataclass(frozen=True, eq=False)
class Original:
    """An image that attacks reconstruct.

    Attributes:
        image: the path of the image within the run; private details are found by it (`PrivateDetails`).
        size: (width, height) of the image file in pixels.
        pixels: (H, W, 3) uint8 RGB, the image at the size of its reconstructions.
    """

    image: PurePath
    size: tuple[int, int]
    pixels: Pixels


class Reader(Protocol):
    """Looks for private content in reconstructions. Several threads may use one reader at once."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The scores that the reader gives."""

    def scores(self, original: Original, pictures: Mapping[str, Pixels]) -> Mapping[str, Mapping[str, Score]]:
        """Judge reconstructions of one image.

        Args:
            original: the image.
            pictures: reconstructions of the size of `original.pixels`, (H, W, 3) uint8 RGB, by any names. The original
                itself may be among them.

        Returns:
            for each picture, the score of each measure by the measure's name. A score that counts nothing is `Score()`.
        """


def summed(scores: Iterable[Mapping[str, Score]]) -> dict[str, Score]:
    """Add up the scores of many images, by the name of the measure."""
    sums: dict[str, Score] = {}
    for each in scores:
        for name, score in each.items():
            sums[name] = sums.get(name, Score()) + score
    return sums
