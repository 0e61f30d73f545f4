"""Rows of houses with walls, roofs, windows and shops, seen from the front or in perspective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcodec.scenes.canvas import Camera, Layer, Surface, Vector
from featcodec.scenes.colours import (
    BLACK,
    GLASS,
    GLASS_BRIGHT,
    LEAVES,
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
from featcodec.scenes.private import lettering
from featcodec.scenes.street import Wall

_FLOOR = 3.1
_SHOP_NAMES = ("BAKERY", "BOOKS", "CAFE", "FLOWERS", "HOTEL", "OPTIK", "PHARMA", "SHOES", "TOYS", "BAR", "BANK", "DELI")
_LIT: Colour = (255, 214, 140)


@dataclass(frozen=True)
class House:
    start: tuple[float, float]
    end: tuple[float, float]
    length: float
    height: float
    wall: Colour


def draw_row(rng: np.random.Generator, layer: Layer, camera: Camera, light: Light, wall: Wall) -> None:
    """Draw the houses along a wall, the farthest first."""
    if rng.random() < 0.22:
        _hedge(rng, layer, camera, light, wall)
        return
    houses = list(split_row(rng, wall))
    houses.sort(key=lambda house: -max(house.start[1], house.end[1]))
    for house in houses:
        draw_house(rng, layer, camera, light, house)


def _hedge(rng: np.random.Generator, layer: Layer, camera: Camera, light: Light, wall: Wall) -> None:
    """Draw a park instead of houses: trees behind a hedge, in strips. Farther strips have more haze."""
    (x0, z0), (x1, z1) = wall.start, wall.end
    leaves, high = vary(rng, pick(rng, LEAVES)), rng.uniform(1.2, 2.4)
    strips = 14
    order = range(strips) if z0 >= z1 else range(strips - 1, -1, -1)
    length = float(np.hypot(x1 - x0, z1 - z0))

    def place(u: float, v: float) -> Vector:
        # A tree at the near end must not be behind the camera.
        return x0 + (x1 - x0) * u, v, max(2.0, z0 + (z1 - z0) * u)

    for strip in order:
        # The strips have equal widths in the picture, so they are short near the camera.
        first, last = (_share(z0, z1, end / strips) for end in (strip, strip + 1))
        depth = z0 + (z1 - z0) * (first + last) / 2
        surface = Surface(layer, camera, light, depth, place)
        for _ in range(2):
            at, size = rng.uniform(first, last), rng.uniform(1.6, 3.2)
            tree = brighten(vary(rng, leaves, 24), 0.9)
            surface.line(((at, 0), (at, 4.5)), 0.25, (92, 74, 58))
            for _ in range(7):
                u, v = at + rng.uniform(-1, 1) * size * 0.6 / length, 4.6 + rng.uniform(-0.7, 0.9) * size * 0.7
                surface.disc(u, v, size * 0.5 / length, brighten(tree, 0.8 + 0.08 * (v - 3)), high=size * 0.5)
        surface.rectangle(first, 0, last, high, leaves)
        for _ in range(8):
            u, v = rng.uniform(first, last), rng.uniform(0.2, 1.0) * high
            surface.disc(u, v, 0.3 / length, brighten(leaves, rng.uniform(0.78, 1.2)), high=0.25)


def _share(z0: float, z1: float, share: float) -> float:
    """Convert a share of a wall's width in the picture to a share of its real length."""
    if abs(z1 - z0) < 0.01:
        return share
    z = 1 / (1 / z0 + (1 / z1 - 1 / z0) * share)
    return (z - z0) / (z1 - z0)


def split_row(rng: np.random.Generator, wall: Wall) -> list[House]:
    (x0, z0), (x1, z1) = wall.start, wall.end
    total = float(np.hypot(x1 - x0, z1 - z0))
    tall = rng.uniform(6, 15)
    houses, at = [], 0.0
    while at < total - 1:
        length = min(rng.uniform(6, 14), total - at)
        if rng.random() > 0.09:  # otherwise there is a gap
            ends = [(x0 + (x1 - x0) * share / total, z0 + (z1 - z0) * share / total) for share in (at, at + length)]
            height = max(4.0, tall * rng.uniform(0.6, 1.4))
            houses.append(House(ends[0], ends[1], length, height, vary(rng, pick(rng, WALLS))))
        at += length
    return houses


def draw_house(rng: np.random.Generator, layer: Layer, camera: Camera, light: Light, house: House) -> None:
    (x0, z0), (x1, z1) = house.start, house.end
    depth = (z0 + z1) / 2
    columns = sorted(camera.project(x, 0, z)[0] for x, z in (house.start, house.end))
    if columns[1] < -40 or columns[0] > layer.image.width / layer.factor + 40:
        return
    length = house.length
    frontal = abs(z1 - z0) < 0.01
    surface = Surface(
        layer,
        camera,
        light,
        depth,
        lambda u, v: (x0 + (x1 - x0) * u / length, v, z0 + (z1 - z0) * u / length),
        0.98 if frontal else 1.0 + 0.16 * (light.sun if x0 < 0 else -light.sun),
    )
    if not frontal:
        _end_wall(layer, camera, light, house)
    surface.rectangle(0, 0, length, house.height, house.wall)
    if frontal and rng.random() < 0.5:
        peak = house.height + rng.uniform(1.0, 3.0)
        inset = rng.uniform(0, 2.0)
        roof = vary(rng, (128, 70, 58) if rng.random() < 0.6 else (84, 88, 96))
        surface.polygon(
            ((-0.2, house.height), (length + 0.2, house.height), (length - inset, peak), (inset, peak)), roof
        )
    trim = brighten(house.wall, 0.8)
    surface.rectangle(0, house.height - 0.35, length, house.height, trim)
    pixels = abs(columns[1] - columns[0])
    if pixels < 5:
        return
    shop = rng.random() < 0.55
    _windows(rng, surface, house, first=1 if shop else 0, fine=pixels > 26)
    if shop:
        _shop(rng, surface, house)
    elif pixels > 20:
        door = rng.uniform(0.15, 0.7) * length
        surface.rectangle(door - 0.1, 0, door + 1.2, 2.4, trim)
        surface.rectangle(door, 0, door + 1.1, 2.3, vary(rng, pick(rng, SIGNAGE)))
    surface.rectangle(0, 0, length, 0.3, brighten(house.wall, 0.66))


def _end_wall(layer: Layer, camera: Camera, light: Light, house: House) -> None:
    """Draw the wall between two houses. The nearer house hides its lower part."""
    x, z = min((house.start, house.end), key=lambda end: end[1])
    away = x + (14.0 if x > 0 else -14.0)
    surface = Surface(layer, camera, light, z, lambda u, v: (u, v, z), 0.84)
    surface.rectangle(min(x, away), 0, max(x, away), house.height, house.wall)


def _windows(rng: np.random.Generator, surface: Surface, house: House, *, first: int, fine: bool) -> None:
    floors = int((house.height - 0.6) // _FLOOR)
    pitch = rng.uniform(1.9, 3.0)
    count = int((house.length - 0.5) // pitch)
    wide, tall = pitch * rng.uniform(0.42, 0.68), rng.uniform(1.4, 1.9)
    margin = (house.length - count * pitch) / 2 + (pitch - wide) / 2
    frame = mix(house.wall, pick(rng, (WHITE, WHITE, BLACK)), 0.7)
    glass = vary(rng, GLASS, 18)
    lit_share = 0.42 if surface.light.lamps else 0.0
    balcony = fine and rng.random() < 0.22
    states = rng.random((floors, count))
    for level in range(first, floors):
        low = level * _FLOOR + 0.85
        if surface.point(house.length / 2, low)[1] < -30:
            break
        for column in range(count):
            left = margin + column * pitch
            lit = bool(states[level, column] < lit_share)
            pane = mix(_LIT, glass, 0.5 * float(states[level, column])) if lit else glass
            if not fine:
                surface.rectangle(left, low, left + wide, low + tall, pane, lamp=lit)
                continue
            surface.rectangle(left - 0.1, low - 0.14, left + wide + 0.1, low + tall + 0.08, frame)
            surface.rectangle(left, low, left + wide, low + tall, pane, lamp=lit)
            if not lit:
                sky = mix(glass, GLASS_BRIGHT, 0.25 + 0.5 * float(states[level, column]))
                surface.polygon(
                    (
                        (left, low + tall * 0.5),
                        (left + wide, low + tall * 0.75),
                        (left + wide, low + tall),
                        (left, low + tall),
                    ),
                    sky,
                )
            if balcony and column % 2 == 0:
                surface.rectangle(left - 0.3, low - 0.3, left + wide + 0.3, low + 0.5, brighten(house.wall, 0.55))


def _shop(rng: np.random.Generator, surface: Surface, house: House) -> None:
    colour = vary(rng, pick(rng, SIGNAGE))
    lit = surface.light.lamps
    length = house.length
    surface.rectangle(0.2, 0, length - 0.2, 3.2, brighten(colour, 0.7))
    glass = (236, 206, 150) if lit else mix(vary(rng, GLASS, 14), GLASS_BRIGHT, 0.3)
    panes = max(2, int(length // 2.4))
    pitch = (length - 0.6) / panes
    door = int(rng.integers(panes))
    for index in range(panes):
        left = 0.4 + index * pitch
        bottom = 0.05 if index == door else 0.6
        surface.rectangle(left, bottom, left + pitch - 0.2, 2.35, glass, lamp=lit)
        if index != door:
            goods = vary(rng, pick(rng, (*SIGNAGE, *LEAVES)), 20)
            surface.rectangle(left + 0.2, 0.6, left + pitch - 0.5, rng.uniform(0.9, 1.6), mix(goods, glass, 0.35))
    surface.rectangle(0.2, 2.5, length - 0.2, 3.2, colour)
    ink = WHITE if luminance(colour) < 140 else BLACK
    corners = surface.points(((length * 0.25, 2.5), (length * 0.75, 3.2)))
    if abs(corners[1][0] - corners[0][0]) > 24:
        name = lettering(pick(rng, _SHOP_NAMES), ink, colour, 200, 40)
        surface.picture(name, length * 0.22, 2.55, length * 0.78, 3.15)
    if rng.random() < 0.5:
        _awning(surface, length, colour, ink)


def _awning(surface: Surface, length: float, colour: Colour, ink: Colour) -> None:
    stripes = max(4, int(length / 0.8))
    step = (length - 0.4) / stripes
    for index in range(stripes):
        left = 0.2 + index * step
        stripe = colour if index % 2 else mix(colour, ink, 0.75)
        surface.polygon(((left, 1.95), (left + step, 1.95), (left + step, 2.5), (left, 2.5)), stripe)
