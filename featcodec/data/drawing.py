"""Drawing boxes on pictures."""

from __future__ import annotations

import io
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from featcodec.data.images import IMAGE_SUFFIXES
from featcodec.detections import Detections
from featcodec.errors import InputError
from featcodec.files import write_atomically

# Paul Tol's bright scheme: told apart by people who see colours differently.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988")
_JPEG_QUALITY = 90


def draw_boxes(
    image: npt.NDArray[np.uint8], detections: Detections, *, least_score: float = 0.25
) -> npt.NDArray[np.uint8]:
    """The picture with boxes, class names and scores on it.

    Args:
        image: (height, width, 3) uint8 RGB, the original picture.
        detections: boxes in its pixels.
        least_score: boxes below it are left out.

    Raises:
        InputError: the picture is not of the size that the detections were made on.
    """
    if image.shape[:2] != (detections.height, detections.width):
        raise InputError(
            f"the picture is {image.shape[1]}x{image.shape[0]}, but one of {detections.width}x{detections.height} was "
            "encoded; give the --images that were encoded"
        )
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    scale = max(canvas.size) / 640
    width = max(1, round(2 * scale))
    font = ImageFont.load_default(size=max(10, round(12 * scale)))
    shown = [index for index in range(len(detections)) if detections.scores[index] >= least_score]
    for index in reversed(shown):  # the best on top
        class_id = int(detections.class_ids[index])
        colour = _COLOURS[class_id % len(_COLOURS)]
        left, top, right, bottom = detections.xyxy[index].tolist()
        pen.rectangle((left, top, right, bottom), outline=colour, width=width)
        label = f"{detections.names[class_id]} {detections.scores[index]:.2f}"
        x0, y0, x1, y1 = pen.textbbox((0, 0), label, font=font)
        x = min(left, max(0, canvas.width - (x1 - x0) - 2 * width))
        y = top - (y1 - y0) - 2 * width if top > (y1 - y0) + 2 * width else top
        pen.rectangle((x, y, x + x1 - x0 + 2 * width, y + y1 - y0 + 2 * width), fill=colour)
        pen.text((x + width - x0, y + width - y0), label, fill="white", font=font)
    return np.array(canvas)


def save_jpeg(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write a picture as JPEG, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    write_atomically(path, buffer.getvalue())


def find_picture(folder: Path, relative: PurePath) -> Path | None:
    """The picture in a folder from which a bitstream of that relative path was made, or None."""
    for parent in (folder / relative.parent, folder):
        for candidate in sorted(parent.glob("*")) if parent.is_dir() else ():
            if candidate.stem == relative.name and candidate.suffix.lower() in IMAGE_SUFFIXES:
                return candidate
    return None
