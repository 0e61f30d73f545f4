"""The pictures of attacks: where they go, that they destroy nothing, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcodec.bitstream import STREAM_SUFFIXES
from featcodec.errors import InputError, OutputError
from featcodec.images.letterbox import Letterbox, Letterboxed
from featcodec.images.reading import reading
from featcodec.privacy.attack import Picture
from featcodec.system.paths import Source, resolved

SIDE_BY_SIDE_FOLDER = "side-by-side"
_PICTURE_SUFFIX = ".png"


def is_stream(source: Source) -> bool:
    """Whether a source is treated as a bitstream. Every other source is treated as an image."""
    return source.path.suffix.lower() in STREAM_SUFFIXES


def picture_path(source: Source, folder: Path) -> Path:
    """Return the path for a reconstruction: the same relative path, with the suffix .png."""
    return folder / source.relative.with_suffix(_PICTURE_SUFFIX)


def side_by_side_path(source: Source, folder: Path) -> Path:
    """Return the path for the picture that shows original and reconstructions side by side."""
    return picture_path(source, folder / SIDE_BY_SIDE_FOLDER)


def check_outputs(outputs: Iterable[Path], folder: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Check, before any computation, that pictures can be written into a folder and destroy no file.

    Args:
        outputs: the pictures.
        folder: the folder that they are in.
        inputs: files that must stay.
        overwrite: whether pictures that exist may be replaced.

    Raises:
        OutputError: as in `check_pictures`.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is not a folder; choose another `output`")
    protected = {resolved(path) for path in inputs}
    planned: set[str] = set()
    for output in outputs:
        if resolved(output) in protected:
            raise OutputError(f"{output}: is an original, which would be overwritten; choose another `output`")
        if str(output).casefold() in planned:
            raise OutputError(f"{output}: two pictures would have this name; rename the folder {SIDE_BY_SIDE_FOLDER}")
        planned.add(str(output).casefold())
        if output.exists() and not overwrite:
            raise OutputError(f"{output}: exists; use `overwrite` or another `output`")


def letterboxed_original(path: Path, letterbox: Letterbox, *, ignore_exif: bool) -> Letterboxed:
    """Read the original of a bitstream and fit it into the bitstream's letterbox.

    Raises:
        InputError: it cannot be read, or has another size than the image that was coded.
    """
    with reading(path, ignore_exif=ignore_exif) as image:
        if image.shape[:2] != (letterbox.original_height, letterbox.original_width):
            raise InputError(
                f"is from an image of {letterbox.original_width}x{letterbox.original_height}, but {path} has "
                f"{image.shape[1]}x{image.shape[0]} pixels; give the `originals` of these files, read "
                "in the same way (`ignore_exif`)"
            )
        return Letterboxed(letterbox, letterbox.apply(image))


def to_pixels(picture: Picture) -> npt.NDArray[np.uint8]:
    """Convert a reconstruction to (height, width, 3) uint8 RGB."""
    return np.rint(picture * 255).astype(np.uint8)
