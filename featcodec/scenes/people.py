"""Pedestrians who walk or stand, seen from the front, the side or behind, with faces, clothes and bags."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from featcodec.scenes.canvas import Camera, Layer, Point, Surface, sprite_layer, upright
from featcodec.scenes.colours import (
    BLACK,
    CLOTHES,
    HAIR,
    SIGNAGE,
    SKIN,
    TROUSERS,
    WHITE,
    Colour,
    brighten,
    mix,
    pick,
    vary,
)
from featcodec.scenes.light import Light
from featcodec.scenes.private import note_face


@dataclass(frozen=True)
class Person:
    """How a person looks. Lengths are in metres for an adult of 1.75 m. `view` is "front", "side" or "back"."""

    view: str
    scale: float
    skin: Colour
    hair: Colour
    style: str
    top: Colour
    bottom: Colour
    shoes: Colour
    skirt: bool
    coat: bool
    stride: float
    build: float
    beard: bool
    glasses: bool
    hat: Colour | None
    bag: Colour | None


def draw_person_look(rng: np.random.Generator, view: str | None = None) -> Person:
    """Choose a random look. `view` fixes the side from which the person is seen."""
    child = rng.random() < 0.14
    skirt = bool(rng.random() < 0.25)
    return Person(
        view=view or pick(rng, ("front", "front", "side", "side", "back")),
        scale=rng.uniform(0.62, 0.78) if child else rng.uniform(0.92, 1.08),
        skin=vary(rng, pick(rng, SKIN), 8),
        hair=vary(rng, pick(rng, HAIR), 10),
        style=pick(rng, ("short", "short", "long", "bun", "curly", "bald" if not child else "short")),
        top=vary(rng, pick(rng, CLOTHES)),
        bottom=vary(rng, pick(rng, TROUSERS)),
        shoes=pick(rng, (BLACK, (96, 66, 46), WHITE, (150, 50, 50))),
        skirt=skirt,
        coat=bool(rng.random() < 0.3),
        stride=rng.uniform(-0.34, 0.34) if rng.random() < 0.75 else rng.uniform(-0.06, 0.06),
        build=rng.uniform(0.88, 1.22),
        beard=bool(not skirt and not child and rng.random() < 0.3),
        glasses=bool(rng.random() < 0.22),
        hat=vary(rng, pick(rng, CLOTHES)) if rng.random() < 0.18 else None,
        bag=vary(rng, pick(rng, CLOTHES)) if rng.random() < 0.35 else None,
    )


def draw_person(
    rng: np.random.Generator, camera: Camera, light: Light, place: tuple[float, float], person: Person
) -> Layer:
    """Draw a pedestrian on its own layer. `place` is the ground point in metres."""
    x, z = place
    tall = 1.9 * person.scale
    umbrella = rng.random() < 0.07
    reach = 0.75 * person.scale
    layer = sprite_layer(
        (camera.project(x - reach, -0.03, z), camera.project(x + reach, tall + (0.4 if umbrella else 0.1), z)),
        camera.scale(z),
    )
    ground = upright(layer, camera, light, x, z, mirror=bool(rng.random() < 0.5), squash=person.scale)
    board = Surface(layer, camera, light, z, lambda u, v: ground.place(u, v * person.scale), unit=person.scale)
    if person.bag is not None and person.view == "side":
        board.polygon(((-0.3, 0.92), (-0.1, 0.9), (-0.08, 1.4), (-0.28, 1.36)), person.bag)
    _legs(board, person)
    _torso(rng, board, person)
    draw_head(rng, board, person, (0.02 if person.view == "side" else 0.0, 1.58))
    if umbrella:
        _umbrella(rng, board)
    return layer


def _legs(board: Surface, person: Person) -> None:
    hip = 0.86
    apart = 0.075 * person.build if person.view != "side" else 0.02
    swing = person.stride if person.view == "side" else 0.0
    thick = 0.135 * person.build
    for side, far in ((-1.0, True), (1.0, False)):
        lift = max(0.0, side * person.stride) * 0.25
        foot = side * (apart + 0.02) + side * swing, 0.05 + lift
        knee = side * apart + side * swing * 0.45 + abs(swing) * 0.16, 0.47 + lift * 0.6
        cloth = brighten(person.bottom, 0.78) if far else person.bottom
        bare = person.skirt
        board.line(((side * apart, hip), knee, foot), thick * (0.8 if bare else 1.0), person.skin if bare else cloth)
        toe = 0.13 if person.view == "side" else 0.02 * side
        board.line((foot, (foot[0] + toe, foot[1] - 0.01)), 0.1, person.shoes)
    if person.skirt:
        wide = 0.25 * person.build
        board.polygon(((-wide, 0.5), (wide, 0.5), (0.15, 0.98), (-0.15, 0.98)), person.bottom)


def _torso(rng: np.random.Generator, board: Surface, person: Person) -> None:
    wide = (0.2 if person.view == "side" else 0.27) * (0.5 + 0.5 * person.build)
    waist = wide * 0.78
    hem = 0.55 if person.coat else 0.84
    arm = 0.1 * person.build
    swing = person.stride * 0.9 if person.view == "side" else 0.04
    sleeve = brighten(person.top, 0.86)
    short = not person.coat and rng.random() < 0.35
    shoulder = wide * 0.86 if person.view != "side" else 0.0

    def limb(side: float) -> None:
        elbow = side * (shoulder + 0.07 * (shoulder > 0)) - side * swing * 0.5, 1.1
        hand = side * (shoulder + 0.06 * (shoulder > 0)) - side * swing * 1.1 + 0.04, 0.86 + abs(swing) * 0.2
        board.line(((side * shoulder, 1.36), elbow), arm, sleeve)
        board.line((elbow, hand), arm * 0.85, person.skin if short else sleeve)
        board.disc(hand[0], hand[1] - 0.02, 0.05, person.skin)
        if person.bag is not None and side > 0 and person.view != "side":
            low = hand[1] - 0.36
            board.rectangle(hand[0] - 0.11, low, hand[0] + 0.11, low + 0.28, person.bag)
            board.line(
                ((hand[0] - 0.07, low + 0.28), (hand[0], hand[1]), (hand[0] + 0.07, low + 0.28)), 0.02, person.bag
            )

    limb(-1.0)
    if person.view != "side":
        limb(1.0)
    body: list[Point] = [
        (-wide * 0.94, 1.38), (-wide * 0.6, 1.46), (wide * 0.6, 1.46), (wide * 0.94, 1.38),
        (waist, 1.0), (waist * (1.2 if person.coat else 1.02), hem), (-waist * (1.2 if person.coat else 1.02), hem),
        (-waist, 1.0),
    ]  # fmt: skip
    board.polygon(body, person.top)
    _pattern(rng, board, person, waist)
    if person.view == "side":
        limb(1.0)


def _pattern(rng: np.random.Generator, board: Surface, person: Person, waist: float) -> None:
    second = mix(person.top, pick(rng, (WHITE, BLACK, *SIGNAGE)), 0.6)
    kind = pick(rng, ("plain", "stripes", "zip", "logo"))
    if kind == "stripes":
        for high in (0.98, 1.1, 1.22, 1.34):
            board.rectangle(-waist * 0.98, high, waist * 0.98, high + 0.05, second)
    elif kind == "zip" and person.view == "front":
        board.line(((0, 0.6 if person.coat else 0.86), (0, 1.42)), 0.025, second)
        board.polygon(((-0.1, 1.46), (0.1, 1.46), (0, 1.3)), second)
    elif kind == "logo" and person.view != "side":
        board.disc(0, 1.2, 0.09, second)


def draw_head(
    rng: np.random.Generator, board: Surface, person: Person, at: Point, *, helmet: Colour | None = None
) -> None:
    """Draw a head with its middle at a point of the board, and record its face."""
    x, y = at
    wide, high = 0.125, 0.165
    hair = person.hair
    board.line(((x, y - 0.2), (x, y - 0.08)), 0.1, brighten(person.skin, 0.86))
    if person.style == "long":
        board.disc(x - (0.03 if person.view == "side" else 0), y - 0.06, wide * 1.2, hair, high=high * 1.35)
    elif person.style == "curly":
        board.disc(x, y + 0.04, wide * 1.4, hair, high=high * 1.1)
    elif person.style == "bun":
        board.disc(x - (0.1 if person.view == "side" else 0), y + 0.2, 0.07, hair)
    if person.view == "back":
        board.disc(x, y, wide, person.skin if person.style == "bald" else hair, high=high)
    else:
        if person.view == "front":
            for ear in (-wide, wide):
                board.disc(x + ear, y - 0.01, 0.025, brighten(person.skin, 0.9), high=0.04)
        board.disc(x, y, wide, person.skin, high=high)
        _face(rng, board, person, at)
        left, top, right, bottom = x - wide, y + high, x + wide, y - high
        note_face(board.layer, board.points(((left, bottom), (right, top))))
    _on_top(board, person, at, helmet)


def _on_top(board: Surface, person: Person, at: Point, helmet: Colour | None) -> None:
    x, y = at
    wide, high = 0.13, 0.17
    cap = [(x + wide * c, y + 0.035 + (high - 0.03) * s) for c, s in _UPPER]
    if helmet is not None:
        board.polygon([(px, py + 0.01) for px, py in cap], helmet)
        board.line(((x - wide, y + 0.045), (x + wide, y + 0.045)), 0.03, brighten(helmet, 0.6))
    elif person.hat is not None:
        board.polygon(cap, person.hat)
        front = 0.12 if person.view == "side" else 0.0
        board.line(((x - wide, y + 0.05), (x + wide + front, y + 0.05)), 0.035, brighten(person.hat, 0.75))
    elif person.style != "bald":
        fringe = [(px - (0.02 if person.view == "side" else 0.0), py + 0.02) for px, py in cap]
        board.polygon([*fringe, (x - wide * 0.3, y + 0.09)], person.hair)
        if person.view == "side":
            board.disc(x - 0.075, y + 0.02, 0.06, person.hair, high=0.11)


_UPPER = tuple((math.cos(math.pi * i / 10), math.sin(math.pi * i / 10)) for i in range(11))


def _face(rng: np.random.Generator, board: Surface, person: Person, at: Point) -> None:
    """Draw eyes, brows, nose and mouth. They are left out if they would be smaller than half a pixel."""
    x, y = at
    if board.camera.scale(board.depth) * person.scale < 22:
        return
    shadow = brighten(person.skin, 0.78)
    iris = pick(rng, ((60, 40, 30), (50, 90, 120), (60, 100, 70), (40, 34, 34)))
    eyes = (-0.05, 0.05) if person.view == "front" else (0.06,)
    turned = 0.0 if person.view == "front" else 0.08
    for eye in eyes:
        board.disc(x + eye, y + 0.022, 0.027, WHITE, high=0.02)
        board.disc(x + eye + turned * 0.12, y + 0.022, 0.014, iris, high=0.018)
        board.line(((x + eye - 0.03, y + 0.062), (x + eye + 0.028, y + 0.068)), 0.016, brighten(person.hair, 0.8))
        if person.glasses:
            board.line([(x + eye + 0.036 * c, y + 0.02 + 0.032 * s) for c, s in _RING], 0.012, BLACK)
    nose = x + (0.0 if person.view == "front" else 0.115)
    board.polygon(((nose - 0.012, y + 0.02), (nose + 0.026, y - 0.035), (nose - 0.018, y - 0.035)), shadow)
    if person.beard:
        lower = [(x + 0.115 * c, y - 0.035 - 0.13 * s) for c, s in _UPPER]
        board.polygon(lower, mix(person.hair, person.skin, 0.15))
    mouth = x + turned
    smile = rng.uniform(-0.01, 0.025)
    board.line(
        ((mouth - 0.045, y - 0.085 + smile), (mouth, y - 0.095), (mouth + 0.045, y - 0.085 + smile)),
        0.02,
        mix(person.skin, (150, 40, 50), 0.6),
    )


_RING = tuple((math.cos(math.pi * i / 6), math.sin(math.pi * i / 6)) for i in range(13))


def _umbrella(rng: np.random.Generator, board: Surface) -> None:
    colour = vary(rng, pick(rng, CLOTHES))
    board.line(((0.2, 1.0), (0.2, 2.0)), 0.025, (70, 66, 62))
    board.polygon([(0.1 + 0.62 * c, 1.82 + 0.34 * s) for c, s in _UPPER], colour)
    board.polygon([(0.1 + 0.22 * c, 1.82 + 0.34 * s) for c, s in _UPPER], brighten(colour, 0.85))
