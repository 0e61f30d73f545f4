"""The light of a scene: tint, sun, fog and lamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcodec.scenes.colours import Colour, pick, vary

_WEATHER = ("sunny",) * 5 + ("overcast",) * 3 + ("golden",) * 2 + ("dusk", "night", "fog")


@dataclass(frozen=True)
class Light:
    """How colours look in a scene.

    Attributes:
        weather: "sunny", "overcast", "golden", "dusk", "night" or "fog".
        tint: factors for red, green and blue, about 0.3 (night) .. 1.1.
        sky_top: colour of the sky at the upper edge.
        sky_bottom: colour of the sky at the horizon, and of haze.
        haze: the share of haze is haze * metres / (1 + haze * metres).
        sun: position of the sun, -1 (left) .. 1 (right).
        shadow: darkness of cast shadows, 0 .. 1.
        reach: length of a shadow, as a multiple of the height of the thing that casts it.
        lamps: whether lamps and windows are lit.
    """

    weather: str
    tint: tuple[float, float, float]
    sky_top: Colour
    sky_bottom: Colour
    haze: float
    sun: float
    shadow: float
    reach: float
    lamps: bool

    def paint(self, colour: Colour, depth: float, shade: float = 1.0) -> Colour:
        """Return how a surface of a colour looks from `depth` metres. `shade` is the light on it, about 1."""
        fog = self.haze * depth / (1 + self.haze * depth)
        clear = (1 - fog) * shade
        return (
            min(255, int(colour[0] * self.tint[0] * clear + self.sky_bottom[0] * fog)),
            min(255, int(colour[1] * self.tint[1] * clear + self.sky_bottom[1] * fog)),
            min(255, int(colour[2] * self.tint[2] * clear + self.sky_bottom[2] * fog)),
        )

    def emit(self, colour: Colour, depth: float) -> Colour:
        """Return how a lamp of a colour looks from `depth` metres."""
        fog = 0.6 * self.haze * depth / (1 + self.haze * depth)
        return (
            int(colour[0] * (1 - fog) + self.sky_bottom[0] * fog),
            int(colour[1] * (1 - fog) + self.sky_bottom[1] * fog),
            int(colour[2] * (1 - fog) + self.sky_bottom[2] * fog),
        )


# weather: (tint, sky at the top, sky at the horizon, haze, shadow, reach, lamps)
_KINDS: dict[str, tuple[tuple[float, float, float], Colour, Colour, float, float, float, bool]] = {
    "sunny": ((1.04, 1.02, 0.97), (86, 150, 214), (196, 220, 234), 0.0035, 0.46, 0.7, False),
    "overcast": ((0.90, 0.93, 0.96), (168, 180, 192), (210, 214, 216), 0.0060, 0.16, 0.2, False),
    "golden": ((1.08, 0.92, 0.76), (116, 134, 176), (250, 206, 150), 0.0060, 0.42, 1.5, False),
    "dusk": ((0.74, 0.66, 0.74), (70, 82, 134), (236, 164, 136), 0.0060, 0.20, 0.3, True),
    "night": ((0.54, 0.56, 0.70), (16, 20, 44), (44, 52, 86), 0.0060, 0.24, 0.3, True),
    "fog": ((0.88, 0.90, 0.92), (188, 194, 198), (206, 210, 212), 0.0260, 0.12, 0.2, False),
}


def draw_light(rng: np.random.Generator) -> Light:
    """Choose a random light for one scene."""
    weather = pick(rng, _WEATHER)
    tint, top, bottom, haze, shadow, reach, lamps = _KINDS[weather]
    exposure = rng.uniform(0.86, 1.12)
    balance = rng.uniform(0.96, 1.04, 3)
    return Light(
        weather=weather,
        tint=(tint[0] * exposure * balance[0], tint[1] * exposure * balance[1], tint[2] * exposure * balance[2]),
        sky_top=vary(rng, top, 14),
        sky_bottom=vary(rng, bottom, 10),
        haze=haze * rng.uniform(0.6, 1.7),
        sun=float(rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 1.0)),
        shadow=shadow * rng.uniform(0.8, 1.2),
        reach=reach * rng.uniform(0.7, 1.3),
        lamps=lamps,
    )
