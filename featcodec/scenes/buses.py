"""Buses, in any direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featcodec.scenes.canvas import Camera, Layer, Surface
from featcodec.scenes.colours import (
    BLACK,
    CAR_PAINT,
    GLASS,
    GLASS_BRIGHT,
    WHITE,
    Colour,
    brighten,
    mix,
    pick,
    vary,
)
from featcodec.scenes.light import Light
from featcodec.scenes.private import lettering
from featcodec.scenes.solids import Frame, open_solid
from featcodec.scenes.vehicle_parts import (
    HEAD_LAMP,
    HEAD_LIT,
    TAIL_LAMP,
    TAIL_LIT,
    driver,
    glass_pane,
    inset,
    lamps,
    mirrors,
    put_plate,
    wheel_blocks,
    wheel_disc,
)


@dataclass(frozen=True)
class BusShape:
    """The sizes of a bus in metres."""

    length: float
    width: float
    height: float


def bus_shape(rng: np.random.Generator) -> BusShape:
    """Choose a random size of a bus."""
    return BusShape(rng.uniform(7.6, 9.6), rng.uniform(2.35, 2.5), rng.uniform(2.8, 3.1))


def draw_bus(rng: np.random.Generator, camera: Camera, light: Light, frame: Frame, shape: BusShape) -> Layer:
    """Draw a bus on its own layer."""
    solid = open_solid(camera, light, frame, shape.length + 0.1, shape.width + 0.5, shape.height + 0.3)
    paint = vary(rng, pick(rng, CAR_PAINT))
    second = mix(paint, pick(rng, (WHITE, WHITE, BLACK)), 0.75)
    half, end, top = shape.width / 2, shape.length / 2, shape.height
    axles = (end - 1.9, -end + 1.9)
    wheel_blocks(solid, axles[0], axles[1], half, 0.46)
    surfaces = solid.prism(
        ((-end, 0.34, half), (-end, top, half), (end - 0.1, top, half), (end, 1.0, half), (end, 0.34, half)), paint
    )
    rear, roof, upper, lower = surfaces
    dark = vary(rng, GLASS, 10)
    for right in (True, False):
        side = solid.side(right, shape.length, (0.34, half), (top, half))
        if side is not None:
            _bus_side(side, shape, (dark, second), axles, right)
    if roof is not None:
        roof.rectangle(0.2, 0.55, 0.8, 0.8, brighten(paint, 0.85))
    if rear is not None:
        pane = inset(rear, 0.12, 0.52, 0.88, 0.86)
        glass_pane(rng, pane, dark, 0.0)
        rear.rectangle(0.14, 0.3, 0.86, 0.46, brighten(paint, 0.7))
        lamps(rear, 0.12, 0.2, 0.03, 0.46, (TAIL_LAMP, TAIL_LIT))
        put_plate(rng, rear, shape.width, 0.17, top - 0.34)
    if upper is not None and lower is not None:
        _bus_front(rng, upper, lower, (paint, dark), shape)
    mirrors(solid, end - 0.1, half + 0.08, 2.0, BLACK)
    return solid.layer


def _bus_side(
    side: Surface, shape: BusShape, colours: tuple[Colour, Colour], axles: Sequence[float], right: bool
) -> None:
    dark, second = colours
    end, top = shape.length / 2, shape.height
    side.rectangle(-end + 0.05, 0.36, end - 0.05, 0.86, second)
    panes = 6
    pitch = (shape.length - 0.7) / panes
    lit = side.light.lamps
    glass = mix(dark, (255, 226, 160), 0.75) if lit else dark
    for index in range(panes):
        left = -end + 0.3 + index * pitch
        side.rectangle(left, 1.25, left + pitch - 0.1, top - 0.4, glass, lamp=lit)
        side.polygon(
            ((left + 0.15, 1.25), (left + 0.4, 1.25), (left + 0.8, top - 0.4), (left + 0.55, top - 0.4)),
            mix(glass, GLASS_BRIGHT, 0.45),
            lamp=lit,
        )
    if right:
        for door in (end - 1.45, -0.45):
            side.rectangle(door, 0.42, door + 1.1, top - 0.45, brighten(second, 0.5))
            for leaf in (door + 0.06, door + 0.58):
                side.rectangle(leaf, 0.6, leaf + 0.46, top - 0.55, mix(dark, GLASS_BRIGHT, 0.3))
    for axle in axles:
        wheel_disc(side, axle, 0.46, (60, 62, 66))


def _bus_front(
    rng: np.random.Generator, upper: Surface, lower: Surface, colours: tuple[Colour, Colour], shape: BusShape
) -> None:
    paint, dark = colours
    pane = inset(upper, 0.04, 0.06, 0.96, 0.78)
    glass_pane(rng, pane, dark, 0.0)
    if rng.random() < 0.7:
        driver(rng, pane)
    route = f"{int(rng.integers(1, 99))} {pick(rng, ('CENTRE', 'HARBOUR', 'STATION', 'PARK', 'DEPOT'))}"
    upper.rectangle(0.2, 0.81, 0.8, 0.98, BLACK)
    upper.picture(lettering(route, (255, 190, 70), (24, 24, 26), 240, 48), 0.22, 0.82, 0.78, 0.97)
    lower.rectangle(0, 0, 1, 0.3, brighten(paint, 0.55))
    lamps(lower, 0.2, 0.4, 0.04, 0.8, (HEAD_LAMP, HEAD_LIT))
    put_plate(rng, lower, shape.width, 0.34, 0.66)
