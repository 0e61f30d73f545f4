"""The plan of a street: the place of the camera, the lanes and pavements, and the zones for objects."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from featcodec.scenes.canvas import Camera
from featcodec.scenes.colours import pick

FAR = 120.0
"""The ground is drawn up to this distance in metres."""


@dataclass(frozen=True)
class Zone:
    """A rectangle of ground, in metres, and its use.

    Attributes:
        left: left edge, in metres to the right of the camera.
        right: right edge, measured in the same way.
        near: near edge, in metres away from the camera.
        far: far edge, measured in the same way.
        use: "drive", "park" or "walk".
        yaws: the directions that vehicles on it may have, in radians.
    """

    left: float
    right: float
    near: float
    far: float
    use: str
    yaws: tuple[float, ...] = ()


@dataclass(frozen=True)
class Wall:
    """The line of a row of houses, from one ground point to another: from left to right, seen from the street."""

    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True)
class Street:
    """The plan of a street.

    Attributes:
        kind: "avenue" (runs away from the camera), "crossing" (runs across) or "square".
        camera: the camera that sees the street.
        zones: the zones of the ground.
        walls: the lines of the houses.
    """

    kind: str
    camera: Camera
    zones: tuple[Zone, ...]
    walls: tuple[Wall, ...]

    def near(self) -> float:
        """Return the distance in metres to the ground at the lower edge of a 512 pixel image."""
        return self.camera.depth_of_row(512)


def draw_street(rng: np.random.Generator) -> Street:
    """Draw a random plan for one scene."""
    kind = pick(rng, ("avenue", "avenue", "avenue", "crossing", "crossing", "square", "square"))
    camera = Camera(
        focal=rng.uniform(430, 640),
        centre=256 + rng.uniform(-90, 90),
        horizon=rng.uniform(140, 235),
        height=rng.uniform(2.3, 4.6),
    )
    if kind == "avenue":
        return _avenue(rng, camera)
    if kind == "crossing":
        return _crossing(rng, camera)
    return _square(rng, camera)


def _avenue(rng: np.random.Generator, camera: Camera) -> Street:
    middle, half = rng.uniform(-3.0, 3.0), rng.uniform(3.4, 6.6)
    walk = rng.uniform(2.4, 4.8)
    left, right = middle - half, middle + half
    zones = [
        Zone(left + 0.4, middle - 0.3, 0, FAR, "drive", (math.pi,)),
        Zone(middle + 0.3, right - 0.4, 0, FAR, "drive", (0.0,)),
        Zone(left - walk, left - 0.3, 0, FAR, "walk"),
        Zone(right + 0.3, right + walk, 0, FAR, "walk"),
    ]
    if half > 5:
        zones += [
            Zone(left + 0.2, left + 2.2, 0, FAR, "park", (math.pi,)),
            Zone(right - 2.2, right - 0.2, 0, FAR, "park", (0.0,)),
        ]
    walls = (
        Wall((left - walk, camera.depth_of_row(640)), (left - walk, FAR)),
        Wall((right + walk, FAR), (right + walk, camera.depth_of_row(640))),
    )
    return Street("avenue", camera, tuple(zones), walls)


def _crossing(rng: np.random.Generator, camera: Camera) -> Street:
    first = camera.depth_of_row(512) + rng.uniform(2.5, 7.0)
    wide, walk = rng.uniform(6.0, 9.0), rng.uniform(2.5, 5.0)
    last = first + wide
    zones = (
        Zone(-40, 40, first + 0.4, first + wide / 2 - 0.3, "drive", (math.pi / 2,)),
        Zone(-40, 40, first + wide / 2 + 0.3, last - 0.4, "drive", (-math.pi / 2,)),
        Zone(-40, 40, last + 0.3, last + walk, "walk"),
        Zone(-40, 40, 0, first - 0.3, "walk"),
        Zone(-40, 40, 0, first - 0.2, "park", (0.0, math.pi, math.pi)),
    )
    house = last + walk
    return Street("crossing", camera, zones, (Wall((-40, house), (40, house)),))


def _square(rng: np.random.Generator, camera: Camera) -> Street:
    back = rng.uniform(28, 60)
    turn = rng.uniform(-0.6, 0.6)
    zones = (
        Zone(-30, 30, 0, back - 3, "drive", (0.0, math.pi, math.pi / 2, -math.pi / 2, turn, turn + math.pi)),
        Zone(-30, 30, 0, back - 3, "park", (0.0, math.pi)),
        Zone(-30, 30, 0, back - 1, "walk"),
    )
    return Street("square", camera, zones, (Wall((-60, back), (60, back)),))
