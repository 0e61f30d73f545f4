"""Private details: number plates, faces and posters. They are drawn, and recorded separately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from featcodec.scenes.canvas import Detail, Layer, Point, Surface
from featcodec.scenes.colours import BLACK, SIGNAGE, WHITE, Colour, luminance, mix, pick, vary

PLATE_PATTERN = r"[A-HJ-NPR-Z]{2}[0-9]{2}[A-HJ-NPR-Z]{3}"
"""The text of a plate: two letters, two digits, three letters. I, O and Q are not used; they look like 1 and 0."""

PLATE_WIDTH, PLATE_HEIGHT = 1.0, 0.27
"""In metres. This is about twice the real size, so that near plates can be read at 512 pixels."""

LEAST_CHARACTER = 9.0
"""In pixels. A plate with lower characters does not count as readable."""

LEAST_ASPECT = 0.85 * PLATE_WIDTH / PLATE_HEIGHT
"""Width divided by height. A plate with a smaller ratio is turned away too far and does not count as readable."""

LEAST_FACE = 14.0
"""In pixels. A face with a smaller height does not count as recognisable."""

_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
_CHARACTER_SHARE = 0.66
_PLATE_PIXELS = (200, 54)
_WORDS = (
    "SALE", "FRESH", "COFFEE", "CINEMA", "TONIGHT", "OPEN AIR", "JAZZ", "BAKERY", "VOTE", "MUSEUM", "SUMMER", "BOOKS",
    "CIRCUS", "TRAVEL", "NORTH", "HARBOUR", "FESTIVAL", "PIZZA", "GARDEN", "DANCE", "RADIO", "MARKET", "NEW", "CITY",
)  # fmt: skip


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the typeface of Pillow, which is the same on every machine."""
    return ImageFont.load_default(size=size)


def plate_text(rng: np.random.Generator) -> str:
    """Draw random characters that match `PLATE_PATTERN`."""
    letters = [pick(rng, _LETTERS) for _ in range(5)]
    return f"{letters[0]}{letters[1]}{int(rng.integers(100)):02d}{''.join(letters[2:])}"


def draw_plate(
    rng: np.random.Generator, surface: Surface, left: float, bottom: float, right: float, top: float
) -> None:
    """Draw a number plate on a rectangle of a vehicle's face, and record it."""
    text = plate_text(rng)
    shade = 1.5 if surface.light.lamps else 1.1  # a plate reflects light
    corners = surface.picture(_plate(text, bool(rng.random() < 0.3)), left, bottom, right, top, shade=shade)
    box = _box(corners)
    high = _CHARACTER_SHARE * min(corners[3][1] - corners[0][1], corners[2][1] - corners[1][1])
    turned = (box[2] - box[0]) / (box[3] - box[1]) < LEAST_ASPECT
    readable = high >= LEAST_CHARACTER and not turned and _is_straight(corners)
    surface.layer.details.append(Detail("plate", box, text, readable))


def note_face(layer: Layer, corners: Sequence[Point]) -> None:
    """Record a face inside these points, in pixels of the image."""
    box = _box(corners)
    layer.details.append(Detail("face", box, None, box[3] - box[1] >= LEAST_FACE))


def draw_poster(
    rng: np.random.Generator, surface: Surface, left: float, bottom: float, right: float, top: float
) -> None:
    """Draw a poster with a few words on a rectangle, and record it."""
    words = [pick(rng, _WORDS) for _ in range(int(rng.integers(1, 4)))]
    shape = abs((right - left) / (top - bottom))
    high = 160
    texture, character = _poster(rng, words, max(40, min(480, round(high * shape))), high)
    corners = surface.picture(texture, left, bottom, right, top)
    box = _box(corners)
    readable = character * (box[3] - box[1]) >= LEAST_CHARACTER and _is_straight(corners)
    surface.layer.details.append(Detail("poster", box, " ".join(words), readable))


def lettering(text: str, ink: Colour, paper: Colour, width: int, height: int) -> Image.Image:
    """Draw bold text that fills a picture of this size except for a margin."""
    picture = Image.new("RGB", (width, height), paper)
    _write(picture, text, ink, (width * 0.06, height * 0.12, width * 0.94, height * 0.88))
    return picture


def _plate(text: str, yellow: bool) -> Image.Image:
    width, height = _PLATE_PIXELS
    paper: Colour = (240, 206, 84) if yellow else (246, 246, 242)
    picture = Image.new("RGB", (width, height), (30, 34, 42))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((3, 3, width - 4, height - 4), fill=paper)
    pen.rectangle((3, 3, 13, height - 4), fill=(36, 70, 150))
    # Each character has its own cell, so that neighbours do not touch even if the plate is only 60 pixels wide.
    cells = [17, 42, 70, 94, 122, 147, 172]
    high = height * _CHARACTER_SHARE
    for cell, character in zip(cells, text, strict=True):
        _write(picture, character, BLACK, (cell, (height - high) / 2, cell + 21, (height + high) / 2), stretch=True)
    return picture


def _poster(rng: np.random.Generator, words: Sequence[str], width: int, height: int) -> tuple[Image.Image, float]:
    """Draw the picture. Also returns the height of a character as a share of the picture's height."""
    paper = vary(rng, pick(rng, SIGNAGE), 20)
    ink = WHITE if luminance(paper) < 140 else BLACK
    picture = Image.new("RGB", (width, height), paper)
    pen = ImageDraw.Draw(picture)
    accent = mix(paper, pick(rng, SIGNAGE), 0.7)
    if rng.random() < 0.5:
        radius = width * rng.uniform(0.25, 0.5)
        x, y = rng.uniform(0, width), rng.uniform(0.55, 1.0) * height
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=accent)
    else:
        slope = rng.uniform(-0.3, 0.3) * height
        pen.polygon(((0, height * 0.75), (width, height * 0.75 + slope), (width, height), (0, height)), fill=accent)
    pen.rectangle((0, 0, width - 1, height - 1), outline=mix(paper, BLACK, 0.5), width=3)
    row = height * (0.62 if width < height else 0.9) / len(words)
    character = 0.0
    for index, word in enumerate(words):
        top = height * 0.06 + index * row
        character = _write(picture, word, ink, (width * 0.07, top + row * 0.1, width * 0.93, top + row * 0.9))
    return picture, character / height


def _write(
    picture: Image.Image, text: str, ink: Colour, box: tuple[float, float, float, float], *, stretch: bool = False
) -> float:
    """Write text in the middle of a box, as large as fits or stretched to the box. Returns its height in pixels."""
    face = font(64)
    x0, y0, x1, y1 = ImageDraw.Draw(picture).textbbox((0, 0), text, font=face, stroke_width=2)
    mask = Image.new("L", (math.ceil(x1 - x0), math.ceil(y1 - y0)))
    ImageDraw.Draw(mask).text((-x0, -y0), text, fill=255, font=face, stroke_width=2)
    left, top, right, bottom = box
    fit = min((right - left) / mask.width, (bottom - top) / mask.height)
    wide, high = mask.width * fit, mask.height * fit
    if stretch:
        high = bottom - top
        wide = min(right - left, mask.width * high / mask.height)
    size = max(1, round(wide)), max(1, round(high))
    resized = mask.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    picture.paste(ink, (round((left + right - wide) / 2), round((top + bottom - high) / 2)), resized)
    return float(size[1])


def _box(corners: Sequence[Point]) -> tuple[float, float, float, float]:
    columns, rows = [x for x, _ in corners], [y for _, y in corners]
    return min(columns), min(rows), max(columns), max(rows)


def _is_straight(corners: Sequence[Point]) -> bool:
    """Whether a plate or poster is seen from the front: level, not mirrored and not leaning."""
    upper_left, upper_right, lower_right, lower_left = corners
    wide, high = upper_right[0] - upper_left[0], lower_left[1] - upper_left[1]
    if wide <= 0 or high <= 0:
        return False
    level = abs(upper_right[1] - upper_left[1]) < 0.05 * wide and abs(lower_right[1] - lower_left[1]) < 0.05 * wide
    return level and abs(lower_left[0] - upper_left[0]) < 0.1 * high
