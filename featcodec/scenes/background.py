"""The background of a scene: sky, houses, and the ground with its marks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec.scenes.buildings import draw_row
from featcodec.scenes.canvas import Camera, Layer, Point
from featcodec.scenes.colours import LEAVES, WHITE, Colour, brighten, mix, pick, vary
from featcodec.scenes.light import Light
from featcodec.scenes.street import FAR, Street
from featcodec.scenes.textures import clouds, ground_texture, part

_FACTOR = 2
_PAVING: tuple[Colour, ...] = ((176, 170, 160), (158, 158, 158), (190, 176, 154), (170, 160, 156))
_ASPHALT: tuple[Colour, ...] = ((104, 106, 110), (92, 94, 100), (118, 116, 114), (86, 86, 88))
_GROUND: tuple[Colour, ...] = ((112, 134, 78), (134, 138, 92), (166, 158, 140))


def draw_background(rng: np.random.Generator, street: Street, light: Light, size: int) -> npt.NDArray[np.float32]:
    """Draw sky, houses and ground.

    Returns:
        (size, size, 3) float32, 0 .. 255.
    """
    camera = street.camera
    sky = Image.fromarray(draw_sky(rng, light, camera, size).astype(np.uint8))
    layer = Layer(0, 0, _FACTOR, Image.new("RGB", (size * _FACTOR, size * _FACTOR)))
    layer.image.paste(sky.resize((sky.width * _FACTOR, sky.height * _FACTOR), Image.Resampling.NEAREST))
    painter = Ground(layer, camera, light)
    painter.area(-400, 400, 0, FAR * 40, vary(rng, pick(rng, _GROUND)))
    draw_skyline(rng, layer, camera, light)
    _DRAWN[street.kind](rng, painter, street)
    for wall in street.walls:
        draw_row(rng, layer, camera, light, wall)
    picture = layer.reduce().astype(np.float32)
    top = int(camera.horizon) + 1
    # Houses reach below the horizon, so their walls get the grain of the ground too. This does no harm.
    picture[top:] *= 1 + 0.16 * ground_texture(camera, rng, top, size)
    picture *= 1 + 0.05 * part(clouds(), rng, size, size)[..., None]
    return picture


def draw_sky(rng: np.random.Generator, light: Light, camera: Camera, size: int) -> npt.NDArray[np.float32]:
    """Draw the sky: (rows above the horizon, size, 3) float32."""
    rows = int(camera.horizon) + 2
    share = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    top, bottom = np.array(light.sky_top, np.float32), np.array(light.sky_bottom, np.float32)
    sky = top * (1 - share) + bottom * share + np.zeros((1, size, 1), np.float32)
    if light.weather != "fog":
        # Clouds are twice as wide as high, and denser near the horizon.
        heaps = np.roll(clouds(), int(rng.integers(512)), 0)[: 2 * rows : 2, : size // 2].repeat(2, 1)[..., None]
        cloud = np.clip(heaps * 3.2 + share - np.float32(rng.uniform(0.3, 1.3)), 0, 1)
        white = np.array(mix(light.sky_bottom, WHITE, 0.1 if light.lamps else 0.7), np.float32)
        sky += (white - sky) * cloud * (0.25 if light.lamps else 0.75)
    return sky


def draw_skyline(rng: np.random.Generator, layer: Layer, camera: Camera, light: Light) -> None:
    """Draw far houses and trees in the haze."""
    depth = 150.0
    scale = camera.scale(depth)
    row = camera.project(0, 0, depth)[1]
    column = -10.0
    while column < layer.image.width / layer.factor + 8:
        wide = rng.uniform(10, 46)
        if rng.random() < 0.6:
            high = rng.uniform(5, 24) * scale
            colour = light.paint((112, 116, 124), depth * rng.uniform(0.6, 1.5))
            layer.polygon(
                ((column, row), (column + wide, row), (column + wide, row - high), (column, row - high)), colour
            )
        else:
            colour = light.paint(vary(rng, pick(rng, LEAVES)), depth)
            radius, high = wide * 0.6, rng.uniform(3, 8) * scale
            outline = [
                (column + wide / 2 + radius * x, row - high * y)
                for x, y in ((-1, 0), (-0.8, 0.7), (-0.2, 1), (0.5, 0.9), (1, 0.4), (1, 0))
            ]
            layer.polygon(outline, colour)
        column += wide * 0.8


class Ground:
    """A painter of rectangles on the ground. They are cut at the lower edge of the image."""

    def __init__(self, layer: Layer, camera: Camera, light: Light) -> None:
        self._layer, self._camera, self._light = layer, camera, light
        self.nearest = camera.depth_of_row(530)

    def area(self, left: float, right: float, near: float, far: float, colour: Colour) -> None:
        """Draw a rectangle. A large one is cut into strips, and farther strips have more haze."""
        near = max(near, self.nearest)
        cuts = [
            near,
            *(z for z in (10.0, 14.0, 20.0, 28.0, 40.0, 60.0, 90.0) if near < z < far and far - near > 8),
            far,
        ]
        for start, end in pairwise(cuts):
            if end > start:
                corners: list[Point] = [
                    self._camera.project(x, 0, z) for x, z in ((left, start), (right, start), (right, end), (left, end))
                ]
                self._layer.polygon(corners, self._light.paint(colour, start * 0.6 + min(end, 150) * 0.4))

    def line(self, x0: float, z0: float, x1: float, z1: float, colour: Colour) -> None:
        """Draw a thin joint."""
        near = self.nearest
        if max(z0, z1) <= near:
            return
        ends = [self._camera.project(x0, 0, max(z0, near)), self._camera.project(x1, 0, max(z1, near))]
        self._layer.line(ends, 0.5, self._light.paint(colour, (max(z0, near) + min(z1, 60)) / 2))

    def paving(self, rng: np.random.Generator, left: float, right: float, near: float, far: float) -> None:
        """Draw slabs with joints, in a random colour of paving."""
        colour = vary(rng, pick(rng, _PAVING))
        self.area(left, right, near, far, colour)
        joint = brighten(colour, 0.84)
        pitch = rng.uniform(0.8, 1.6)
        for x in np.arange(left, right, pitch).tolist() if right - left < 30 else ():
            self.line(x, near, x, min(far, 50.0), joint)
        z = max(near, self.nearest)
        while z < min(far, 34.0):
            self.line(left, z, right, z, joint)
            z += pitch


def _avenue(rng: np.random.Generator, ground: Ground, street: Street) -> None:
    drives = [zone for zone in street.zones if zone.use == "drive"]
    walks = [zone for zone in street.zones if zone.use == "walk"]
    left, right = drives[0].left - 0.4, drives[1].right + 0.4
    middle = (drives[0].right + drives[1].left) / 2
    for walk in walks:
        ground.paving(rng, walk.left - 0.3, walk.right + 0.3, 0, FAR)
    asphalt = vary(rng, pick(rng, _ASPHALT))
    ground.area(left, right, 0, FAR, asphalt)
    _patches(rng, ground, (left, right, ground.nearest, 40.0), asphalt)
    for kerb in (left - 0.16, right):
        ground.area(kerb, kerb + 0.16, 0, FAR, (196, 194, 188))
    marks = mix(WHITE, asphalt, rng.uniform(0.05, 0.35))
    _dashes(rng, ground, middle, marks)
    if right - left > 10:
        for x in (left + 2.4, right - 2.4):
            ground.area(x - 0.06, x + 0.06, 0, FAR, marks)
    if rng.random() < 0.55:
        _zebra(rng, ground, left, right, rng.uniform(ground.nearest + 0.5, 24), marks)


def _dashes(rng: np.random.Generator, ground: Ground, x: float, marks: Colour) -> None:
    if rng.random() < 0.25:
        for edge in (x - 0.16, x + 0.06):
            ground.area(edge, edge + 0.1, 0, FAR, marks)
        return
    z = rng.uniform(0, 4)
    while z < 70:
        ground.area(x - 0.08, x + 0.08, z, z + 2.2, marks)
        z += 4.6


def _zebra(rng: np.random.Generator, ground: Ground, left: float, right: float, near: float, marks: Colour) -> None:
    deep = rng.uniform(2.6, 3.6)
    x = left + 0.3
    while x < right - 0.4:
        ground.area(x, x + 0.5, near, near + deep, marks)
        x += 1.0


def _patches(
    rng: np.random.Generator, ground: Ground, bounds: tuple[float, float, float, float], colour: Colour
) -> None:
    """Draw repairs, stains and manholes."""
    left, right, near, far = bounds
    for _ in range(int(rng.integers(2, 7))):
        x, z = rng.uniform(left, right - 1), rng.uniform(near, far)
        wide, deep = rng.uniform(0.5, 2.4), rng.uniform(0.5, 5.0)
        ground.area(x, min(x + wide, right), z, z + deep, brighten(colour, rng.uniform(0.84, 1.08)))


def _crossing(rng: np.random.Generator, ground: Ground, street: Street) -> None:
    drives = [zone for zone in street.zones if zone.use == "drive"]
    first, last = drives[0].near - 0.4, drives[1].far + 0.4
    house = max(zone.far for zone in street.zones if zone.use == "walk")
    ground.paving(rng, -60, 60, last, house)
    if rng.random() < 0.5:
        ground.paving(rng, -14, 14, 0, first)
    else:
        ground.area(-60, 60, 0, first, vary(rng, pick(rng, _ASPHALT)))
    asphalt = vary(rng, pick(rng, _ASPHALT))
    ground.area(-60, 60, first, last, asphalt)
    _patches(rng, ground, (-14, 14, first, last - 2), asphalt)
    marks = mix(WHITE, asphalt, rng.uniform(0.05, 0.35))
    for kerb in (first - 0.2, last):
        ground.area(-60, 60, kerb, kerb + 0.2, (196, 194, 188))
    x, middle = -40 + rng.uniform(0, 4), (first + last) / 2
    while x < 40:
        ground.area(x, x + 2.4, middle - 0.08, middle + 0.08, marks)
        x += 4.8
    if rng.random() < 0.5:
        start = rng.uniform(-8, 5)
        z = first + 0.3
        while z < last - 0.5:
            ground.area(start, start + 3.2, z, z + 0.5, marks)
            z += 1.0


def _square(rng: np.random.Generator, ground: Ground, street: Street) -> None:
    back = street.walls[0].start[1]
    if rng.random() < 0.5:
        ground.paving(rng, -14, 14, 0, back)
        ground.area(-60, -14, 0, back, vary(rng, pick(rng, _PAVING)))
        ground.area(14, 60, 0, back, vary(rng, pick(rng, _PAVING)))
        return
    asphalt = vary(rng, pick(rng, _ASPHALT))
    ground.area(-60, 60, 0, back, asphalt)
    _patches(rng, ground, (-10, 10, ground.nearest, back - 5), asphalt)
    marks = mix(WHITE, asphalt, rng.uniform(0.1, 0.4))
    row = rng.uniform(ground.nearest + 2, 14)
    for near in (row, row + 12):
        for x in np.arange(-25, 25, 2.8).tolist():
            ground.area(x - 0.05, x + 0.05, near, near + 5.0, marks)
    ground.paving(rng, -60, 60, back - 3, back)


_DRAWN = {"avenue": _avenue, "crossing": _crossing, "square": _square}
