"""Common parts of vehicles: wheels, panes, lamps, mirrors and the number plate."""

from __future__ import annotations

import numpy as np

from featcodec.scenes.canvas import Surface
from featcodec.scenes.colours import CLOTHES, GLASS, GLASS_BRIGHT, SKIN, TYRE, Colour, brighten, mix, pick
from featcodec.scenes.private import PLATE_HEIGHT, PLATE_WIDTH, draw_plate
from featcodec.scenes.solids import Solid

TAIL_LAMP: Colour = (190, 34, 36)
TAIL_LIT: Colour = (255, 70, 60)
HEAD_LAMP: Colour = (226, 230, 226)
HEAD_LIT: Colour = (255, 246, 214)


def wheel_blocks(solid: Solid, first: float, second: float, half: float, radius: float) -> None:
    """Draw tyres as blocks, so that they are also visible from the front. The far tyres come first."""
    places = [(axle, side) for axle in (first, second) for side in (-half + 0.02, half - 0.26)]
    places.sort(key=lambda place: -solid.frame.world((place[0], place[1], 0))[2])
    for axle, left in places:
        solid.block(axle - radius * 0.8, axle + radius * 0.8, left, left + 0.24, radius * 1.7, TYRE)


def wheel_disc(side: Surface, forward: float, radius: float, arch: Colour) -> None:
    """Draw a wheel on a side. `arch` is the paint around it."""
    side.disc(forward, radius, radius * 1.2, brighten(arch, 0.42))
    side.disc(forward, radius, radius, TYRE)
    side.disc(forward, radius, radius * 0.6, (168, 172, 178))
    side.disc(forward, radius, radius * 0.42, (112, 116, 122))
    side.disc(forward, radius, radius * 0.14, (196, 200, 204))


def glass_pane(rng: np.random.Generator, surface: Surface, dark: Colour, border: float) -> None:
    """Draw a pane that reflects the sky in slanted stripes."""
    left, right, low, high = border, 1 - border, 0.08, 0.92
    surface.rectangle(left, low, right, high, dark)
    surface.polygon(((left, 0.55), (right, 0.72), (right, high), (left, high)), mix(dark, GLASS_BRIGHT, 0.4))
    at = rng.uniform(0.2, 0.55)
    surface.polygon(((at, low), (at + 0.12, low), (at + 0.28, high), (at + 0.16, high)), mix(dark, GLASS_BRIGHT, 0.8))


def driver(rng: np.random.Generator, surface: Surface) -> None:
    """Draw a driver behind glass: only a dim head and shoulders."""
    skin = mix(pick(rng, SKIN), GLASS, 0.25)
    surface.disc(0.72, 0.2, 0.13, mix(pick(rng, CLOTHES), GLASS, 0.4), high=0.22)
    surface.disc(0.72, 0.52, 0.055, skin, high=0.2)


def mirrors(solid: Solid, forward: float, half: float, belt: float, paint: Colour) -> None:
    """Draw the left and right mirrors, `forward` metres ahead of the middle and `belt` metres above the ground."""
    for sign in (-1.0, 1.0):
        near, far = sign * half * 0.93, sign * (half + 0.15)
        left, right = min(near, far), max(near, far)
        for corners in (
            (
                (forward, left, belt),
                (forward, right, belt),
                (forward, right, belt + 0.16),
                (forward, left, belt + 0.16),
            ),
            (
                (forward, right, belt),
                (forward, left, belt),
                (forward, left, belt + 0.16),
                (forward, right, belt + 0.16),
            ),
        ):
            surface = solid.face(corners)
            if surface is not None:
                surface.rectangle(0, 0, 1, 1, brighten(paint, 0.8))


def lamps(
    surface: Surface, inner: float, low: float, outer: float, high: float, colours: tuple[Colour, Colour]
) -> None:
    """Draw two mirrored lamps. `colours` are the colours off and lit; lamps are lit if the scene is dark."""
    off, lit = colours
    lamp = surface.light.lamps
    for left, right in ((outer, inner), (1 - inner, 1 - outer)):
        surface.polygon(((left, low), (right, low), (right, high), (left, high)), lit if lamp else off, lamp=lamp)
        middle = (left + right) / 2, (low + high) / 2
        surface.disc(
            *middle, (right - left) * 0.28, brighten(lit if lamp else off, 1.12), high=(high - low) * 0.3, lamp=lamp
        )
        if lamp:
            surface.glow(*middle, 0.6 if lit == HEAD_LIT else 0.4, lit)


def put_plate(rng: np.random.Generator, surface: Surface, width: float, middle: float, height: float) -> None:
    """Draw a plate in the middle of a face. The face has a size of `width` and `height` metres."""
    reach = PLATE_WIDTH / width / 2
    rise = PLATE_HEIGHT / height / 2
    draw_plate(rng, surface, 0.5 - reach, middle - rise, 0.5 + reach, middle + rise)


def inset(surface: Surface, left: float, bottom: float, right: float, top: float) -> Surface:
    """Return a part of a face as a surface with its own coordinates 0 .. 1."""
    return Surface(
        surface.layer,
        surface.camera,
        surface.light,
        surface.depth,
        lambda u, v: surface.place(left + (right - left) * u, bottom + (top - bottom) * v),
        surface.shade,
    )
