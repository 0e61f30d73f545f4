"""Draws boxes on images."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from featcodec.detections import Detections
from featcodec.errors import InputError, OutputError
from featcodec.images.names import match_originals
from featcodec.images.reading import ImageLike, as_rgb, read_image
from featcodec.system.files import write_atomically
from featcodec.system.paths import resolved

# Based on Paul Tol's bright scheme: also people with colour blindness can tell these colours apart.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988")
_JPEG_QUALITY = 90


def draw_boxes(image: ImageLike, detections: Detections, *, least_score: float = 0.25) -> npt.NDArray[np.uint8]:
    """The image with boxes, class names and scores on it.

    Args:
        image: the original image: a path, a PIL image, or a (height, width, 3) uint8 RGB array.
        detections: boxes in the pixels of the image.
        least_score: boxes with a lower score are left out.

    Raises:
        InputError: the image cannot be read, or its size is not the size that the detections were made on.
    """
    image = as_rgb(image)
    if image.shape[:2] != (detections.height, detections.width):
        raise InputError(
            f"the image has {image.shape[1]}x{image.shape[0]} pixels, but the encoded image had "
            f"{detections.width}x{detections.height}; give the `images` that were encoded, read in the same "
            "way (`ignore_exif`)"
        )
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    scale = max(canvas.size) / 640
    width = max(1, round(2 * scale))
    font = ImageFont.load_default(size=max(10, round(12 * scale)))
    shown = [index for index in range(len(detections)) if detections.scores[index] >= least_score]
    for index in reversed(shown):  # the best box is drawn last, on top
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


def save_jpeg(path: Path, image: npt.NDArray[np.uint8], *, overwrite: bool = False) -> None:
    """Write an image as JPEG, whole or not at all. A file of that name is replaced only with `overwrite`.

    Raises:
        InputError: the image is too large for JPEG (a side over 65,500 pixels).
        OutputError: the file exists or cannot be written.
    """
    buffer = io.BytesIO()
    try:
        Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels do not fit into a JPEG file ({error}); leave `draw` out"
        ) from None
    write_atomically(path, buffer.getvalue(), overwrite=overwrite)


def open_drawing(
    images: Path,
    folder: Path,
    least_score: float,
    names: Iterable[PurePath],
    *,
    overwrite: bool,
    ignore_exif: bool = False,
) -> Callable[[PurePath, Detections], None]:
    """A function that draws one image's detections on the original and saves it as JPEG.

    Args:
        images: folder of the original images.
        folder: folder for the drawn images; it must not be `images`.
        least_score: boxes with a lower score are left out.
        names: the names of all images that will be drawn (`Source.name`).
        overwrite: replace drawn images that exist.
        ignore_exif: take the pixels of images as they are stored; see `read_image`.

    Raises:
        InputError: `images` holds no image, or two images have the same original.
        OutputError: the folders are the same, so the originals would be overwritten. The function itself also raises
            OutputError if a drawn image would overwrite an original, when one folder is inside the other.
    """
    if resolved(images) == resolved(folder):
        raise OutputError(
            f"{folder}: is the folder of the originals, which `draw` would overwrite; choose another folder"
        )
    originals = match_originals(names, images)
    protected = {resolved(path) for path in originals.values()}

    def draw(name: PurePath, detections: Detections) -> None:
        original = originals.get(name)
        if original is None:
            raise InputError(f"{name}: {images} has no image of that name, or several; it is decoded but not drawn")
        output = folder / f"{name.as_posix()}.jpg"
        if resolved(output) in protected:
            raise OutputError(f"{output}: is an original image, which `draw` would overwrite; choose another folder")
        if output.exists() and not overwrite:
            raise OutputError(f"{output}: exists; use `overwrite` or another `draw`")
        drawn = draw_boxes(read_image(original, ignore_exif=ignore_exif), detections, least_score=least_score)
        save_jpeg(output, drawn, overwrite=overwrite)

    return draw
