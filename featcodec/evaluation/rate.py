"""The rate of a set of bitstream files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcodec import bitstream
from featcodec.bitstream.rate import bits_per_pixel
from featcodec.errors import BitstreamError, one_line
from featcodec.images.annotations import Note, no_note
from featcodec.system.batching import map_reading


@dataclass(frozen=True)
class Rate:
    """Bytes and bits per pixel of a set.

    Attributes:
        streams: number of files.
        bytes: size of all files together.
        bpp: bits per pixel of the original pictures.
        sizes: (width, height) of each original picture, in the order of the files.
    """

    streams: int
    bytes: int
    bpp: float
    sizes: Sequence[tuple[int, int]] = ()


def rate_of_streams(paths: Sequence[Path], note: Note = no_note) -> Rate:
    """Compute the rate of `.266` files, from the file sizes and the original image sizes in the side info.

    Args:
        paths: the files.
        note: is told about each file, if several are not intact.

    Raises:
        BitstreamError: files are not intact featcodec bitstreams. The message names the file, if it is only one.
        InputError: there are no files.
    """
    found = list(map_reading(_size_of, paths))
    sizes = [size for size in found if not isinstance(size, str)]
    damaged = [line for line in found if isinstance(line, str)]
    if len(damaged) == 1:
        raise BitstreamError(damaged[0])
    if damaged:
        for line in damaged:
            note(line)
        raise BitstreamError(
            f"{len(damaged)} of {len(paths)} bitstreams cannot be read, so there is no rate; encode these images again"
        )
    originals = [(width, height) for _, width, height in sizes]
    return Rate(len(sizes), sum(size for size, _, _ in sizes), bits_per_pixel(sizes), originals)


def _size_of(path: Path) -> tuple[int, int, int] | str:
    """Bytes, width and height; or one line that says what is wrong with the file."""
    try:
        data = bitstream.read_file(path)
        side_info, _ = bitstream.unpack(data)
    except BitstreamError as error:
        return one_line(error, path)
    return len(data), side_info.original_width, side_info.original_height
