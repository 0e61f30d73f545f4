"""Trucks with boxes, tarpaulins, tanks or open loads, in any direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from featcodec.scenes.canvas import Camera, Layer, Surface
from featcodec.scenes.colours import (
    BLACK,
    CAR_PAINT,
    GLASS,
    METAL,
    SIGNAGE,
    WHITE,
    Colour,
    brighten,
    mix,
    pick,
    vary,
)
from featcodec.scenes.light import Light
from featcodec.scenes.private import draw_poster
from featcodec.scenes.solids import Frame, Solid, open_solid
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
class TruckShape:
    """The sizes of a truck in metres. `load` is "box", "tarpaulin", "flatbed" or "tank"."""

    length: float
    width: float
    height: float
    cab: float
    load: str


def truck_shape(rng: np.random.Generator) -> TruckShape:
    """Choose a random size and load of a truck."""
    load = pick(rng, ("box", "box", "tarpaulin", "flatbed", "tank"))
    return TruckShape(rng.uniform(5.6, 7.6), rng.uniform(2.2, 2.5), rng.uniform(2.9, 3.5), rng.uniform(1.5, 1.9), load)


def draw_truck(rng: np.random.Generator, camera: Camera, light: Light, frame: Frame, shape: TruckShape) -> Layer:
    """Draw a truck on its own layer."""
    solid = open_solid(camera, light, frame, shape.length + 0.1, shape.width + 0.5, shape.height + 0.1)
    paint = vary(rng, pick(rng, CAR_PAINT))
    half, end = shape.width / 2, shape.length / 2
    wheel = 0.46
    axles = (end - 0.95, -end + 1.1, -end + 2.15)
    wheel_blocks(solid, axles[0], axles[1], half, wheel)
    solid.box(-end + 0.05, end - 0.1, half * 0.9, 0.42, 0.85, (58, 60, 64))
    seam = end - shape.cab
    if _distance(solid, end - shape.cab / 2) > _distance(solid, -shape.cab):
        _cab(rng, solid, shape, seam, end, paint)
        _load(rng, solid, shape, -end, seam - 0.12)
    else:
        _load(rng, solid, shape, -end, seam - 0.12)
        _cab(rng, solid, shape, seam, end, paint)
    for right in (True, False):
        side = solid.side(right, shape.length, (0.0, half), (shape.height, half))
        if side is not None:
            for axle in axles[: 2 if shape.length < 6.6 else 3]:
                wheel_disc(side, axle, wheel, (70, 72, 76))
            side.rectangle(-end + 2.8, 0.42, seam - 0.2, 0.72, (92, 94, 98))
    return solid.layer


def _distance(solid: Solid, forward: float) -> float:
    """Return the distance on the ground from the camera to a point of the solid's axis, in metres."""
    x, _, z = solid.frame.world((forward, 0, 0))
    return math.hypot(x, z)


def _cab(rng: np.random.Generator, solid: Solid, shape: TruckShape, rear: float, end: float, paint: Colour) -> None:
    half, top = shape.width / 2, min(shape.height - 0.1, 2.75)
    low, belt = 0.42, 1.5
    solid.prism(((rear, low, half), (rear, top, half), (end - 0.22, top, half * 0.96), (end - 0.08, belt, half)), paint)
    surfaces = solid.prism(
        ((rear, low, half), (rear, belt, half), (end - 0.08, belt, half), (end, 0.85, half), (end, low, half)), paint
    )
    window = solid.face(
        (
            (end - 0.08, half, belt),
            (end - 0.08, -half, belt),
            (end - 0.22, -half * 0.96, top),
            (end - 0.22, half * 0.96, top),
        )
    )
    dark = vary(rng, GLASS, 10)
    if window is not None:
        window.rectangle(0, 0, 1, 1, paint)
        pane = inset(window, 0.03, 0.1, 0.97, 0.78)
        glass_pane(rng, pane, dark, 0.02)
        if rng.random() < 0.7:
            driver(rng, pane)
    for right in (True, False):
        side = solid.side(right, shape.length, (low, half), (top, half))
        if side is not None:
            side.polygon(
                (
                    (rear + 0.25, belt + 0.1),
                    (end - 0.25, belt + 0.1),
                    (end - 0.38, top - 0.25),
                    (rear + 0.25, top - 0.25),
                ),
                dark,
            )
            side.line(((rear + 0.14, low + 0.2), (rear + 0.14, top - 0.2)), 0.03, brighten(paint, 0.6))
            side.rectangle(rear + 0.2, belt - 0.2, rear + 0.42, belt - 0.13, BLACK)
    grille, bumper = surfaces[2], surfaces[3]
    if grille is not None and bumper is not None:
        for row in (0.3, 0.5, 0.7, 0.88):
            grille.line(((0.2, row), (0.8, row)), 0.06, brighten(paint, 0.45))
        bumper.rectangle(0, 0, 1, 1, brighten(paint, 0.55))
        lamps(grille, 0.19, 0.02, 0.03, 0.4, (HEAD_LAMP, HEAD_LIT))
        put_plate(rng, bumper, shape.width, 0.5, 0.43)
    mirrors(solid, end - 0.2, half, belt + 0.3, BLACK)


def _load(rng: np.random.Generator, solid: Solid, shape: TruckShape, rear: float, front: float) -> None:
    half, top = shape.width / 2, shape.height
    colour = vary(rng, pick(rng, (WHITE, (206, 208, 210), *SIGNAGE)))
    if shape.load == "flatbed":
        solid.box(rear, front, half, 0.8, 1.15, (120, 96, 70))
        crate = vary(rng, (178, 138, 92))
        start = rear + 0.3
        while start < front - 0.9:
            end = start + rng.uniform(0.7, 1.3)
            solid.box(start, min(end, front - 0.1), half * rng.uniform(0.6, 0.9), 1.15, rng.uniform(1.6, 2.3), crate)
            start = end + 0.15
        faces: list[Surface | None] = [None]
    elif shape.load == "tank":
        ribs = [(rear, y, half * w) for y, w in ((0.9, 0.6), (1.35, 0.96), (1.9, 0.96), (2.35, 0.6))]
        solid.prism([*ribs, *[(front, y, w) for _, y, w in reversed(ribs)]], mix(colour, (200, 204, 208), 0.5))
        faces = [None]
    else:
        faces = solid.prism(((rear, 0.8, half), (rear, top, half), (front, top, half), (front, 0.8, half)), colour)
        _load_sides(rng, solid, shape, rear, front, colour)
    back = faces[0]
    if back is not None:
        back.rectangle(0.04, 0.03, 0.96, 0.96, brighten(colour, 0.92))
        back.line(((0.5, 0.03), (0.5, 0.96)), 0.04, brighten(colour, 0.6))
        for bar in (0.42, 0.58):
            back.line(((bar, 0.06), (bar, 0.92)), 0.035, METAL)
    bar_face = solid.face(((rear, -half, 0.38), (rear, half, 0.38), (rear, half, 0.8), (rear, -half, 0.8)))
    if bar_face is not None:
        bar_face.rectangle(0, 0, 1, 1, (70, 72, 76))
        lamps(bar_face, 0.2, 0.2, 0.04, 0.7, (TAIL_LAMP, TAIL_LIT))
        put_plate(rng, bar_face, shape.width, 0.5, 0.42)


def _load_sides(
    rng: np.random.Generator, solid: Solid, shape: TruckShape, rear: float, front: float, colour: Colour
) -> None:
    """Draw the long sides of a box: straps of a tarpaulin, or boards and sometimes an advertisement."""
    half, top = shape.width / 2, shape.height
    advertised = shape.load == "box" and rng.random() < 0.6
    for sign in (1.0, -1.0):
        left, right = (rear, front) if sign > 0 else (front, rear)
        side = solid.face(
            ((left, sign * half, 0.8), (right, sign * half, 0.8), (right, sign * half, top), (left, sign * half, top))
        )
        if side is None:
            continue
        side.rectangle(0, 0, 1, 0.05, METAL)
        side.rectangle(0, 0.95, 1, 1, brighten(colour, 0.8))
        if shape.load == "tarpaulin":
            for position in np.linspace(0.06, 0.94, 9).tolist():
                side.line(((position, 0.06), (position, 0.94)), 0.035, brighten(colour, 0.8))
        elif advertised:
            draw_poster(rng, side, 0.14, 0.14, 0.86, 0.86)
