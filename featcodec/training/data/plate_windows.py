"""Pictures of number plates with their surroundings, to train a direct reader on what an edge makes of them.

A plate is moved, scaled and turned in the picture, before the front-end: the samples of a tensor lie on a grid of 8
pixels, and a plate may lie anywhere on it. The pictures of a step depend on (seed, step) alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError
from featcodec.images.letterbox import Letterbox
from featcodec.images.names import match_originals
from featcodec.images.reading import read_image
from featcodec.privacy.direct_reader import WINDOW_HEIGHT, WINDOW_WIDTH
from featcodec.privacy.private_details import PrivateDetails, readable_plates
from featcodec.privacy.readers import Pixels

SAMPLE = 8
"""Pixels per sample of the tensor."""
BORDER_ROWS, BORDER_COLUMNS = 5, 4
"""Samples around the window. They are computed too, because the front-end pads the picture's edges with zeros."""
PICTURE_HEIGHT = SAMPLE * (WINDOW_HEIGHT + 2 * BORDER_ROWS)
PICTURE_WIDTH = SAMPLE * (WINDOW_WIDTH + 2 * BORDER_COLUMNS)
_SOURCE_HEIGHT, _SOURCE_WIDTH = round(PICTURE_HEIGHT * 1.4), round(PICTURE_WIDTH * 1.4)
_LARGEST = 0.7
"""Share of the window's sides that a plate takes at most."""
Box = tuple[float, float, float, float]
_INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True, eq=False)
class PlateWindows:
    """Plates in memory, 235 KiB each.

    Attributes:
        images: (N, 224, 358, 3) uint8 RGB, parts of letterboxed images with a plate in the middle.
        boxes: (N, 4) float: left, top, right and bottom of each plate in pixels of its image.
        texts: the text of each plate.
    """

    images: Pixels
    boxes: npt.NDArray[np.float64]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)


def read_plate_windows(
    details: PrivateDetails, folder: Path, image_size: int, held_out: int
) -> tuple[PlateWindows, PlateWindows]:
    """Cut out the readable plates of a set with their surroundings: those to train on, and those to hold out.

    Args:
        details: what the images show; may list more images than there are.
        folder: folder of the images, which are matched by name without ending.
        image_size: longer side of the letterboxed images in pixels, a multiple of 32.
        held_out: number of images with readable plates to hold out. They are spread over the folder.

    Raises:
        InputError: the folder has none of the images, an image is unreadable, all images would be held out, or the
            image size does not exist.
    """
    plates = {name: found for name, each in details.by_name.items() if (found := readable_plates(each))}
    images = match_originals(list(plates), folder)
    present = [name for name in plates if name in images]
    if not present:
        raise InputError(f"{folder}: holds none of the images of {details.path} that show plates; check `images`")
    if not 0 <= held_out < len(present):
        raise InputError(f"{folder}: has {len(present)} images with readable plates; hold out fewer")
    apart = {present[index * len(present) // held_out] for index in range(held_out)}
    parts: tuple[list[tuple[Pixels, Box, str]], ...] = ([], [])
    for name in present:
        picture = read_image(images[name])
        letterbox = Letterbox.fit(picture.shape[1], picture.shape[0], image_size)
        letterboxed = letterbox.apply(picture)
        for plate in plates[name]:
            parts[name in apart].append((*_around(letterboxed, letterbox.place(plate.box)), plate.text))
    return _joined(parts[0]), _joined(parts[1])


def window_batches(
    plates: PlateWindows, batch_size: int, steps: range, seed: int, *, rank: int = 0
) -> Iterator[tuple[Pixels, npt.NDArray[np.float32], list[str]]]:
    """Moved and recoloured plates, one batch per step.

    Args:
        plates: plates to draw from.
        batch_size: plates per batch.
        steps: numbers of the steps.
        seed: at least 0.
        rank: number of this process.

    Yields:
        (batch_size, 160, 256, 3) uint8 RGB pictures; (batch_size, 4) boxes, left, top, right and bottom in samples of
        the window in the picture's middle; and the texts.
    """
    for step in steps:
        rng = np.random.default_rng((seed, step, rank))
        chosen = rng.integers(len(plates), size=batch_size)
        drawn = [_moved(plates.images[index], plates.boxes[index], rng) for index in chosen]
        yield np.stack([_coloured(image, rng) for image, _ in drawn]), _boxes(drawn), [plates.texts[i] for i in chosen]


def plain_batches(plates: PlateWindows, batch_size: int) -> Iterator[tuple[Pixels, npt.NDArray[np.float32], list[str]]]:
    """All plates as they are, each once; see `window_batches`. Only plates that are too large are made smaller."""
    for first in range(0, len(plates), batch_size):
        chosen = range(first, min(first + batch_size, len(plates)))
        drawn = [_moved(plates.images[index], plates.boxes[index], None) for index in chosen]
        yield np.stack([image for image, _ in drawn]), _boxes(drawn), [plates.texts[i] for i in chosen]


def _around(picture: Pixels, box: Box) -> tuple[Pixels, Box]:
    """The source of a plate: pixels around its box, and the box in them. Beyond the edge, pixels are repeated."""
    x0, y0, x1, y1 = box
    left, top = round((x0 + x1 - _SOURCE_WIDTH) / 2), round((y0 + y1 - _SOURCE_HEIGHT) / 2)
    rows = (np.arange(_SOURCE_HEIGHT) + top).clip(0, picture.shape[0] - 1)
    columns = (np.arange(_SOURCE_WIDTH) + left).clip(0, picture.shape[1] - 1)
    return picture[rows[:, None], columns], (x0 - left, y0 - top, x1 - left, y1 - top)


def _joined(parts: Sequence[tuple[Pixels, Box, str]]) -> PlateWindows:
    images = np.empty((len(parts), _SOURCE_HEIGHT, _SOURCE_WIDTH, 3), np.uint8)
    for place, (crop, _, _) in zip(images, parts, strict=True):
        place[:] = crop
    boxes = np.array([box for _, box, _ in parts], np.float64).reshape(-1, 4)
    return PlateWindows(images, boxes, [text for _, _, text in parts])


def _moved(
    image: Pixels, box: npt.NDArray[np.float64], rng: np.random.Generator | None
) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """A picture of a plate, and the box of the plate in pixels of the picture."""
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    fits = min(1.0, _LARGEST * SAMPLE * WINDOW_WIDTH / size[0], _LARGEST * SAMPLE * WINDOW_HEIGHT / size[1])
    scale, angle, middle = np.array((fits, fits)), 0.0, np.array((PICTURE_WIDTH, PICTURE_HEIGHT)) / 2
    flags = cv2.INTER_LINEAR
    if rng is not None:
        scale = np.minimum(scale * rng.uniform(0.85, 1.2) * rng.uniform(0.95, 1.05, 2), fits)
        angle = np.radians(rng.normal(0, 1.5))
        # Every place within a sample is equally likely; the plate stays near the middle of the window.
        middle = middle + rng.uniform(-SAMPLE, SAMPLE, 2)
        flags = _INTERPOLATIONS[int(rng.integers(0, 2))]
    elif fits == 1:
        middle = centre + np.rint(middle - centre)  # by whole pixels, which do not change
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))]) * scale
    # OpenCV counts from the centres of pixels.
    matrix = np.concatenate((turn, (middle - 0.5 - turn @ (centre - 0.5))[:, None]), 1)
    moved = cv2.warpAffine(image, matrix, (PICTURE_WIDTH, PICTURE_HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    half = size * scale / 2
    if rng is not None:
        half = half * rng.uniform(0.97, 1.05, 2)
        middle = middle + rng.normal(0, 0.02, 2) * size * scale
    return np.asarray(moved, np.uint8), np.concatenate((middle - half, middle + half))


def _coloured(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Another contrast, brightness and colour; weak, because the reader always sees what an edge makes of originals."""
    contrast = np.float32(rng.uniform(0.75, 1.2))
    shift = (rng.normal(0, 10) + rng.normal(0, 4, 3)).astype(np.float32)
    mean = image.mean((0, 1), dtype=np.float32)
    changed: Pixels = np.rint(((image - mean) * contrast + mean + shift).clip(0, 255)).astype(np.uint8)
    return changed


def _boxes(drawn: Sequence[tuple[Pixels, npt.NDArray[np.float64]]]) -> npt.NDArray[np.float32]:
    border = np.array((BORDER_COLUMNS, BORDER_ROWS) * 2)
    boxes: npt.NDArray[np.float32] = (np.stack([box for _, box in drawn]) / SAMPLE - border).astype(np.float32)
    return boxes
