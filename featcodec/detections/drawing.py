"""Draws boxes, masks and keypoints on images."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFont

from featcodec.detections import Detections
from featcodec.errors import InputError, OutputError
from featcodec.images.names import match_originals
from featcodec.images.reading import ImageLike, as_rgb, read_image
from featcodec.system.files import write_atomically
from featcodec.system.paths import resolved

# Based on Paul Tol's bright scheme: also people with colour blindness can tell these colours apart.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988")
_JPEG_QUALITY = 90
_MASK_OPACITY = 0.4
_LEAST_KEYPOINT = 0.5
"""Keypoints with a lower score are not drawn, as in ultralytics."""
# COCO's 17 keypoints: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, the left one of a pair first.
# The lines between them are those of the category "person" in COCO's annotations, counted from 0.
_PERSON_KEYPOINTS = 17
_PERSON_LINES = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip


def draw_boxes(image: ImageLike, detections: Detections, *, least_score: float = 0.25) -> npt.NDArray[np.uint8]:
    """The image with boxes, class names and scores on it.

    Masks are drawn as tints of the boxes' colours. Keypoints with a score of 0.5 or more are drawn as dots; COCO's 17
    keypoints of a person are joined by lines.

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
    shown = [index for index in range(len(detections)) if detections.scores[index] >= least_score]
    canvas = Image.fromarray(image if detections.masks is None else _tinted(image, detections, shown))
    pen = ImageDraw.Draw(canvas)
    scale = max(canvas.size) / 640
    width = max(1, round(2 * scale))
    font = ImageFont.load_default(size=max(10, round(12 * scale)))
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
        if detections.keypoints is not None:
            _draw_keypoints(pen, detections.keypoints[index], colour, width)
    return np.array(canvas)


def _tinted(image: npt.NDArray[np.uint8], detections: Detections, shown: list[int]) -> npt.NDArray[np.uint8]:
    """A copy of the image with the masks of these detections on it, the best on top."""
    image = image.copy()
    for index in reversed(shown):
        if detections.masks is None or not (mask := detections.masks[index].pixels()).any():
            continue
        colour = np.array(ImageColor.getrgb(_COLOURS[int(detections.class_ids[index]) % len(_COLOURS)]), np.float32)
        image[mask] = (1 - _MASK_OPACITY) * image[mask] + _MASK_OPACITY * colour
    return image


def _draw_keypoints(pen: ImageDraw.ImageDraw, keypoints: npt.NDArray[np.float32], colour: str, width: int) -> None:
    points: list[tuple[float, float] | None] = [
        (x, y) if score >= _LEAST_KEYPOINT else None for x, y, score in keypoints.tolist()
    ]
    for one, other in _PERSON_LINES if len(points) == _PERSON_KEYPOINTS else ():
        start, end = points[one], points[other]
        if start is not None and end is not None:
            pen.line((*start, *end), fill=colour, width=width)
    radius = 1.5 * width
    for point in filter(None, points):
        x, y = point
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="white")


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
