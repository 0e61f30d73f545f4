"""Bicycles, with a rider or parked. A bicycle and its rider are one object."""

from __future__ import annotations

import math

import numpy as np

from featcodec.scenes.canvas import Camera, Layer, Point, Surface, sprite_layer, upright
from featcodec.scenes.colours import CAR_PAINT, CLOTHES, METAL, TYRE, Colour, brighten, pick, vary
from featcodec.scenes.light import Light
from featcodec.scenes.people import Person, draw_head, draw_person_look

_WHEEL = 0.34
_REAR, _FRONT = -0.52, 0.52
_CRANK: Point = (-0.06, 0.32)
_SEAT: Point = (-0.24, 0.98)
_BAR: Point = (0.4, 1.06)
_RING = tuple((math.cos(math.pi * i / 12), math.sin(math.pi * i / 12)) for i in range(25))


def draw_bicycle(
    rng: np.random.Generator,
    camera: Camera,
    light: Light,
    place: tuple[float, float],
    *,
    ridden: bool,
    along: bool,
    view: str | None = None,
) -> Layer:
    """Draw a bicycle on its own layer.

    Args:
        rng: random generator for the appearance.
        camera: the camera that sees the bicycle.
        light: the light of the scene.
        place: ground point in metres.
        ridden: whether somebody rides the bicycle.
        along: whether it is seen from the front or from behind, instead of from the side.
        view: "front" or "back": which of the two; None chooses one.
    """
    x, z = place
    reach, tall = (0.5, 2.0) if along else (1.0, 2.0)
    layer = sprite_layer(
        (camera.project(x - reach, -0.03, z), camera.project(x + reach, tall if ridden else 1.3, z)), camera.scale(z)
    )
    squash = 1.0 if along else rng.uniform(0.62, 1.0)
    board = upright(layer, camera, light, x, z, mirror=bool(rng.random() < 0.5), squash=squash)
    paint = vary(rng, pick(rng, CAR_PAINT))
    if along:
        person = draw_person_look(rng, view or pick(rng, ("front", "back")))
        _bicycle_along(rng, board, paint, person if ridden else None)
        return layer
    person = draw_person_look(rng, "side")
    phase = rng.uniform(0, 2 * math.pi)
    if ridden:
        _leg(board, person, phase + math.pi, far=True)
    _bicycle_side(rng, board, paint)
    if ridden:
        _rider(rng, board, person, phase)
    return layer


def _bicycle_side(rng: np.random.Generator, board: Surface, paint: Colour) -> None:
    for hub in (_REAR, _FRONT):
        for angle in (0.2, 1.25, 2.3):
            reach = math.cos(angle) * _WHEEL * 0.92, math.sin(angle) * _WHEEL * 0.92
            board.line(
                ((hub - reach[0], _WHEEL - reach[1]), (hub + reach[0], _WHEEL + reach[1])), 0.012, (150, 152, 154)
            )
        board.line([(hub + _WHEEL * c * 0.95, _WHEEL + _WHEEL * s * 0.95) for c, s in _RING], 0.06, TYRE)
        board.disc(hub, _WHEEL, 0.05, METAL)
    head: Point = (0.36, 0.86)
    for tube in (
        ((_REAR, _WHEEL), _CRANK), ((_REAR, _WHEEL), (-0.2, 0.84)), (_CRANK, (-0.22, 0.92)), (_CRANK, head),
        ((-0.2, 0.84), head), (head, (_FRONT, _WHEEL)),
    ):  # fmt: skip
        board.line(tube, 0.055, paint)
    board.line((head, _BAR, (_BAR[0] + 0.1, _BAR[1] + 0.02)), 0.045, (60, 62, 66))
    board.line(((_SEAT[0] - 0.12, _SEAT[1]), (_SEAT[0] + 0.12, _SEAT[1])), 0.07, (50, 40, 36))
    board.disc(*_CRANK, 0.09, METAL)
    if rng.random() < 0.3:
        board.rectangle(0.42, 0.78, 0.72, 1.0, (166, 128, 84))
    if rng.random() < 0.4:
        board.rectangle(-0.78, 0.74, -0.3, 0.78, METAL)
    if board.light.lamps:
        board.glow(_FRONT, 0.8, 0.4, (255, 246, 214))


def _leg(board: Surface, person: Person, phase: float, *, far: bool) -> None:
    hip: Point = (_SEAT[0], _SEAT[1] + 0.02)
    foot = _CRANK[0] + 0.16 * math.cos(phase), _CRANK[1] + 0.16 * math.sin(phase)
    middle = (hip[0] + foot[0]) / 2 + 0.22, (hip[1] + foot[1]) / 2 + 0.1
    cloth = brighten(person.bottom, 0.75) if far else person.bottom
    board.line((hip, middle, foot), 0.13, cloth)
    board.line((foot, (foot[0] + 0.13, foot[1])), 0.09, person.shoes)


def _rider(rng: np.random.Generator, board: Surface, person: Person, phase: float) -> None:
    _leg(board, person, phase, far=False)
    shoulder: Point = (0.06, 1.48)
    board.line(((_SEAT[0], _SEAT[1] + 0.1), (shoulder[0] - 0.03, shoulder[1] - 0.06)), 0.27 * person.build, person.top)
    elbow = 0.22, 1.2
    board.line((shoulder, elbow, _BAR), 0.1, brighten(person.top, 0.85))
    board.disc(*_BAR, 0.05, person.skin)
    if person.bag is not None:
        board.line(((-0.34, 1.2), (-0.16, 1.44)), 0.2, person.bag)
    helmet = vary(rng, pick(rng, CLOTHES)) if rng.random() < 0.6 else None
    draw_head(rng, board, person, (0.14, 1.7), helmet=helmet)


def _bicycle_along(rng: np.random.Generator, board: Surface, paint: Colour, person: Person | None) -> None:
    board.line(((0, 0.04), (0, 0.66)), 0.075, TYRE)
    board.line(((0, 0.6), (0, 1.0)), 0.06, paint)
    if person is not None:
        for side in (-1.0, 1.0):
            lift = 0.16 * side * person.stride * 3
            board.line(
                ((side * 0.09, 0.98), (side * 0.15, 0.66 + lift * 0.5), (side * 0.12, 0.3 + lift)), 0.13, person.bottom
            )
            board.line(((side * 0.12, 0.28 + lift), (side * 0.14, 0.24 + lift)), 0.1, person.shoes)
        wide = 0.24 * person.build
        for side in (-1.0, 1.0):
            board.line(
                ((side * wide * 0.8, 1.42), (side * (wide + 0.1), 1.2), (side * 0.29, 1.05)),
                0.1,
                brighten(person.top, 0.85),
            )
        board.polygon(((-wide * 0.7, 0.92), (wide * 0.7, 0.92), (wide, 1.42), (-wide, 1.42)), person.top)
        if person.bag is not None and person.view == "back":
            board.rectangle(-wide * 0.7, 1.02, wide * 0.7, 1.38, person.bag)
    board.line(((-0.3, 1.05), (0.3, 1.05)), 0.045, (54, 56, 60))
    if person is None:
        board.line(((-0.1, 0.96), (0.1, 0.96)), 0.08, (50, 40, 36))
        return
    front = person.view == "front"
    lamp: Colour = (255, 246, 214) if front else (255, 70, 60)
    board.disc(0, 0.84, 0.05, lamp, lamp=board.light.lamps)
    if board.light.lamps:
        board.glow(0, 0.84, 0.4, lamp)
    draw_head(rng, board, person, (0.0, 1.64), helmet=vary(rng, pick(rng, CLOTHES)) if rng.random() < 0.6 else None)
