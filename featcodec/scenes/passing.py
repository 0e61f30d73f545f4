"""What a drive passes: vehicles, people, signs and clutter, and where each is at a moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from featcodec.scenes.bicycles import draw_bicycle
from featcodec.scenes.buses import bus_shape, draw_bus
from featcodec.scenes.canvas import Camera, Layer
from featcodec.scenes.cars import car_shape, draw_car
from featcodec.scenes.clutter import THINGS, draw_thing
from featcodec.scenes.colours import pick
from featcodec.scenes.light import Light
from featcodec.scenes.people import draw_person, draw_person_look
from featcodec.scenes.placement import Footprint
from featcodec.scenes.signs import draw_pole, draw_sign, draw_traffic_light
from featcodec.scenes.solids import Frame
from featcodec.scenes.trucks import draw_truck, truck_shape

Place = tuple[float, float]
Draw = Callable[[np.random.Generator, Camera, Light, Place, float], list[Layer]]
"""Draws a thing at a place (metres to the right of the camera, metres ahead) and a time (seconds)."""

_BEHIND = -14.0
"""Metres ahead of the camera where the longest vehicle is out of sight."""

_KERB_THINGS = ("tree", "tree", "lamp", "lamp", "bin", "bollard", "hydrant", "cabinet", "post box")
_HOUSE_THINGS = ("planter", "bench", "hoarding", "shop sign", "bush", "kiosk")


@dataclass(frozen=True)
class Passing:
    """A thing and its course. It comes nearer at a constant speed, and again in each loop.

    Attributes:
        number: it seeds how the thing looks.
        x: metres to the right of the camera.
        first: metres ahead of the camera at the start.
        speed: metres per second by which it comes nearer; 0 for what drives ahead of the camera.
        loop: seconds after which it is where it was.
        sway: metres by which it comes nearer and goes farther, once a loop, in addition.
        half_x: half its width on the ground, in metres.
        half_z: half its length on the ground, in metres.
        height: in metres.
        draw: draws it.
    """

    number: int
    x: float
    first: float
    speed: float
    loop: float
    sway: float
    half_x: float
    half_z: float
    height: float
    draw: Draw

    def distance(self, seconds: float) -> float:
        """Return how many metres ahead of the camera its middle is; behind the camera it is negative."""
        at = self.first - self.speed * seconds
        if self.speed:
            at = _BEHIND + (at - _BEHIND) % (self.speed * self.loop)
        return at + self.sway * math.sin(2 * math.pi * seconds / self.loop)

    def footprint(self, z: float) -> Footprint:
        """Return the ground below it when it is `z` metres ahead."""
        return Footprint(self.x, z, self.half_x, self.half_z, self.height)

    def layers(self, seed: int, seconds: float, camera: Camera, light: Light, z: float) -> list[Layer]:
        """Draw it when it is `z` metres ahead. It looks the same in each picture of a seed."""
        return self.draw(np.random.default_rng((seed, 3, self.number)), camera, light, (self.x, z), seconds)


@dataclass
class _Plan:
    """Things while they are planned."""

    rng: np.random.Generator
    loop: float
    speed: float
    count: int = 0

    def row(
        self, count: int, ahead: float, make: Callable[[], tuple[float, float, float, float, Draw]]
    ) -> Iterator[Passing]:
        """Things of one lane, about evenly spread over what passes in one loop.

        Args:
            count: how many things pass in one loop.
            ahead: metres per second at which they move away from the start of the street.
            make: chooses x, half_x, half_z, height and the drawing of one thing.
        """
        speed = self.speed - ahead
        span = speed * self.loop / count
        for index in range(count):
            first = (index + self.rng.uniform(0, 0.35)) * span
            yield self._passing(first, speed, 0.0, make())

    def ahead(self, z: float, sway: float, thing: tuple[float, float, float, float, Draw]) -> Passing:
        """A thing that drives ahead of the camera for the whole loop."""
        return self._passing(z, 0.0, sway, thing)

    def _passing(
        self, first: float, speed: float, sway: float, thing: tuple[float, float, float, float, Draw]
    ) -> Passing:
        self.count += 1
        x, half_x, half_z, height, draw = thing
        return Passing(self.count, x, first, speed, self.loop, sway, half_x, half_z, height, draw)


def things_on_the_way(
    rng: np.random.Generator, loop: float, speed: float, street: tuple[float, float, float, float]
) -> Iterator[Passing]:
    """Choose the things of a street.

    Args:
        rng: random generator.
        loop: seconds of a loop.
        speed: metres per second of the camera.
        street: the left kerb, the middle line and the right kerb in metres to the right of the camera, and the width of
            the pavements.
    """
    plan = _Plan(rng, loop, speed)
    left, middle, right, walk = street
    share = loop / 20  # a longer loop passes more things
    yield plan.ahead(19, 5.0, _vehicle(rng, "car", 0.1, 0.0))
    yield plan.ahead(44, -6.0, _vehicle(rng, pick(rng, ("bus", "truck")), -0.1, 0.0))
    oncoming = ("car", "car", "truck", "car", "bus")
    lane = (left + 2.2 + middle) / 2
    yield from plan.row(round(7 * share), -speed, lambda: _vehicle(rng, pick(rng, oncoming), lane, math.pi))
    yield from plan.row(round(9 * share), 0, lambda: _vehicle(rng, "car", right - 1.05, 0.0))
    yield from plan.row(round(8 * share), 0, lambda: _vehicle(rng, "car", left + 1.05, math.pi))
    yield from plan.row(round(2 * share), 4.0, lambda: _bicycle(right - 2.75, "back"))
    yield from plan.row(round(2 * share), -4.5, lambda: _bicycle(left + 2.85, "front"))
    for outer, inner in ((right + walk, right), (left - walk, left)):
        side = 1.0 if inner == right else -1.0
        yield from plan.row(round(7 * share), 0, partial(_thing, rng, inner + side * 0.5, _KERB_THINGS))
        yield from plan.row(round(4 * share), 0, partial(_thing, rng, outer - side * 0.7, _HOUSE_THINGS))
        yield from plan.row(round(5 * share), 0, partial(_sign, inner + side * 0.35))
        yield from plan.row(round(2 * share), 0, partial(_traffic_light, inner + side * 0.4))
        yield from plan.row(round(6 * share), 1.2, partial(_person, rng, inner + side * 1.3, "back"))
        yield from plan.row(round(6 * share), -1.2, partial(_person, rng, inner + side * 2.1, "front"))


def _vehicle(rng: np.random.Generator, kind: str, x: float, yaw: float) -> tuple[float, float, float, float, Draw]:
    # The shape is drawn again from its own seed for each picture.
    seed = int(rng.integers(2**31))
    own = np.random.default_rng(seed)
    shape = car_shape(own) if kind == "car" else truck_shape(own) if kind == "truck" else bus_shape(own)

    def draw(_: np.random.Generator, camera: Camera, light: Light, place: Place, __: float) -> list[Layer]:
        again, frame = np.random.default_rng(seed), Frame(*place, yaw)
        if kind == "car":
            return [draw_car(again, camera, light, frame, car_shape(again))]
        if kind == "truck":
            return [draw_truck(again, camera, light, frame, truck_shape(again))]
        return [draw_bus(again, camera, light, frame, bus_shape(again))]

    return x, shape.width / 2, shape.length / 2, shape.height, draw


def _bicycle(x: float, view: str) -> tuple[float, float, float, float, Draw]:
    def draw(own: np.random.Generator, camera: Camera, light: Light, place: Place, _: float) -> list[Layer]:
        return [draw_bicycle(own, camera, light, place, ridden=True, along=True, view=view)]

    return x, 0.3, 0.2, 1.6, draw


def _person(rng: np.random.Generator, x: float, view: str) -> tuple[float, float, float, float, Draw]:
    pace = float(rng.uniform(0.75, 1.0))

    def draw(own: np.random.Generator, camera: Camera, light: Light, place: Place, seconds: float) -> list[Layer]:
        look = replace(draw_person_look(own, view), stride=0.3 * math.sin(2 * math.pi * pace * seconds))
        return [draw_person(own, camera, light, place, look)]

    return x + float(rng.uniform(-0.3, 0.3)), 0.28, 0.2, 1.75, draw


def _thing(rng: np.random.Generator, x: float, kinds: tuple[str, ...]) -> tuple[float, float, float, float, Draw]:
    kind = pick(rng, kinds)
    thing = THINGS[kind]

    def draw(own: np.random.Generator, camera: Camera, light: Light, place: Place, _: float) -> list[Layer]:
        return [draw_thing(own, camera, light, place, kind)]

    return x, thing.base, min(thing.base, 0.4), thing.height, draw


def _sign(x: float) -> tuple[float, float, float, float, Draw]:
    def draw(own: np.random.Generator, camera: Camera, light: Light, place: Place, _: float) -> list[Layer]:
        height, radius = own.uniform(1.9, 2.6), own.uniform(0.36, 0.52)
        front = place[0], place[1] - 0.05
        return [draw_pole(camera, light, place, height), draw_sign(own, camera, light, front, height, radius)]

    return x, 0.12, 0.12, 2.2, draw


def _traffic_light(x: float) -> tuple[float, float, float, float, Draw]:
    def draw(own: np.random.Generator, camera: Camera, light: Light, place: Place, _: float) -> list[Layer]:
        height, tall = own.uniform(2.3, 3.1), own.uniform(1.0, 1.35)
        front = place[0], place[1] - 0.05
        return [draw_pole(camera, light, place, height), draw_traffic_light(own, camera, light, front, height, tall)]

    return x, 0.12, 0.12, 2.6, draw
