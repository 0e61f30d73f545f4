"""Shadows on the ground: those that the sun casts, and the dark below a thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from featcodec.scenes.canvas import Camera
from featcodec.scenes.light import Light
from featcodec.scenes.placement import Footprint


def ground_shadows(
    footprints: Sequence[Footprint], camera: Camera, light: Light, size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Return factors for the brightness of the ground.

    Args:
        footprints: where things stand.
        camera: the camera that sees the ground.
        light: the light of the scene.
        size: width and height of the image in pixels, both even.

    Returns:
        (height, width, 1) float32, 0 .. 1.
    """
    half = size[0] // 2, size[1] // 2  # half the resolution is enough for soft shadows
    cast, contact = Image.new("L", half), Image.new("L", half)
    for footprint in footprints:
        reach = light.reach * min(footprint.height, 3.0)
        corners = _ground(footprint, camera, 0.0, 0.0, 1.0)
        shifted = _ground(footprint, camera, -light.sun * reach, reach * 0.25, 0.9)
        pen = ImageDraw.Draw(cast)
        for outline in (corners, shifted):
            pen.polygon(outline, fill=255)
        for first, second in ((0, 1), (1, 2), (2, 3), (3, 0)):
            pen.polygon((corners[first], corners[second], shifted[second], shifted[first]), fill=255)
        ImageDraw.Draw(contact).polygon(_ground(footprint, camera, 0.0, 0.0, 1.08), fill=255)
    soft = ImageFilter.GaussianBlur(0.8 if light.shadow > 0.3 else 2)
    far = np.asarray(cast.filter(soft), np.float32) * (light.shadow / 255)
    near = np.asarray(contact.filter(ImageFilter.GaussianBlur(1.5)), np.float32) * (0.42 / 255)
    factors = Image.fromarray((1 - far) * (1 - near)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(factors)[..., None]


def _ground(footprint: Footprint, camera: Camera, aside: float, away: float, size: float) -> list[tuple[float, float]]:
    x, z = footprint.x + aside, footprint.z + away
    half_x, half_z = footprint.half_x * size, footprint.half_z * size
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = [camera.project(x + sx * half_x, 0, max(1.0, z + sz * half_z)) for sx, sz in signs]
    return [(column / 2, row / 2) for column, row in corners]
