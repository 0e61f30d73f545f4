"""The rate of a set of bitstream files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcodec import bitstream
from featcodec.bitstream.rate import bits_per_pixel
from featcodec.errors import BitstreamError


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


def rate_of_streams(paths: Sequence[Path]) -> Rate:
    """Compute the rate of `.266` files, from the file sizes and the original image sizes in the side info.

    Raises:
        BitstreamError: a file is not an intact featcodec bitstream; the message names the file.
        InputError: there are no files.
    """
    sizes = []
    for path in paths:
        data = bitstream.read_file(path)
        try:
            side_info, _ = bitstream.unpack(data)
        except BitstreamError as error:
            raise BitstreamError(f"{path}: {error}") from None
        sizes.append((len(data), side_info.original_width, side_info.original_height))
    originals = [(width, height) for _, width, height in sizes]
    return Rate(len(sizes), sum(size for size, _, _ in sizes), bits_per_pixel(sizes), originals)
