"""Colours in 8-bit RGB, and the palettes of the scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 .. 255."""

T = TypeVar("T")

BLACK: Colour = (18, 18, 22)
WHITE: Colour = (245, 245, 240)
TYRE: Colour = (32, 32, 36)
GLASS: Colour = (70, 92, 112)
GLASS_BRIGHT: Colour = (150, 178, 196)
METAL: Colour = (128, 134, 140)

CAR_PAINT: Sequence[Colour] = (
    (196, 44, 42), (38, 92, 168), (236, 236, 232), (44, 46, 52), (150, 154, 160), (232, 178, 48), (58, 128, 92),
    (224, 112, 46), (112, 148, 186), (122, 38, 60), (206, 196, 172), (88, 60, 122), (70, 160, 170),
)  # fmt: skip
CLOTHES: Sequence[Colour] = (
    (198, 60, 58), (52, 92, 150), (236, 230, 216), (48, 50, 58), (228, 176, 62), (84, 136, 96), (150, 92, 140),
    (222, 126, 92), (104, 150, 180), (120, 98, 76), (96, 60, 60), (60, 120, 124),
)  # fmt: skip
TROUSERS: Sequence[Colour] = (
    (44, 58, 92), (40, 40, 46), (110, 96, 78), (86, 92, 100), (132, 120, 104), (66, 82, 70), (160, 152, 136),
)  # fmt: skip
SKIN: Sequence[Colour] = (
    (244, 208, 180), (230, 184, 150), (206, 156, 120), (170, 120, 86), (130, 88, 62), (92, 62, 46),
)  # fmt: skip
HAIR: Sequence[Colour] = (
    (40, 30, 26), (84, 56, 36), (138, 92, 52), (206, 170, 104), (160, 74, 44), (150, 148, 146), (28, 26, 32),
)  # fmt: skip
WALLS: Sequence[Colour] = (
    (198, 160, 128), (178, 108, 88), (214, 200, 172), (150, 158, 164), (188, 178, 160), (226, 206, 150),
    (160, 130, 116), (132, 150, 160), (206, 150, 130), (170, 186, 172), (120, 112, 116), (228, 224, 214),
)  # fmt: skip
LEAVES: Sequence[Colour] = (
    (72, 122, 62), (96, 142, 66), (56, 104, 70), (128, 148, 62), (176, 130, 54), (84, 130, 90), (166, 92, 56),
)  # fmt: skip
SIGNAGE: Sequence[Colour] = (
    (186, 52, 56), (40, 84, 140), (44, 116, 88), (224, 170, 60), (66, 60, 72), (232, 226, 212), (140, 76, 128),
)  # fmt: skip


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """Choose one of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours. `share` is the share of the second colour, 0 .. 1."""
    return (
        int(first[0] + (second[0] - first[0]) * share),
        int(first[1] + (second[1] - first[1]) * share),
        int(first[2] + (second[2] - first[2]) * share),
    )


def brighten(colour: Colour, factor: float) -> Colour:
    """Multiply a colour by a factor, clipped to 0 .. 255."""
    return (
        min(255, max(0, int(colour[0] * factor))),
        min(255, max(0, int(colour[1] * factor))),
        min(255, max(0, int(colour[2] * factor))),
    )


def vary(rng: np.random.Generator, colour: Colour, amount: float = 14.0) -> Colour:
    """Choose a similar colour. Brightness and each channel move by up to `amount` of 255."""
    common = rng.uniform(-amount, amount)
    red, green, blue = rng.uniform(-amount, amount, 3) * 0.5 + common
    return (
        int(min(255, max(0, colour[0] + red))),
        int(min(255, max(0, colour[1] + green))),
        int(min(255, max(0, colour[2] + blue))),
    )


def luminance(colour: Colour) -> float:
    """Compute Rec. 601 luma, 0 .. 255."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
