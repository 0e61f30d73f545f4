"""Crops of number plates to train a reader on. They are degraded at random, as much as by an attack and more.

The crops of a step, and how they are degraded, depend on (seed, step) alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import cv2
import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError
from featcodec.images.names import match_originals
from featcodec.images.reading import read_image
from featcodec.privacy.plate_reader import CROP_HEIGHT, CROP_WIDTH, cut_plates
from featcodec.privacy.private_details import PrivateDetails, readable_plates
from featcodec.privacy.readers import Pixels

Picture = npt.NDArray[np.float32]

_CONTEXT = 1.5
"""Crops are this much larger than the reader's crops, so that shifted and turned crops show real surroundings."""
_INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC)
_CLEAN = 0.15
"""Share of plates that are only moved."""
_OF_RECONSTRUCTIONS = 0.2
"""How strongly reconstructions are degraded. The attack has degraded them already, and little is left to learn from."""
_MOST_BLUR = 5.0
_MOST_NOISE = 40.0
_LEAST_SIZE = 0.2


@dataclass(frozen=True, eq=False)
class PlateCrops:
    """Plates in memory, 28 KiB each.

    Attributes:
        images: (N, 48, 192, 3) uint8 RGB: crops that are 1.5 times as wide and high as the reader's.
        texts: the text of each plate.
        strengths: (N,) float, how strongly each plate is degraded at most, in [0, 1].
    """

    images: Pixels
    texts: Sequence[str]
    strengths: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def plain(self) -> Pixels:
        """(N, 32, 128, 3) uint8 RGB: the crops that a reader gets, not degraded."""
        top, left = (self.images.shape[1] - CROP_HEIGHT) // 2, (self.images.shape[2] - CROP_WIDTH) // 2
        return self.images[:, top : top + CROP_HEIGHT, left : left + CROP_WIDTH]


def read_plate_crops(details: PrivateDetails, folders: Sequence[Path], held_out: int) -> tuple[PlateCrops, PlateCrops]:
    """Cut out the readable plates of a set: those to train on, and those to hold out.

    Args:
        details: what the images show; may list more images than there are.
        folders: folders of the images, which are matched by name without ending. The first folder has the originals.
            The others have the same images as an attacker reconstructed them, in any size; images may be missing.
        held_out: number of images with readable plates to hold out. They are spread over the first folder's images
            and held out in all folders.

    Raises:
        InputError: a folder has none of the images, an image is unreadable, or all images would be held out.
    """
    plates = {name: readable_plates(found) for name, found in details.by_name.items()}
    names = [name for name in plates if plates[name]]
    sizes: dict[PurePath, tuple[int, int]] = {}
    apart: set[PurePath] = set()
    parts: tuple[list[tuple[Pixels, list[str], float]], ...] = ([], [])
    for number, folder in enumerate(folders):
        images = match_originals(names, folder)
        present = [name for name in names if name in images and (number == 0 or name in sizes)]
        if not present:
            raise InputError(f"{folder}: holds none of the images of {details.path} that show plates; check `images`")
        if number == 0:
            if not 0 <= held_out < len(present):
                raise InputError(f"{folder}: has {len(present)} images with readable plates; hold out fewer")
            apart = {present[index * len(present) // held_out] for index in range(held_out)}
        for name in present:
            picture = read_image(images[name])
            # The boxes are in the pixels of the first folder's images.
            size = sizes.setdefault(name, (picture.shape[1], picture.shape[0]))
            boxes = [plate.box for plate in plates[name]]
            crops = cut_plates(picture, boxes, size, context=_CONTEXT)
            strength = _OF_RECONSTRUCTIONS if number else 1.0
            parts[name in apart].append((crops, [plate.text for plate in plates[name]], strength))
    return _joined(parts[0]), _joined(parts[1])


def training_batches(
    crops: PlateCrops, batch_size: int, steps: range, seed: int, *, rank: int = 0
) -> Iterator[tuple[Pixels, list[str]]]:
    """Degraded crops and their texts, one batch per step.

    Args:
        crops: crops to draw from.
        batch_size: crops per batch.
        steps: numbers of the steps.
        seed: at least 0.
        rank: number of this process.

    Yields:
        (batch_size, 32, 128, 3) uint8 RGB, and the texts.
    """
    for step in steps:
        rng = np.random.default_rng((seed, step, rank))
        chosen = rng.integers(len(crops), size=batch_size)
        images = np.stack([degrade(crops.images[index], rng, crops.strengths[index]) for index in chosen])
        yield images, [crops.texts[index] for index in chosen]


def degrade(crop: Pixels, rng: np.random.Generator, most: float = 1.0) -> Pixels:
    """A crop of `PlateCrops` as the reader may meet it.

    The crop is shifted, turned and seen in perspective. About one crop in seven stays like that. The colours and the
    contrast of the others change. By chance, they are also blurred, scaled down and up, given noise and compressed.
    Each change is weak or strong.

    Args:
        crop: (48, 192, 3) uint8 RGB.
        rng: source of the random numbers.
        most: largest strength, in [0, 1].

    Returns:
        (32, 128, 3) uint8 RGB.
    """
    image = _moved(crop, rng)
    if rng.random() < _CLEAN:
        return image
    # All changes have one strength, so that many crops are degraded in several ways but can still be read.
    strength = rng.random() * most
    picture = _coloured(image.astype(np.float32), rng, strength)
    for change in rng.permutation(4):
        if rng.random() < 0.5:
            picture = (_blurred, _rescaled, _noisy, _compressed)[change](picture, rng, strength)
    return _as_pixels(picture)


def _joined(parts: Sequence[tuple[Pixels, list[str], float]]) -> PlateCrops:
    shape = 0, round(CROP_HEIGHT * _CONTEXT), round(CROP_WIDTH * _CONTEXT), 3
    images = np.concatenate([np.empty(shape, np.uint8), *(crops for crops, _, _ in parts)])
    strengths = np.array([strength for _, texts, strength in parts for _ in texts], np.float64)
    return PlateCrops(images, [text for _, texts, _ in parts for text in texts], strengths)


def _moved(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """The reader's part of a crop with moved corners: all together (shift, turn, size), and each corner alone."""
    height, width = crop.shape[:2]
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (CROP_WIDTH / 2, CROP_HEIGHT / 2)
    angle = np.radians(rng.normal(0, 2.5))
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    scale = rng.uniform((0.88, 0.85), (1.15, 1.2))
    shift = rng.normal(0, (CROP_WIDTH * 0.025, CROP_HEIGHT * 0.05))
    single = rng.normal(0, (CROP_WIDTH * 0.01, CROP_HEIGHT * 0.03), (4, 2))
    source = corners * scale @ turn.T + shift + single + (width / 2, height / 2)
    target = corners + np.array((CROP_WIDTH / 2, CROP_HEIGHT / 2))
    # Half a pixel: OpenCV counts from the centres of pixels.
    matrix = cv2.getPerspectiveTransform((source - 0.5).astype(np.float32), (target - 0.5).astype(np.float32))
    flags = _INTERPOLATIONS[int(rng.integers(0, 2)) * 2]
    moved = cv2.warpPerspective(crop, matrix, (CROP_WIDTH, CROP_HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _coloured(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    """Less contrast, another brightness, a colour cast."""
    contrast = np.float32(rng.uniform(1 - 0.8 * strength, 1.2))
    shift = rng.normal(0, 30 * strength) + rng.normal(0, 12 * strength, 3)
    mean = picture.mean((0, 1))
    changed: Picture = (picture - mean) * contrast + mean + shift.astype(np.float32)
    return changed


def _blurred(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    """Gaussian blur, often wider in one direction; then sometimes sharpened, because reconstructions overshoot."""
    across = rng.uniform(0.3, 0.3 + _MOST_BLUR * strength)
    down = across * rng.uniform(0.6, 1.4)
    blurred = cv2.GaussianBlur(picture, (0, 0), sigmaX=across, sigmaY=down)
    if rng.random() < 0.2:
        blurred += (blurred - cv2.GaussianBlur(blurred, (0, 0), sigmaX=2 * across)) * rng.uniform(0.3, 1.5)
    return np.asarray(blurred, np.float32)


def _rescaled(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    size = 1 - rng.uniform(0, 1 - _LEAST_SIZE) * strength
    small = max(12, round(CROP_WIDTH * size)), max(6, round(CROP_HEIGHT * size * rng.uniform(0.85, 1.15)))
    down, up = (_INTERPOLATIONS[index] for index in rng.integers(0, 3, 2))
    reduced = cv2.resize(picture, small, interpolation=down)
    return np.asarray(cv2.resize(reduced, (CROP_WIDTH, CROP_HEIGHT), interpolation=up), np.float32)


def _noisy(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    """Noise of single pixels, or of patches."""
    patch = int(rng.integers(1, 5))
    shape = (-(-CROP_HEIGHT // patch), -(-CROP_WIDTH // patch), 3)
    noise = rng.standard_normal(shape, np.float32) * np.float32(rng.uniform(0, _MOST_NOISE) * strength)
    if rng.random() < 0.5:
        noise[:] = noise[:, :, :1]
    if patch > 1:
        noise = np.asarray(cv2.resize(noise, (CROP_WIDTH, CROP_HEIGHT)), np.float32)
    noisy: Picture = picture + noise
    return noisy


def _compressed(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    quality = round(95 - 85 * strength * rng.random())
    _, data = cv2.imencode(".jpg", _as_pixels(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32)


def _as_pixels(picture: Picture) -> Pixels:
    pixels: Pixels = np.rint(picture.clip(0, 255)).astype(np.uint8)
    return pixels
