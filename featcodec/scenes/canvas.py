"""Drawing tools in metres: a camera above a ground plane, supersampled layers, and surfaces to draw on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from featcodec.scenes.colours import Colour
from featcodec.scenes.light import Light

Point = tuple[float, float]
Vector = tuple[float, float, float]
"""A point in metres: to the right of the camera, above the ground, away from the camera."""

_BEYOND = 1200.0
"""Layers end this many pixels from the upper left corner of the image. What is there lies outside of every image."""

_CIRCLE = tuple((math.cos(2 * math.pi * i / 28), math.sin(2 * math.pi * i / 28)) for i in range(28))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the ground.

    Attributes:
        focal: focal length in pixels.
        centre: column of the vanishing point of lines that run straight ahead, in pixels.
        horizon: row of the horizon, in pixels.
        height: height above the ground, in metres.
        nearest: points nearer than this many metres are drawn as if they were this far away. Lines that run straight
            ahead stay where they are, so things that the camera passes can be drawn. 0: all points are farther.
    """

    focal: float
    centre: float
    horizon: float
    height: float
    nearest: float = 0.0

    def project(self, x: float, y: float, z: float) -> Point:
        """Return column and row of a point, in pixels of the image."""
        scale = self.scale(z)
        return self.centre + x * scale, self.horizon + (self.height - y) * scale

    def scale(self, z: float) -> float:
        """Return the pixels per metre at distance z."""
        return self.focal / (max(z, self.nearest) if self.nearest else z)

    def depth_of_row(self, row: float) -> float:
        """Return the distance in metres of the ground that a row below the horizon shows."""
        return self.focal * self.height / (row - self.horizon)


@dataclass(frozen=True)
class Detail:
    """A private detail on a layer.

    Attributes:
        kind: "plate", "face" or "poster".
        box: left, top, right, bottom in pixels of the image.
        text: the text on it, or None.
        readable: whether it is large and straight enough to be read or recognised.
    """

    kind: str
    box: tuple[float, float, float, float]
    text: str | None
    readable: bool


@dataclass(frozen=True)
class Glow:
    """The halo of a lamp: centre and radius in pixels of the image, and colour."""

    x: float
    y: float
    radius: float
    colour: Colour


@dataclass
class Layer:
    """A supersampled picture of a part of the image.

    Attributes:
        left: column of its left edge in the image.
        top: row of its upper edge in the image.
        factor: samples per pixel, along each axis.
        image: "RGBA" for a sprite, "RGB" for the background.
        details: private details drawn on it.
        glows: halos to add when everything is drawn.
    """

    left: int
    top: int
    factor: int
    image: Image.Image
    details: list[Detail] = field(default_factory=list)
    glows: list[Glow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)

    def samples(self, points: Iterable[Point]) -> list[Point]:
        """Convert pixels of the image to samples of the layer."""
        return [((x - self.left) * self.factor, (y - self.top) * self.factor) for x, y in points]

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """Draw a filled polygon. Points are in pixels of the image."""
        self.draw.polygon(self.samples(points), fill=colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line with round ends. Points and width are in pixels of the image."""
        path = self.samples(points)
        wide = max(1.0, width * self.factor)
        self.draw.line(path, fill=colour, width=round(wide), joint="curve")
        if wide > 3:
            for x, y in (path[0], path[-1]):
                self.draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2 - 1, y + wide / 2 - 1), fill=colour)

    def warp(self, texture: Image.Image, corners: Sequence[Point]) -> None:
        """Draw a picture on a quadrilateral.

        The corners are upper left, upper right, lower right, lower left, in pixels of the image.
        """
        target = self.samples(corners)
        left, top = (math.floor(min(p[axis] for p in target)) for axis in (0, 1))
        right, bottom = (math.ceil(max(p[axis] for p in target)) for axis in (0, 1))
        size = right - left, bottom - top
        if min(size) < 2 or max(size) > 4 * max(self.image.size):
            return
        shifted = [(x - left, y - top) for x, y in target]
        coefficients = _homography(shifted, texture.size)
        if coefficients is None:
            return
        opaque = texture.convert("RGBA")
        warped = opaque.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
        self.image.paste(warped, (left, top), warped)

    def reduce(self) -> npt.NDArray[np.uint8]:
        """Return the layer at the resolution of the image: (height, width, 4 or 3) uint8."""
        return np.asarray(self.image.reduce(self.factor))


def sprite_layer(corners: Iterable[Point], scale: float, margin: float = 3.0) -> Layer:
    """Make an empty layer that holds these points. With few pixels per metre (`scale`) the layer has more samples."""
    points = [(min(max(x, -_BEYOND), _BEYOND), min(max(y, -_BEYOND), _BEYOND)) for x, y in corners]
    factor = 2 if scale > 34 else 3 if scale > 18 else 4
    left = math.floor(min(x for x, _ in points) - margin)
    top = math.floor(min(y for _, y in points) - margin)
    width = math.ceil(max(x for x, _ in points) + margin) - left
    height = math.ceil(max(y for _, y in points) + margin) - top
    return Layer(left, top, factor, Image.new("RGBA", (width * factor, height * factor), (0, 0, 0, 0)))


@dataclass(frozen=True)
class Surface:
    """A flat piece of the world to draw on. It has its own two coordinates.

    Attributes:
        layer: the layer to draw on.
        camera: the camera that sees the surface.
        light: the light of the scene.
        depth: distance of the surface in metres, for haze and the width of lines.
        place: converts coordinates of the surface to metres of the world.
        shade: the light that falls on the surface, about 1.
        unit: the metres in one unit of a line's width.
    """

    layer: Layer
    camera: Camera
    light: Light
    depth: float
    place: Callable[[float, float], Vector]
    shade: float = 1.0
    unit: float = 1.0

    def point(self, u: float, v: float) -> Point:
        """Convert a point of the surface to pixels of the image."""
        return self.camera.project(*self.place(u, v))

    def points(self, outline: Iterable[Point]) -> list[Point]:
        """Convert points of the surface to pixels of the image."""
        return [self.camera.project(*self.place(u, v)) for u, v in outline]

    def colour(self, colour: Colour, lamp: bool = False, shade: float = 1.0) -> Colour:
        """Return how a colour looks on this surface."""
        return self.light.emit(colour, self.depth) if lamp else self.light.paint(colour, self.depth, self.shade * shade)

    def polygon(self, outline: Iterable[Point], colour: Colour, *, lamp: bool = False, shade: float = 1.0) -> None:
        """Draw a filled polygon."""
        self.layer.polygon(self.points(outline), self.colour(colour, lamp, shade))

    def rectangle(
        self, left: float, bottom: float, right: float, top: float, colour: Colour, *, lamp: bool = False
    ) -> None:
        """Draw a filled rectangle."""
        self.polygon(((left, bottom), (right, bottom), (right, top), (left, top)), colour, lamp=lamp)

    def disc(
        self, u: float, v: float, radius: float, colour: Colour, *, high: float | None = None, lamp: bool = False
    ) -> None:
        """Draw a filled ellipse with the half width `radius` and the half height `high`."""
        tall = radius if high is None else high
        self.polygon(((u + radius * c, v + tall * s) for c, s in _CIRCLE), colour, lamp=lamp)

    def line(self, outline: Sequence[Point], width: float, colour: Colour, *, shade: float = 1.0) -> None:
        """Draw a line with round ends, `width` units wide."""
        wide = width * self.unit * self.camera.scale(self.depth)
        self.layer.line(self.points(outline), wide, self.colour(colour, shade=shade))

    def picture(
        self, texture: Image.Image, left: float, bottom: float, right: float, top: float, *, shade: float = 1.0
    ) -> list[Point]:
        """Draw a picture on a rectangle, in the light. Returns the corners in pixels, clockwise from the upper left."""
        corners = self.points(((left, top), (right, top), (right, bottom), (left, bottom)))
        white, black = self.colour((255, 255, 255), shade=shade), self.colour((0, 0, 0))
        table = [int(low + (high - low) * i / 255) for low, high in zip(black, white, strict=True) for i in range(256)]
        self.layer.warp(texture.convert("RGB").point(table), corners)
        return corners

    def glow(self, u: float, v: float, radius: float, colour: Colour) -> None:
        """Add the halo of a lamp. The radius is in metres."""
        x, y = self.point(u, v)
        self.layer.glows.append(Glow(x, y, radius * self.camera.scale(self.depth), colour))


def upright(
    layer: Layer, camera: Camera, light: Light, x: float, z: float, *, mirror: bool = False, squash: float = 1.0
) -> Surface:
    """Make a surface that faces the camera. Its axes are metres to the right of and above the ground point (x, z)."""
    across = -squash if mirror else squash
    return Surface(layer, camera, light, z, lambda u, v: (x + u * across, v, z))


def quadrilateral(
    layer: Layer, camera: Camera, light: Light, corners: Sequence[Vector], shade: float = 1.0
) -> Surface | None:
    """Make a face of a solid with coordinates 0 .. 1. Returns None if only the back of the face is visible.

    Args:
        layer: the layer to draw on.
        camera: the camera that sees the face.
        light: the light of the scene.
        corners: lower left, lower right, upper right, upper left, seen from outside.
        shade: the light that falls on the face, about 1.
    """
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2), (x3, y3, z3) = corners
    ax, ay, az = x1 - x0, y1 - y0, z1 - z0
    ux, uy, uz = x3 - x0, y3 - y0, z3 - z0
    towards = (ay * uz - az * uy) * x0 + (az * ux - ax * uz) * (y0 - camera.height) + (ax * uy - ay * ux) * z0
    if towards <= 0:
        return None
    tx, ty, tz = x2 - x1 - ux, y2 - y1 - uy, z2 - z1 - uz

    def place(u: float, v: float) -> Vector:
        uv = u * v
        return x0 + ax * u + ux * v + tx * uv, y0 + ay * u + uy * v + ty * uv, z0 + az * u + uz * v + tz * uv

    depth = float(sum(corner[2] for corner in corners)) / 4
    return Surface(layer, camera, light, depth, place, shade)


def _homography(corners: Sequence[Point], size: tuple[int, int]) -> tuple[float, ...] | None:
    """Return Pillow's coefficients of the map from a quadrilateral to a whole picture."""
    width, height = size
    sources = ((0, 0), (width, 0), (width, height), (0, height))
    rows: list[list[float]] = []
    values: list[float] = []
    for (x, y), (u, v) in zip(corners, sources, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    try:
        return tuple(np.linalg.solve(np.array(rows, np.float64), np.array(values, np.float64)).tolist())
    except np.linalg.LinAlgError:
        return None
