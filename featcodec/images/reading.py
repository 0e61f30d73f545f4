"""Reads image files that may hold anything: every mode becomes RGB, and every failure becomes a one-line error."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from featcodec.errors import FeatcodecError, InputError
from featcodec.images.libtiff import silence_libtiff
from featcodec.images.orientation import as_stored, upright
from featcodec.system.addresses import path_of
from featcodec.system.batching import Budget
from featcodec.system.elsewhere import Elsewhere

ImageLike: TypeAlias = "str | Path | Image.Image | npt.NDArray[np.uint8]"
"""An image in any form that the Python API takes: a path, a PIL image, or a (height, width, 3) uint8 RGB array."""

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
MAX_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs: 256 MiB of RGB."""
MAX_SIDE = 0xFFFF

Image.init()
# Formats that are used for photographs and need no external program. Pillow knows riskier formats. Which of these
# formats Pillow can read depends on its build.
_SAFE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "JPEG2000", "PPM", "TIFF")
_FORMATS = tuple(name for name in _SAFE_FORMATS if name in Image.OPEN)
_OBJECT = re.compile(r"<_io\.BufferedReader[^>]*>")
"""An open file, as Pillow's messages name it."""
_PAPER_WHITE = (255, 255, 255)
_STRIP_PIXELS = 1 << 20
_HEAD_BYTES = 32 << 10

_being_read = Budget(MAX_PIXELS)
"""Pixels of the images that all threads are reading now: several small images, or one of the largest."""
if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_being_read.reset)

# `read_image` refuses the images that this warning is about.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What Pillow warns about while it reads (oddities in EXIF data or in a TIFF file) does not change the pixels, and its
# warnings do not name the file.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_image(path: str | Path, *, ignore_exif: bool = False) -> npt.NDArray[np.uint8]:
    """The image in a file, as a person would see it.

    EXIF rotation is applied; damaged EXIF data counts as none. 16-bit samples are scaled to 8 bits. Gray and CMYK
    become RGB. Transparent images are put on white. If the file has several frames, the first frame is used. Colour
    profiles are ignored, because the detectors were trained without them.

    Args:
        path: the file.
        ignore_exif: take the pixels as they are stored, without EXIF rotation.

    Returns:
        (height, width, 3) uint8 RGB in [0, 255].

    Raises:
        InputError: the file is not an image, is truncated or damaged, or the image has over 89 million pixels or over
            65,535 pixels per side.
    """
    with reading(path, ignore_exif=ignore_exif) as pixels:
        return pixels


@contextlib.contextmanager
def reading(path: str | Path, *, ignore_exif: bool = False) -> Iterator[npt.NDArray[np.uint8]]:
    """`read_image`, for a block that needs the image only for a moment, for example to make it smaller.

    The threads of this process together hold only so many pixels in such blocks as the largest image has. A thread that
    wants more waits before it decodes. So a block must not read another image.

    Raises:
        InputError: as in `read_image`.
    """
    with contextlib.ExitStack() as held:
        yield _read(path_of(path), held, ignore_exif=ignore_exif)


def _read(path: Path, held: contextlib.ExitStack, *, ignore_exif: bool) -> npt.NDArray[np.uint8]:
    with opened(path) as image:
        held.enter_context(_being_read.holding(image.width * image.height))
        return _to_rgb(as_stored(image) if ignore_exif else upright(image), path)


@contextlib.contextmanager
def opened(path: Path, *, head: bool = False) -> Iterator[Image.Image]:
    """Open an image file whose size is within bounds. What goes wrong in the block becomes an InputError, too.

    Args:
        path: the file.
        head: only the beginning of the file is needed; of an object, no more than that is transferred.

    Raises:
        InputError: the same cases as in `read_image`.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a regular file; give image files or folders")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: empty file; copy the image again")
        with _openable(path, head=head) as file, Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                raise InputError(f"{path}: {image.width}x{image.height} pixels are too many; make the image smaller")
            if image.format == "TIFF":
                silence_libtiff()
            yield image
    except FeatcodecError as error:
        raise InputError(str(error)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{path}: over {MAX_PIXELS} pixels are too many; make the image smaller") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read it; change the permissions of the file") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{path}: not a readable image (its format is not known, or it is damaged); copy or convert it again"
        ) from None
    except Exception as error:  # a hostile file can make a decoder raise any exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason.replace(f" {str(path)!r}", " the file").replace(str(path), "the file")
        reason = _OBJECT.sub("the file", reason)
        raise InputError(f"{path}: not a readable image ({reason}); copy or convert it again") from None


@contextlib.contextmanager
def _openable(path: Path, *, head: bool) -> Iterator[Path | IO[bytes]]:
    """What Pillow opens: a path, or an open file that is not on this machine."""
    if not isinstance(path, Elsewhere):
        yield path
        return
    with path.open("rb", _HEAD_BYTES if head else -1) as file:
        yield file


def as_rgb(image: ImageLike) -> npt.NDArray[np.uint8]:
    """Turn an image in any form that the Python API takes into an array.

    Args:
        image: a path, which `read_image` reads; a PIL image, which is treated like the image in a file; or a
            (height, width, 3) uint8 RGB array in [0, 255], which is returned as it is.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        InputError: the image has none of these forms, cannot be read, or has a side of 0 or over 65,535 pixels.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        _check_size(*image.size)
        try:
            return _to_rgb(upright(image), "the image")
        except InputError:
            raise
        except (OSError, SyntaxError, ValueError) as error:  # Pillow reads the file only now, and it may be damaged
            raise InputError(f"the image cannot be read ({error}); copy or convert it again") from None
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"an image is a path, a PIL image or a (height, width, 3) uint8 RGB array, not {got}")
    _check_size(image.shape[1], image.shape[0])
    return image


def _check_size(width: int, height: int) -> None:
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InputError(f"an image of {width}x{height} pixels cannot be coded; use 1 to {MAX_SIDE} pixels per side")


def _to_rgb(image: Image.Image, path: Path | str) -> npt.NDArray[np.uint8]:
    """The image as an array, made strip by strip: every further copy of the whole image would be as large again."""
    if image.mode == "F":
        raise InputError(f"{path}: floating-point samples have no fixed range; convert the image to 8 or 16 bits")
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    is_transparent = image.has_transparency_data
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = _strip_to_rgb(strip, path, is_transparent=is_transparent)
    return pixels


def _strip_to_rgb(strip: Image.Image, path: Path | str, *, is_transparent: bool) -> npt.NDArray[np.uint8]:
    if strip.mode.startswith("I"):
        return _from_16_bits(np.asarray(strip), path)
    if is_transparent:
        overlay = strip.convert("RGBA")
        strip = Image.new("RGB", overlay.size, _PAPER_WHITE)
        strip.paste(overlay, mask=overlay.getchannel("A"))
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _from_16_bits(samples: npt.NDArray[np.integer[Any]], path: Path | str) -> npt.NDArray[np.uint8]:
    if samples.min() < 0 or samples.max() > 0xFFFF:
        raise InputError(f"{path}: samples beyond 16 bits have no fixed range; convert the image to 8 or 16 bits")
    gray = (samples >> 8).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)
