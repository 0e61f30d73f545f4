"""Cars of several body types, in any direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcodec.scenes.canvas import Camera, Layer, Surface
from featcodec.scenes.colours import (
    BLACK,
    CAR_PAINT,
    GLASS,
    GLASS_BRIGHT,
    METAL,
    Colour,
    brighten,
    mix,
    pick,
    vary,
)
from featcodec.scenes.light import Light
from featcodec.scenes.solids import Frame, Solid, open_solid
from featcodec.scenes.vehicle_parts import (
    HEAD_LAMP,
    HEAD_LIT,
    TAIL_LAMP,
    TAIL_LIT,
    driver,
    glass_pane,
    lamps,
    mirrors,
    put_plate,
    wheel_blocks,
    wheel_disc,
)

_AMBER: Colour = (232, 146, 40)


@dataclass(frozen=True)
class CarShape:
    """The sizes of a car and of its parts, in metres."""

    length: float
    width: float
    height: float
    belt: float
    hood: float
    trunk: float
    rake: float


def car_shape(rng: np.random.Generator) -> CarShape:
    """Choose a random body type: sedan, hatchback, off-roader, mini or estate."""
    base = pick(
        rng,
        (
            CarShape(4.5, 1.82, 1.44, 0.92, 1.15, 0.75, 0.62),
            CarShape(4.0, 1.76, 1.48, 0.94, 0.95, 0.16, 0.55),
            CarShape(4.5, 1.90, 1.74, 1.06, 1.00, 0.12, 0.42),
            CarShape(3.5, 1.66, 1.52, 0.94, 0.70, 0.10, 0.42),
            CarShape(4.6, 1.82, 1.50, 0.94, 1.05, 0.10, 0.50),
            CarShape(4.4, 1.84, 1.92, 1.06, 0.66, 0.06, 0.34),
        ),
    )
    long, wide, high = rng.uniform(0.95, 1.06, 3).tolist()
    return CarShape(
        base.length * long, base.width * wide, base.height * high, base.belt, base.hood, base.trunk, base.rake
    )


def draw_car(rng: np.random.Generator, camera: Camera, light: Light, frame: Frame, shape: CarShape) -> Layer:
    """Draw a car on its own layer."""
    solid = open_solid(camera, light, frame, shape.length + 0.1, shape.width + 0.36, shape.height + 0.35)
    paint = vary(rng, pick(rng, CAR_PAINT))
    half, end = shape.width / 2, shape.length / 2
    wheel = rng.uniform(0.30, 0.36)
    axle = shape.length * 0.30
    wheel_blocks(solid, axle, -axle, half, wheel)
    solid.box(-end + 0.12, end - 0.12, half * 0.95, 0.16, 0.4, BLACK)
    low, mid, nose = 0.26, 0.57, shape.belt - 0.09
    ribs = (
        (-end + 0.03, low, half * 0.98),
        (-end, mid, half),
        (-end + 0.06, shape.belt - 0.02, half * 0.96),
        (end - 0.16, nose, half * 0.95),
        (end, mid, half),
        (end - 0.04, low, half * 0.98),
    )
    rear_low, rear_high, deck, front_high, front_low = solid.prism(ribs, paint)
    _car_sides(solid, shape, paint, axle, wheel)
    if deck is not None:
        deck.polygon(((0.06, 0.74), (0.94, 0.74), (0.84, 0.985), (0.16, 0.985)), brighten(paint, 1.08))
    _cabin(rng, solid, shape, paint)
    if front_low is not None and front_high is not None:
        _car_front(rng, front_low, front_high, paint, shape.width)
    if rear_low is not None and rear_high is not None:
        _car_rear(rng, rear_low, rear_high, paint, shape.width)
    if rng.random() < 0.07:
        solid.box(-0.25, 0.2, 0.32, shape.height, shape.height + 0.2, (240, 200, 60))
    return solid.layer


def _car_sides(solid: Solid, shape: CarShape, paint: Colour, axle: float, wheel: float) -> None:
    half, end = shape.width / 2, shape.length / 2
    for right in (True, False):
        side = solid.side(right, shape.length, (0.26, half), (shape.belt, half * 0.96))
        if side is None:
            continue
        side.rectangle(-end + 0.05, 0.26, end - 0.05, 0.36, brighten(paint, 0.55))
        side.line(((-end + 0.2, shape.belt - 0.16), (end - 0.3, shape.belt - 0.2)), 0.035, brighten(paint, 1.25))
        for seam in (-0.75, 0.22, 1.08):
            side.line(((seam, 0.4), (seam, shape.belt - 0.04)), 0.025, brighten(paint, 0.62))
        for handle in (-0.6, 0.38):
            side.rectangle(handle, shape.belt - 0.25, handle + 0.2, shape.belt - 0.20, brighten(paint, 0.5))
        side.rectangle(end - 0.4, shape.belt - 0.32, end - 0.06, shape.belt - 0.16, HEAD_LAMP)
        side.rectangle(-end + 0.03, shape.belt - 0.34, -end + 0.26, shape.belt - 0.12, TAIL_LAMP)
        wheel_disc(side, axle, wheel, paint)
        wheel_disc(side, -axle, wheel, paint)


def _cabin(rng: np.random.Generator, solid: Solid, shape: CarShape, paint: Colour) -> None:
    half, end = shape.width / 2, shape.length / 2
    base_rear, base_front = -end + shape.trunk + 0.02, end - shape.hood
    roof_rear, roof_front = base_rear + shape.rake * 0.7, base_front - shape.rake
    low, high = shape.belt - 0.02, shape.height
    wide, narrow = half * 0.94, half * 0.76
    rear, roof, front = solid.prism(
        ((base_rear, low, wide), (roof_rear, high, narrow), (roof_front, high, narrow), (base_front, low, wide)),
        brighten(paint, 0.97),
    )
    dark = vary(rng, GLASS, 10)
    for right in (True, False):
        side = solid.side(right, shape.length, (low, wide), (high, narrow))
        if side is None:
            continue
        bottom, top = low + 0.06, high - 0.09
        slope = 0.8
        front_foot, front_head = base_front - 0.14, roof_front - 0.02
        rear_foot, rear_head = base_rear + 0.2, roof_rear + 0.06
        middle = (base_front + base_rear) / 2 - 0.05
        side.polygon(((middle + 0.05, bottom), (front_foot, bottom), (front_head, top), (middle + 0.05, top)), dark)
        side.polygon(((rear_foot, bottom), (middle - 0.05, bottom), (middle - 0.05, top), (rear_head, top)), dark)
        for foot in (middle + 0.2, middle - 0.7):
            side.polygon(
                ((foot, bottom), (foot + 0.16, bottom), (foot + 0.16 + slope * 0.3, top), (foot + slope * 0.3, top)),
                mix(dark, GLASS_BRIGHT, 0.55),
            )
    if roof is not None:
        roof.polygon(((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)), brighten(paint, 1.05))
    if rear is not None:
        glass_pane(rng, rear, dark, 0.08)
    if front is not None:
        glass_pane(rng, front, dark, 0.06)
        if rng.random() < 0.7:
            driver(rng, front)
    mirrors(solid, base_front - 0.25, half, low, paint)


def _car_front(rng: np.random.Generator, low: Surface, high: Surface, paint: Colour, width: float) -> None:
    grille = pick(rng, ((36, 38, 42), (64, 66, 70), brighten(paint, 0.6)))
    high.polygon(((0.26, 0.08), (0.74, 0.08), (0.68, 0.62), (0.32, 0.62)), grille)
    for row in (0.2, 0.36, 0.5):
        high.line(((0.3, row), (0.7, row)), 0.022, METAL)
    high.disc(0.5, 0.5, 0.035, (214, 216, 220), high=0.2)
    lamps(high, 0.25, 0.14, 0.03, 0.74, (HEAD_LAMP, HEAD_LIT))
    low.rectangle(0.0, 0.0, 1.0, 0.16, brighten(paint, 0.5))
    for left in (0.05, 0.85):
        low.rectangle(left, 0.32, left + 0.1, 0.62, (58, 60, 64))
        low.disc(left + 0.05, 0.47, 0.03, (214, 210, 180), high=0.11)
    put_plate(rng, low, width, 0.52, 0.32)


def _car_rear(rng: np.random.Generator, low: Surface, high: Surface, paint: Colour, width: float) -> None:
    high.line(((0.05, 0.9), (0.95, 0.9)), 0.03, brighten(paint, 0.65))
    lamps(high, 0.22, 0.2, 0.02, 0.84, (TAIL_LAMP, TAIL_LIT))
    high.rectangle(0.05, 0.2, 0.19, 0.36, _AMBER)
    low.rectangle(0.0, 0.0, 1.0, 0.3, brighten(paint, 0.55))
    low.rectangle(0.12, 0.06, 0.22, 0.2, (40, 40, 44))
    high.rectangle(0.42, 0.7, 0.58, 0.78, METAL)
    if rng.random() < 0.5:
        put_plate(rng, high, width, 0.42, 0.34)
        low.rectangle(0.3, 0.4, 0.7, 0.62, brighten(paint, 0.85))
    else:
        put_plate(rng, low, width, 0.56, 0.31)
