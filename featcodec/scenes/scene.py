"""One scene: background, shadows, objects from far to near with their visible boxes, and private details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from featcodec.scenes.background import draw_background
from featcodec.scenes.canvas import Detail, Glow
from featcodec.scenes.light import Light, draw_light
from featcodec.scenes.placement import Placed, place_all
from featcodec.scenes.shadows import ground_shadows
from featcodec.scenes.street import draw_street
from featcodec.scenes.textures import clouds, grain, part

SIZE = 512
"""Rows and columns of a scene."""

CLASSES = ("car", "truck", "bus", "pedestrian", "bicycle", "traffic sign", "traffic light")
"""Names of the classes; the category id in COCO files is the position plus 1."""

LEAST_VISIBLE_SHARE = 0.25
"""An object with a smaller visible share is removed from the scene. Other objects or the image edge hide the rest."""

LEAST_VISIBLE_PIXELS = 60

_OPAQUE = 96
"""From this alpha on, a pixel counts as part of the object."""

_NOBODY = -1
_LEAST_SEEN = {"plate": 0.98, "face": 0.9, "poster": 0.95}
"""The share of a detail that must be visible, or else the detail is not readable."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SceneObject:
    """An object that a detector should find.

    Attributes:
        class_name: one of `CLASSES`.
        box: left, top, width, height of its visible pixels.
        area: number of its visible pixels.
    """

    class_name: str
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class Scene:
    """A scene and its ground truth.

    Attributes:
        image: (512, 512, 3) uint8 RGB.
        objects: in the order of painting, the farthest first.
        details: the private details; their boxes are inside the image.
    """

    image: npt.NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    details: tuple[Detail, ...]


@dataclass(frozen=True)
class _Sprite:
    placed: Placed
    pixels: npt.NDArray[np.uint8]

    @property
    def window(self) -> tuple[slice, slice, slice, slice]:
        """Rows and columns of the image that the sprite covers, then the rows and columns of the sprite there."""
        top, left = self.placed.layer.top, self.placed.layer.left
        height, width = self.pixels.shape[:2]
        rows = slice(min(SIZE, max(0, top)), max(0, min(SIZE, top + height)))
        columns = slice(min(SIZE, max(0, left)), max(0, min(SIZE, left + width)))
        return rows, columns, slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)

    def mask(self, owners: npt.NDArray[np.int16], number: int) -> npt.NDArray[np.bool_]:
        """Return which pixels of the window show this sprite."""
        rows, columns, _, _ = self.window
        return np.asarray(owners[rows, columns] == number)


def draw_scene(seed: int, index: int) -> Scene:
    """Draw scene number `index` of a seed. The scene depends only on these two numbers.

    Args:
        seed: 0 or more.
        index: 0 or more.
    """
    rng = np.random.default_rng((seed, index))
    light, street = draw_light(rng), draw_street(rng)
    canvas = draw_background(rng, street, light, SIZE)
    plan = place_all(rng, street, light)
    canvas *= ground_shadows(plan.footprints, street.camera, light, (SIZE, SIZE))
    sprites = [_Sprite(placed, placed.layer.reduce()) for placed in sorted(plan.placed, key=lambda item: -item.depth)]
    sprites, owners = _without_hidden(sprites)
    for sprite in sprites:
        _paste(canvas, sprite, rng)
    for number, sprite in enumerate(sprites):
        for glow in sprite.placed.layer.glows:
            _add_glow(canvas, glow, owners, number)
    objects = [
        _object(sprite, sprite.mask(owners, number))
        for number, sprite in enumerate(sprites)
        if sprite.placed.class_name
    ]
    details = [
        detail
        for number, sprite in enumerate(sprites)
        for drawn in sprite.placed.layer.details
        if (detail := _seen(drawn, owners, number)) is not None
    ]
    return Scene(_develop(canvas, rng, light), tuple(objects), tuple(details))


def _without_hidden(sprites: list[_Sprite]) -> tuple[list[_Sprite], npt.NDArray[np.int16]]:
    """Remove objects that are hardly visible. Returns the other sprites, and the number of the sprite of each pixel."""
    owners = _owners(sprites)
    kept = []
    for number, sprite in enumerate(sprites):
        if sprite.placed.class_name:
            seen = int(sprite.mask(owners, number).sum())
            whole = int((sprite.pixels[..., 3] >= _OPAQUE).sum())
            if seen < LEAST_VISIBLE_PIXELS or seen < LEAST_VISIBLE_SHARE * whole:
                continue
        kept.append(sprite)
    return kept, _owners(kept) if len(kept) < len(sprites) else owners


def _owners(sprites: Sequence[_Sprite]) -> npt.NDArray[np.int16]:
    owners = np.full((SIZE, SIZE), _NOBODY, np.int16)
    for number, sprite in enumerate(sprites):
        rows, columns, own_rows, own_columns = sprite.window
        owners[rows, columns][sprite.pixels[own_rows, own_columns, 3] >= _OPAQUE] = number
    return owners


def _paste(canvas: Floats, sprite: _Sprite, rng: np.random.Generator) -> None:
    """Blend a sprite into the picture, a little darker at the bottom, with spots of wear."""
    rows, columns, own_rows, own_columns = sprite.window
    pixels = sprite.pixels[own_rows, own_columns].astype(np.float32)
    height, width = pixels.shape[:2]
    if not height or not width:
        return
    fall = np.linspace(1.05, 0.9, sprite.pixels.shape[0], dtype=np.float32)[own_rows, None, None]
    wear = 1 + 0.07 * part(clouds(), rng, height, width)[..., None]
    alpha = pixels[..., 3:] / 255
    target = canvas[rows, columns]
    target += (pixels[..., :3] * fall * wear - target) * alpha


def _add_glow(canvas: Floats, glow: Glow, owners: npt.NDArray[np.int16], number: int) -> None:
    """Add the halo of a lamp if the lamp is visible."""
    column, row, radius = int(glow.x), int(glow.y), max(2.0, glow.radius)
    if not (0 <= row < SIZE and 0 <= column < SIZE) or owners[row, column] != number:
        return
    reach = int(radius) + 1
    top, left = max(0, row - reach), max(0, column - reach)
    rows = np.arange(top, min(SIZE, row + reach + 1), dtype=np.float32)[:, None] - np.float32(glow.y)
    columns = np.arange(left, min(SIZE, column + reach + 1), dtype=np.float32)[None] - np.float32(glow.x)
    fall = np.clip(1 - (rows * rows + columns * columns) / np.float32(radius * radius), 0, 1) ** 2
    halo = 0.6 * fall[..., None] * np.array(glow.colour, np.float32)
    canvas[top : top + halo.shape[0], left : left + halo.shape[1]] += halo


def _object(sprite: _Sprite, visible: npt.NDArray[np.bool_]) -> SceneObject:
    rows, columns = visible.any(axis=1).nonzero()[0], visible.any(axis=0).nonzero()[0]
    width, height = int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1
    window = sprite.window
    box = int(columns[0]) + window[1].start, int(rows[0]) + window[0].start, width, height
    return SceneObject(str(sprite.placed.class_name), box, int(visible.sum()))


def _seen(detail: Detail, owners: npt.NDArray[np.int16], number: int) -> Detail | None:
    """Return a detail cut at the edge of the image, or None if less than half of the detail is visible."""
    left, top, right, bottom = detail.box
    whole = (right - left) * (bottom - top)
    left, top, right, bottom = max(0.0, left), max(0.0, top), min(float(SIZE), right), min(float(SIZE), bottom)
    if right - left < 2 or bottom - top < 2:
        return None
    inside = owners[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
    share = float((inside == number).mean()) * (right - left) * (bottom - top) / whole
    if share < 0.5:
        return None
    # The corners of a face's box do not show the person.
    least = _LEAST_SEEN[detail.kind] * (0.85 if detail.kind == "face" else 1.0)
    return replace(detail, box=(left, top, right, bottom), readable=detail.readable and share >= least)


def _develop(canvas: Floats, rng: np.random.Generator, light: Light) -> npt.NDArray[np.uint8]:
    """Apply the effects of a camera: contrast, vignette, blur, noise."""
    canvas = (canvas - 110) * np.float32(rng.uniform(0.92, 1.12)) + 110
    gray = canvas.mean(axis=2, keepdims=True)
    canvas = gray + (canvas - gray) * np.float32(rng.uniform(0.85, 1.2))
    offset = (np.arange(SIZE, dtype=np.float32) - SIZE / 2) ** 2 / np.float32(SIZE * SIZE / 2)
    canvas *= 1 - np.float32(rng.uniform(0.05, 0.28)) * (offset[:, None, None] + offset[None, :, None])
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    blur = rng.uniform(-0.5, 0.75)
    if blur > 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    strength = rng.uniform(0.8, 5.0 if light.lamps else 3.6)
    noisy = np.asarray(picture, np.float32) + np.float32(strength) * part(grain(), rng, SIZE, SIZE)[..., None]
    return np.asarray(np.clip(noisy, 0, 255).astype(np.uint8))
