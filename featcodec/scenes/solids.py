"""Boxes and prisms that stand on the ground and can turn about their vertical axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from featcodec.scenes.canvas import Camera, Layer, Point, Surface, Vector, quadrilateral, sprite_layer
from featcodec.scenes.colours import Colour
from featcodec.scenes.light import Light

Place = tuple[float, float, float]
"""A point in the axes of a solid, in metres: forward, to the right, above the ground."""

Rib = tuple[float, float, float]
"""A point of the profile of a prism, in metres: forward, above the ground, and half the width there."""

_ROOF_SHADE = 1.14


@dataclass(frozen=True)
class Frame:
    """The place and the direction of a solid.

    Attributes:
        x: metres from the camera to the middle of the solid, to the right.
        z: metres from the camera to the middle of the solid, away from the camera.
        yaw: direction in radians: 0 is away from the camera, pi / 2 is to the right.
    """

    x: float
    z: float
    yaw: float

    def world(self, place: Place) -> Vector:
        """Convert a point of the solid to a point of the world."""
        forward, right, high = place
        sine, cosine = math.sin(self.yaw), math.cos(self.yaw)
        return self.x + forward * sine + right * cosine, high, self.z + forward * cosine - right * sine


@dataclass(frozen=True)
class Solid:
    """A solid while it is drawn: its place, the camera and the light, and the layer to draw on."""

    layer: Layer
    camera: Camera
    light: Light
    frame: Frame

    def face(self, corners: Sequence[Place]) -> Surface | None:
        """Return a face in coordinates 0 .. 1.

        The corners are lower left, lower right, upper right, upper left, seen from outside.
        """
        world = [self.frame.world(corner) for corner in corners]
        return quadrilateral(self.layer, self.camera, self.light, world, self._shade(world))

    def side(self, right: bool, length: float, base: tuple[float, float], top: tuple[float, float]) -> Surface | None:
        """Return one side with coordinates in metres forward and above the ground, or None if the side is not visible.

        Args:
            right: True for the right side, False for the left side.
            length: length of the solid.
            base: height of the lower edge, and half the width there.
            top: height of the upper edge, and half the width there.
        """
        sign = 1.0 if right else -1.0
        end = sign * length / 2
        face = self.face(
            ((-end, sign * base[1], base[0]), (end, sign * base[1], base[0]),
             (end, sign * top[1], top[0]), (-end, sign * top[1], top[0]))
        )  # fmt: skip
        if face is None:
            return None
        slope = (top[1] - base[1]) / (top[0] - base[0])

        def place(forward: float, high: float) -> Vector:
            return self.frame.world((forward, sign * (base[1] + slope * (high - base[0])), high))

        return Surface(self.layer, self.camera, self.light, face.depth, place, face.shade)

    def prism(self, ribs: Sequence[Rib], colour: Colour) -> list[Surface | None]:
        """Draw a prism from its profile. The profile goes from the rear bottom over the top to the front bottom.

        Returns:
            the surface of each edge, or None for an edge that is not visible.
        """
        for sign in (1.0, -1.0):
            corners = [self.frame.world((forward, sign * half, high)) for forward, high, half in ribs]
            surface = self._outline_side(corners, sign)
            if surface is not None:
                self.layer.polygon((self.camera.project(*corner) for corner in corners), surface.colour(colour))
        surfaces = [self._edge(first, second) for first, second in pairwise(ribs)]
        for surface in surfaces:
            if surface is not None:
                surface.rectangle(0, 0, 1, 1, colour)
        return surfaces

    def box(self, rear: float, front: float, half: float, bottom: float, top: float, colour: Colour) -> None:
        """Draw a box."""
        self.prism(((rear, bottom, half), (rear, top, half), (front, top, half), (front, bottom, half)), colour)

    def block(self, rear: float, front: float, left: float, right: float, top: float, colour: Colour) -> None:
        """Draw a box on the ground that does not have to be in the middle."""
        for corners in (
            ((rear, left, 0), (rear, right, 0), (rear, right, top), (rear, left, top)),
            ((front, right, 0), (front, left, 0), (front, left, top), (front, right, top)),
            ((rear, right, 0), (front, right, 0), (front, right, top), (rear, right, top)),
            ((front, left, 0), (rear, left, 0), (rear, left, top), (front, left, top)),
        ):
            surface = self.face(corners)
            if surface is not None:
                surface.rectangle(0, 0, 1, 1, colour)

    def _outline_side(self, corners: Sequence[Vector], sign: float) -> Surface | None:
        """Return the surface of a side of the profile in the world, or None if it is not visible."""
        rear, front = corners[0], corners[-1]
        first, second = (rear, front) if sign > 0 else (front, rear)
        high = max(corner[1] for corner in corners)
        raised = [(second[0], high, second[2]), (first[0], high, first[2])]
        world = [first, second, *raised]
        return quadrilateral(self.layer, self.camera, self.light, world, self._shade(world))

    def _edge(self, first: Rib, second: Rib) -> Surface | None:
        (u0, y0, h0), (u1, y1, h1) = first, second
        if y1 >= y0:
            return self.face(((u0, -h0, y0), (u0, h0, y0), (u1, h1, y1), (u1, -h1, y1)))
        return self.face(((u1, h1, y1), (u1, -h1, y1), (u0, -h0, y0), (u0, h0, y0)))

    def _shade(self, world: Sequence[Vector]) -> float:
        (ax, ay, az), (bx, _, bz), (_, _, _), (dx, dy, dz) = world
        # The outward normal of a face whose lower edge is level.
        across, up = (bx - ax, bz - az), (dx - ax, dy - ay, dz - az)
        x, z = across[1] * up[1], -across[0] * up[1]
        y = across[0] * up[2] - across[1] * up[0]
        size = math.sqrt(x * x + y * y + z * z) or 1.0
        level = (x * self.light.sun * 0.9 + z * 0.35) / size
        return 0.92 + 0.2 * level + (_ROOF_SHADE - 0.92) * abs(y) / size


def open_solid(
    camera: Camera, light: Light, frame: Frame, length: float, width: float, height: float, margin: float = 3.0
) -> Solid:
    """Make an empty layer that has room for a box of this size, and the solid to draw on it. `margin` is in pixels."""
    corners = outline(camera, frame, length, width, height)
    near = min(z for _, _, z in (frame.world((u, w, 0)) for u in (-length / 2, length / 2) for w in (0.0,)))
    return Solid(sprite_layer(corners, camera.scale(near), margin), camera, light, frame)


def outline(camera: Camera, frame: Frame, length: float, width: float, height: float) -> list[Point]:
    """Return the corners of a box in pixels of the image."""
    return [
        camera.project(*frame.world((forward, right, high)))
        for forward in (-length / 2, length / 2)
        for right in (-width / 2, width / 2)
        for high in (0.0, height)
    ]
