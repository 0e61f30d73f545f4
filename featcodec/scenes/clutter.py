"""Clutter: things that are not objects of any class, such as trees, lamps, bins, benches, kiosks, hoardings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from featcodec.scenes.canvas import Camera, Layer, Surface, sprite_layer, upright
from featcodec.scenes.colours import (
    BLACK,
    CAR_PAINT,
    LEAVES,
    METAL,
    SIGNAGE,
    WALLS,
    WHITE,
    Colour,
    brighten,
    luminance,
    mix,
    pick,
    vary,
)
from featcodec.scenes.light import Light
from featcodec.scenes.private import draw_poster, lettering

_WRITTEN = ("hoarding", "shop sign")


@dataclass(frozen=True)
class Thing:
    """A kind of clutter.

    Attributes:
        half: half the width in metres.
        height: height in metres.
        base: half the width on the ground in metres.
        weight: how often it appears, relative to the other kinds.
        draw: draws the thing on a surface that stands on the ground.
    """

    half: float
    height: float
    base: float
    weight: float
    draw: Callable[[np.random.Generator, Surface], None]


def draw_thing(rng: np.random.Generator, camera: Camera, light: Light, place: tuple[float, float], kind: str) -> Layer:
    """Draw a piece of clutter on its own layer. `kind` is a key of `THINGS`."""
    x, z = place
    thing = THINGS[kind]
    layer = sprite_layer(
        (camera.project(x - thing.half, -0.05, z), camera.project(x + thing.half, thing.height, z)), camera.scale(z)
    )
    thing.draw(rng, upright(layer, camera, light, x, z, mirror=kind not in _WRITTEN and bool(rng.random() < 0.5)))
    return layer


def _crown(rng: np.random.Generator, board: Surface, x: float, y: float, size: float, leaves: Colour) -> None:
    """Draw a heap of leaves: dark at the bottom, bright at the top, with a rough edge from many small discs."""
    for share, shade in ((1.0, 0.72), (0.86, 0.9), (0.6, 1.1), (0.36, 1.28)):
        for _ in range(int(5 + 7 * share)):
            angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 0.72) * size * share
            centre = (
                x + reach * math.cos(angle) - 0.12 * size * (1 - share),
                y + reach * math.sin(angle) + 0.28 * size * (1 - share),
            )
            board.disc(*centre, size * rng.uniform(0.2, 0.4), brighten(leaves, shade * rng.uniform(0.92, 1.08)))


def _tree(rng: np.random.Generator, board: Surface) -> None:
    tall = rng.uniform(3.4, 5.2)
    trunk = vary(rng, (96, 74, 56))
    board.polygon(((-0.16, 0), (0.16, 0), (0.09, tall), (-0.09, tall)), trunk)
    board.polygon(((-0.16, 0), (-0.04, 0), (-0.02, tall), (-0.09, tall)), brighten(trunk, 1.25))
    _crown(rng, board, 0, tall, rng.uniform(1.3, 1.8), vary(rng, pick(rng, LEAVES)))


def _cypress(rng: np.random.Generator, board: Surface) -> None:
    leaves = brighten(vary(rng, pick(rng, LEAVES)), 0.8)
    board.rectangle(-0.08, 0, 0.08, 0.7, (92, 72, 54))
    for low, wide in ((0.5, 0.75), (1.2, 0.62), (1.9, 0.48), (2.6, 0.34)):
        board.polygon(((-wide, low), (wide, low), (0.05, low + 1.5)), brighten(leaves, rng.uniform(0.85, 1.2)))


def _bush(rng: np.random.Generator, board: Surface) -> None:
    _crown(rng, board, 0, 0.45, rng.uniform(0.55, 0.75), vary(rng, pick(rng, LEAVES)))


def _planter(rng: np.random.Generator, board: Surface) -> None:
    _crown(rng, board, 0, 0.85, 0.45, vary(rng, pick(rng, LEAVES)))
    for _ in range(6):
        board.disc(rng.uniform(-0.4, 0.4), rng.uniform(0.7, 1.1), 0.06, vary(rng, pick(rng, CAR_PAINT)))
    board.polygon(((-0.5, 0.6), (0.5, 0.6), (0.42, 0), (-0.42, 0)), vary(rng, pick(rng, WALLS)))


def _lamp(rng: np.random.Generator, board: Surface) -> None:
    iron = pick(rng, ((62, 66, 70), METAL, (44, 60, 52)))
    board.rectangle(-0.14, 0, 0.14, 0.5, iron)
    board.line(((0, 0), (0, 4.7), (0.25, 5.1), (0.9, 5.15)), 0.1, iron)
    lit = board.light.lamps
    board.polygon(((0.6, 5.2), (1.15, 5.2), (1.05, 5.05), (0.7, 5.05)), iron)
    board.rectangle(0.7, 4.98, 1.05, 5.06, (255, 236, 190) if lit else (214, 214, 204), lamp=lit)
    if lit:
        board.glow(0.88, 5.0, 1.3, (255, 210, 140))


def _bollard(rng: np.random.Generator, board: Surface) -> None:
    board.rectangle(-0.09, 0, 0.09, 0.9, pick(rng, ((60, 62, 66), (150, 50, 46), METAL)))
    board.disc(0, 0.9, 0.09, (120, 122, 126))
    board.rectangle(-0.09, 0.66, 0.09, 0.76, WHITE)


def _bin(rng: np.random.Generator, board: Surface) -> None:
    colour = pick(rng, ((60, 92, 70), (70, 74, 80), (44, 84, 130), (150, 120, 50), (120, 60, 50)))
    board.polygon(((-0.28, 0.08), (0.28, 0.08), (0.34, 0.95), (-0.34, 0.95)), vary(rng, colour))
    board.rectangle(-0.37, 0.92, 0.37, 1.08, brighten(colour, 0.75))
    for x in (-0.14, 0.0, 0.14):
        board.line(((x, 0.18), (x, 0.82)), 0.03, brighten(colour, 0.8))
    board.disc(0.22, 0.09, 0.09, BLACK)


def _hydrant(rng: np.random.Generator, board: Surface) -> None:
    colour = pick(rng, ((190, 50, 44), (214, 168, 52)))
    board.rectangle(-0.13, 0, 0.13, 0.62, colour)
    board.disc(0, 0.62, 0.14, brighten(colour, 1.1))
    board.rectangle(-0.24, 0.36, 0.24, 0.48, brighten(colour, 0.8))


def _cone(_: np.random.Generator, board: Surface) -> None:
    board.rectangle(-0.28, 0, 0.28, 0.07, (60, 50, 46))
    board.polygon(((-0.2, 0.07), (0.2, 0.07), (0.04, 0.8), (-0.04, 0.8)), (232, 104, 40))
    board.polygon(((-0.13, 0.34), (0.13, 0.34), (0.09, 0.54), (-0.09, 0.54)), WHITE)


def _bench(rng: np.random.Generator, board: Surface) -> None:
    wood = vary(rng, (146, 104, 66))
    for x in (-0.75, 0.7):
        board.rectangle(x, 0, x + 0.08, 0.9, (56, 58, 62))
    for y in (0.42, 0.62, 0.78):
        board.rectangle(-0.85, y, 0.85, y + 0.11, brighten(wood, rng.uniform(0.9, 1.1)))


def _post_box(rng: np.random.Generator, board: Surface) -> None:
    colour = pick(rng, ((196, 48, 44), (228, 184, 50), (44, 80, 150)))
    board.rectangle(-0.07, 0, 0.07, 0.7, METAL)
    board.rectangle(-0.32, 0.6, 0.32, 1.45, colour)
    board.rectangle(-0.22, 1.22, 0.22, 1.28, BLACK)


def _kiosk(rng: np.random.Generator, board: Surface) -> None:
    colour = vary(rng, pick(rng, SIGNAGE))
    board.rectangle(-1.2, 0, 1.2, 2.4, colour)
    board.rectangle(-1.0, 1.0, 1.0, 2.0, (255, 222, 160) if board.light.lamps else (64, 74, 84), lamp=board.light.lamps)
    for _ in range(8):
        x, y = rng.uniform(-0.95, 0.75), rng.uniform(1.0, 1.6)
        board.rectangle(x, y, x + 0.18, y + 0.24, vary(rng, pick(rng, CAR_PAINT)))
    board.rectangle(-1.3, 0.9, 1.3, 1.02, brighten(colour, 1.2))
    ink = WHITE if luminance(colour) < 140 else BLACK
    for index in range(8):
        left = -1.4 + index * 0.35
        board.rectangle(left, 2.05, left + 0.35, 2.5, colour if index % 2 else mix(colour, ink, 0.8))


def _hoarding(rng: np.random.Generator, board: Surface) -> None:
    wide, low, high = (0.62, 0.5, 2.3) if rng.random() < 0.6 else (1.35, 0.8, 2.4)
    for x in (-wide * 0.7, wide * 0.7):
        board.rectangle(x - 0.05, 0, x + 0.05, low, (76, 80, 84))
    board.rectangle(-wide - 0.08, low - 0.08, wide + 0.08, high + 0.08, (66, 70, 76))
    draw_poster(rng, board, -wide, low, wide, high)


def _shop_sign(rng: np.random.Generator, board: Surface) -> None:
    """Draw a round or square sign on a pole that is not a traffic sign."""
    colour = vary(rng, pick(rng, SIGNAGE), 24)
    board.rectangle(-0.04, 0, 0.04, 2.3, METAL)
    if rng.random() < 0.5:
        board.disc(0, 2.4, 0.42, brighten(colour, 0.7))
        board.disc(0, 2.4, 0.37, colour)
        board.disc(0.02, 2.42, 0.17, mix(colour, WHITE, 0.7))
    else:
        board.rectangle(-0.4, 2.0, 0.4, 2.8, colour)
        ink = WHITE if luminance(colour) < 140 else BLACK
        text = pick(rng, ("BAR", "24h", "ZOO", "WC", "%"))
        board.picture(lettering(text, ink, colour, 100, 70), -0.34, 2.1, 0.34, 2.7)


def _back_of_sign(rng: np.random.Generator, board: Surface) -> None:
    board.rectangle(-0.04, 0, 0.04, 2.6, METAL)
    if rng.random() < 0.5:
        board.disc(0, 2.5, 0.4, (136, 140, 144))
    else:
        board.rectangle(-0.4, 2.1, 0.4, 2.9, (136, 140, 144))
    board.rectangle(-0.05, 2.2, 0.05, 2.8, (110, 114, 118))


def _cabinet(rng: np.random.Generator, board: Surface) -> None:
    colour = vary(rng, (140, 144, 138))
    board.rectangle(-0.5, 0, 0.5, 1.2, colour)
    board.rectangle(-0.55, 1.15, 0.55, 1.25, brighten(colour, 0.8))
    board.line(((0, 0.08), (0, 1.12)), 0.025, brighten(colour, 0.7))
    if rng.random() < 0.5:
        board.line(((-0.3, 0.4), (-0.1, 0.8), (0.1, 0.4), (0.3, 0.85)), 0.06, vary(rng, pick(rng, CAR_PAINT)))


THINGS: Mapping[str, Thing] = {
    "tree": Thing(2.6, 7.2, 0.3, 3.0, _tree),
    "cypress": Thing(0.9, 4.2, 0.4, 0.8, _cypress),
    "bush": Thing(1.1, 1.4, 0.6, 1.4, _bush),
    "planter": Thing(0.8, 1.5, 0.45, 1.0, _planter),
    "lamp": Thing(1.3, 5.4, 0.15, 2.4, _lamp),
    "bollard": Thing(0.2, 1.05, 0.1, 1.2, _bollard),
    "bin": Thing(0.5, 1.2, 0.3, 1.3, _bin),
    "hydrant": Thing(0.3, 0.9, 0.15, 0.8, _hydrant),
    "cone": Thing(0.35, 0.9, 0.25, 0.9, _cone),
    "bench": Thing(0.95, 1.0, 0.8, 0.8, _bench),
    "post box": Thing(0.4, 1.55, 0.3, 0.7, _post_box),
    "kiosk": Thing(1.5, 2.6, 1.1, 0.6, _kiosk),
    "hoarding": Thing(1.5, 2.6, 0.65, 1.7, _hoarding),
    "shop sign": Thing(0.6, 2.95, 0.1, 1.0, _shop_sign),
    "back of a sign": Thing(0.6, 3.0, 0.1, 0.8, _back_of_sign),
    "cabinet": Thing(0.6, 1.3, 0.5, 0.8, _cabinet),
}
