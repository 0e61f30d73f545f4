"""A drive: consecutive pictures of one street, from a camera that moves forward among things that move.

All comes again after one loop: the last picture of a loop leads to its first. So a short video can be shown for long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec.scenes.background import Ground, draw_sky, draw_skyline
from featcodec.scenes.buildings import House, draw_house, split_row
from featcodec.scenes.canvas import Camera, Layer
from featcodec.scenes.colours import WHITE, Colour, brighten, mix, vary
from featcodec.scenes.light import Light, draw_light
from featcodec.scenes.passing import Passing, things_on_the_way
from featcodec.scenes.shadows import ground_shadows
from featcodec.scenes.street import FAR, Wall
from featcodec.scenes.textures import PERIOD, SAMPLES, ground_texture_at

WIDTH, HEIGHT = 640, 384
"""Columns and rows of a picture."""

LEAST_LOOP = 20.0
"""Seconds of the shortest loop: in a shorter one, the same things would be seen twice in one picture."""

_SPEED = 8.2
"""Metres per second of the camera, about."""

_NEAREST = 1.0
_FACTOR = 2
_MIDDLE, _LEFT, _RIGHT, _WALK = -1.8, -8.2, 4.6, 3.4
"""Middle line, kerbs and width of the pavements, in metres to the right of the camera."""

_DASHES, _SLABS = 4.6, 1.3
_DAY = ("sunny", "overcast", "golden")


@dataclass(frozen=True)
class Drive:
    """A street and all that happens on it in one loop.

    Attributes:
        seed: the drive depends on it and on the length of the loop alone.
        loop: seconds after which everything comes again.
        speed: metres per second of the camera.
        camera: the camera that sees the street.
        light: the light, that of a day.
        houses: along one loop, both sides; their places are metres from where the loop starts.
        things: whatever stands and moves.
        asphalt, paving: colours of the ground.
        crossings: places of pedestrian crossings, metres from where the loop starts.
    """

    seed: int
    loop: float
    speed: float
    camera: Camera
    light: Light
    houses: tuple[House, ...]
    things: tuple[Passing, ...]
    asphalt: Colour
    paving: Colour
    crossings: tuple[float, ...]

    @classmethod
    def plan(cls, seed: int, seconds: float = LEAST_LOOP) -> Drive:
        """Plan a drive.

        Args:
            seed: 0 or more.
            seconds: after which the drive comes again; at least `LEAST_LOOP` is taken.
        """
        rng = np.random.default_rng((seed, 0))
        loop = max(seconds, LEAST_LOOP)
        # The grain of the asphalt must fit together where the loop ends.
        length = round(_SPEED * loop / PERIOD) * PERIOD
        camera = Camera(700, WIDTH / 2, 0.4 * HEIGHT, rng.uniform(1.9, 2.4), _NEAREST)
        rows = [
            house
            for wall in (_wall(_LEFT - _WALK, 0.0, length), _wall(_RIGHT + _WALK, length, 0.0))
            for house in split_row(rng, wall)
        ]
        return cls(
            seed=seed,
            loop=loop,
            speed=length / loop,
            camera=camera,
            light=_daylight(rng),
            houses=tuple(rows),
            things=tuple(things_on_the_way(rng, loop, length / loop, (_LEFT, _MIDDLE, _RIGHT, _WALK))),
            asphalt=vary(rng, (100, 102, 106)),
            paving=vary(rng, (172, 166, 156)),
            crossings=tuple(rng.uniform(share, share + 0.2) * length for share in (0.1, 0.6)),
        )

    @property
    def length(self) -> float:
        """Metres that the camera moves in one loop."""
        return self.speed * self.loop

    def picture(self, seconds: float) -> npt.NDArray[np.uint8]:
        """Draw the picture of a moment.

        Args:
            seconds: since the start, any number. After `loop` seconds the same picture comes again.

        Returns:
            (HEIGHT, WIDTH, 3) uint8 RGB.
        """
        seconds %= self.loop
        canvas = self._background(self.speed * seconds)
        seen = [(thing, z) for thing in self.things if self._sees(thing, z := thing.distance(seconds))]
        seen.sort(key=lambda pair: -pair[1])
        footprints = [thing.footprint(z) for thing, z in seen if z - thing.half_z > _NEAREST]
        canvas *= ground_shadows(footprints, self.camera, self.light, (WIDTH, HEIGHT))
        picture = Image.fromarray(np.clip((canvas - 110) * 1.04 + 110, 0, 255).astype(np.uint8))
        for thing, z in seen:
            for layer in thing.layers(self.seed, seconds, self.camera, self.light, z):
                _paste(picture, layer)
        return np.asarray(picture)

    def _sees(self, thing: Passing, z: float) -> bool:
        if not _NEAREST < z + thing.half_z < FAR:
            return False
        middle, half = thing.x * self.camera.scale(z + thing.half_z), thing.half_x * self.camera.scale(z + thing.half_z)
        return abs(middle) - half < WIDTH / 2 + 20

    def _background(self, way: float) -> npt.NDArray[np.float32]:
        """Draw sky, houses and ground, `way` metres after the start: (HEIGHT, WIDTH, 3) float32."""
        camera, light = self.camera, self.light
        rng = np.random.default_rng((self.seed, 1))  # so that sky and skyline are the same in each picture
        sky = Image.fromarray(draw_sky(rng, light, camera, WIDTH).astype(np.uint8))
        layer = Layer(0, 0, _FACTOR, Image.new("RGB", (WIDTH * _FACTOR, HEIGHT * _FACTOR)))
        layer.image.paste(sky.resize((sky.width * _FACTOR, sky.height * _FACTOR), Image.Resampling.NEAREST))
        ground = Ground(layer, camera, light)
        ground.area(-400, 400, 0, FAR * 40, (126, 136, 88))
        draw_skyline(rng, layer, camera, light)
        self._ground(ground, way)
        self._rows(layer, way)
        picture = layer.reduce().astype(np.float32)
        top = int(camera.horizon) + 1
        place = 0, round(way * SAMPLES)
        picture[top:] *= 1 + 0.12 * ground_texture_at(camera, place, top, (WIDTH, HEIGHT))
        return picture

    def _rows(self, layer: Layer, way: float) -> None:
        """Draw the houses, the farthest first."""
        moved = []
        for number, house in enumerate(self.houses):
            again = self.length if max(house.start[1], house.end[1]) < way + _NEAREST else 0.0
            (x0, z0), (x1, z1) = house.start, house.end
            if min(z0, z1) + again - way < FAR:
                start, end = (x0, z0 + again - way), (x1, z1 + again - way)
                moved.append((number, replace(house, start=start, end=end)))
        for number, house in sorted(moved, key=lambda pair: -max(pair[1].start[1], pair[1].end[1])):
            draw_house(np.random.default_rng((self.seed, 2, number)), layer, self.camera, self.light, house)

    def _ground(self, ground: Ground, way: float) -> None:
        for left, right in ((_LEFT - _WALK, _LEFT), (_RIGHT, _RIGHT + _WALK)):
            ground.area(left, right, 0, FAR, self.paving)
            for z in self._places(_SLABS, way, 34):
                ground.line(left, z, right, z, brighten(self.paving, 0.86))
        ground.area(_LEFT, _RIGHT, 0, FAR, self.asphalt)
        for kerb in (_LEFT - 0.16, _RIGHT):
            ground.area(kerb, kerb + 0.16, 0, FAR, (196, 194, 188))
        marks = mix(WHITE, self.asphalt, 0.2)
        for z in self._places(_DASHES, way, 80):
            ground.area(_MIDDLE - 0.08, _MIDDLE + 0.08, z, z + 2.2, marks)
        for x in (_LEFT + 2.4, _RIGHT - 2.3):
            ground.area(x - 0.06, x + 0.06, 0, FAR, marks)
        for place in self.crossings:
            z = (place - way) % self.length
            for near in (z, z - self.length):
                if near < FAR:
                    for x in np.arange(_LEFT + 2.6, _RIGHT - 2.6).tolist():
                        ground.area(x, x + 0.5, near, near + 3, marks)

    def _places(self, pitch: float, way: float, far: float) -> list[float]:
        """Return the distances of things that come about every `pitch` metres, the same in each loop."""
        pitch = self.length / round(self.length / pitch)
        return [(number + (-way / pitch) % 1) * pitch for number in range(-1, round(far / pitch))]


def _wall(x: float, start: float, end: float) -> Wall:
    return Wall((x, start), (x, end))


def _daylight(rng: np.random.Generator) -> Light:
    while True:
        light = draw_light(rng)
        if light.weather in _DAY:
            return light


def _paste(picture: Image.Image, layer: Layer) -> None:
    """Put a layer onto the picture, without the part that is outside."""
    factor = layer.factor
    left, top = max(0, layer.left), max(0, layer.top)
    right = min(picture.width, layer.left + layer.image.width // factor)
    bottom = min(picture.height, layer.top + layer.image.height // factor)
    if left >= right or top >= bottom:
        return
    box = tuple(
        (edge - start) * factor
        for edge, start in zip((left, top, right, bottom), (layer.left, layer.top) * 2, strict=True)
    )
    sprite = layer.image.crop(box).reduce(factor)  # type: ignore[arg-type]
    picture.paste(sprite, (left, top), sprite)
