"""Traffic signs and traffic lights. The plate or the housing is the object. Its pole is clutter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from featcodec.scenes.canvas import Camera, Layer, Point, Surface, sprite_layer, upright
from featcodec.scenes.colours import BLACK, METAL, WHITE, Colour, brighten, pick
from featcodec.scenes.light import Light
from featcodec.scenes.private import lettering

_RED: Colour = (196, 36, 40)
_BLUE: Colour = (32, 82, 160)
_YELLOW: Colour = (244, 196, 40)


def draw_pole(camera: Camera, light: Light, place: tuple[float, float], height: float) -> Layer:
    """Draw the pole of a sign or a traffic light."""
    x, z = place
    layer = sprite_layer((camera.project(x - 0.1, 0, z), camera.project(x + 0.1, height, z)), camera.scale(z))
    board = upright(layer, camera, light, x, z)
    board.rectangle(-0.045, 0, 0.045, height, METAL)
    board.rectangle(-0.045, 0, -0.01, height, brighten(METAL, 1.25))
    return layer


def draw_sign(
    rng: np.random.Generator, camera: Camera, light: Light, place: tuple[float, float], height: float, radius: float
) -> Layer:
    """Draw the plate of a sign. The middle is `height` metres above the ground; the radius is `radius` metres."""
    x, z = place
    layer = sprite_layer(
        (
            camera.project(x - radius * 1.25, height - radius * 1.25, z),
            camera.project(x + radius * 1.25, height + radius * 1.25, z),
        ),
        camera.scale(z),
    )
    ground = upright(layer, camera, light, x, z, squash=radius * rng.uniform(0.72, 1.0))
    lean = rng.uniform(-0.08, 0.08)
    board = Surface(layer, camera, light, z, lambda u, v: ground.place(u + lean * v, height + radius * v), unit=radius)
    _SIGNS[pick(rng, tuple(_SIGNS))](rng, board)
    return layer


def draw_traffic_light(
    rng: np.random.Generator, camera: Camera, light: Light, place: tuple[float, float], height: float, tall: float
) -> Layer:
    """Draw the housing of a traffic light, `tall` metres high. The middle is `height` metres above the ground."""
    x, z = place
    half = tall / 2
    layer = sprite_layer(
        (camera.project(x - half, height - half * 1.1, z), camera.project(x + half, height + half * 1.1, z)),
        camera.scale(z),
    )
    ground = upright(layer, camera, light, x, z, squash=half * rng.uniform(0.85, 1.0))
    board = Surface(layer, camera, light, z, lambda u, v: ground.place(u, height + half * v), unit=half)
    if rng.random() < 0.5:
        board.rectangle(-0.56, -1.06, 0.56, 1.06, WHITE)
    board.rectangle(-0.42, -1.0, 0.42, 1.0, pick(rng, ((30, 32, 34), (44, 58, 50), (52, 54, 60))))
    lit = int(rng.integers(3))
    for index, colour in enumerate(((255, 58, 48), (255, 186, 44), (64, 226, 120))):
        v = 0.64 - 0.64 * index
        board.disc(0, v, 0.27, BLACK)
        if index == lit:
            board.disc(0, v, 0.25, colour, lamp=True)
            board.disc(-0.04, v + 0.05, 0.1, brighten(colour, 1.35), lamp=True)
            board.glow(0, v, 0.55 if light.lamps else 0.3, colour)
        else:
            board.disc(0, v, 0.23, brighten(colour, 0.26))
    return layer


def _regular(corners: int, turn: float, size: float = 1.0) -> list[Point]:
    angles = [2 * math.pi * (i + turn) / corners for i in range(corners)]
    return [(size * math.sin(angle), size * math.cos(angle)) for angle in angles]


def _stop(_: np.random.Generator, board: Surface) -> None:
    board.polygon(_regular(8, 0.5, 1.05), WHITE)
    board.polygon(_regular(8, 0.5, 0.97), _RED)
    board.picture(lettering("STOP", WHITE, _RED, 160, 66), -0.76, -0.32, 0.76, 0.32)


def _yield(_: np.random.Generator, board: Surface) -> None:
    for size, colour in ((1.15, _RED), (0.72, WHITE)):
        board.polygon([(x, -y) for x, y in _regular(3, 0.0, size)], colour)


def _limit(rng: np.random.Generator, board: Surface) -> None:
    board.disc(0, 0, 1.0, _RED)
    board.disc(0, 0, 0.78, WHITE)
    speed = pick(rng, ("20", "30", "50", "60", "80"))
    board.picture(lettering(speed, BLACK, WHITE, 110, 80), -0.55, -0.42, 0.55, 0.42)


def _no_entry(_: np.random.Generator, board: Surface) -> None:
    board.disc(0, 0, 1.0, WHITE)
    board.disc(0, 0, 0.95, _RED)
    board.rectangle(-0.66, -0.17, 0.66, 0.17, WHITE)


def _warning(rng: np.random.Generator, board: Surface) -> None:
    for size, colour in ((1.15, _RED), (0.78, pick(rng, (WHITE, _YELLOW)))):
        board.polygon(_regular(3, 0.0, size), colour)
    kind = int(rng.integers(3))
    if kind == 0:
        board.line(((0, 0.32), (0, -0.06)), 0.12, BLACK)
        board.disc(0, -0.25, 0.07, BLACK)
    elif kind == 1:
        board.line(((-0.1, -0.28), (0.12, -0.02), (-0.06, 0.16), (0.08, 0.4)), 0.1, BLACK)
    else:
        board.disc(0, 0.22, 0.09, BLACK)
        board.line(((0, 0.1), (0, -0.1), (0.16, -0.32)), 0.1, BLACK)
        board.line(((0, -0.1), (-0.14, -0.32)), 0.1, BLACK)


def _parking(_: np.random.Generator, board: Surface) -> None:
    board.rectangle(-0.88, -0.88, 0.88, 0.88, WHITE)
    board.rectangle(-0.8, -0.8, 0.8, 0.8, _BLUE)
    board.picture(lettering("P", WHITE, _BLUE, 90, 100), -0.5, -0.62, 0.5, 0.62)


def _crossing(_: np.random.Generator, board: Surface) -> None:
    board.rectangle(-0.88, -0.88, 0.88, 0.88, _BLUE)
    board.polygon(((0, 0.72), (-0.7, -0.66), (0.7, -0.66)), WHITE)
    board.disc(0.02, 0.3, 0.11, BLACK)
    board.line(((0, 0.16), (0, -0.14), (0.2, -0.52)), 0.13, BLACK)
    board.line(((0, -0.14), (-0.22, -0.5)), 0.13, BLACK)


def _priority(_: np.random.Generator, board: Surface) -> None:
    for size, colour in ((1.1, BLACK), (1.05, WHITE), (0.74, _YELLOW)):
        board.polygon(_regular(4, 0.0, size), colour)


def _ahead(rng: np.random.Generator, board: Surface) -> None:
    board.disc(0, 0, 1.0, WHITE)
    board.disc(0, 0, 0.93, _BLUE)
    turn = pick(rng, (0.0, math.pi / 2, -math.pi / 2))
    cosine, sine = math.cos(turn), math.sin(turn)
    arrow = ((0.14, -0.62), (0.14, 0.1), (0.42, 0.1), (0, 0.66), (-0.42, 0.1), (-0.14, 0.1), (-0.14, -0.62))
    board.polygon([(x * cosine + y * sine, y * cosine - x * sine) for x, y in arrow], WHITE)


def _no_parking(_: np.random.Generator, board: Surface) -> None:
    board.disc(0, 0, 1.0, _RED)
    board.disc(0, 0, 0.8, _BLUE)
    board.line(((-0.55, 0.55), (0.55, -0.55)), 0.17, _RED)


_SIGNS: Mapping[str, Callable[[np.random.Generator, Surface], None]] = {
    "stop": _stop,
    "yield": _yield,
    "limit": _limit,
    "no entry": _no_entry,
    "warning": _warning,
    "parking": _parking,
    "crossing": _crossing,
    "priority": _priority,
    "ahead": _ahead,
    "no parking": _no_parking,
}
