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
    """Bytes and bits per pixel over a set.

    Attributes:
        streams: how many files.
        bytes: all their bytes.
        bpp: bits per pixel of the original pictures.
    """

    streams: int
    bytes: int
    bpp: float


def rate_of_streams(paths: Sequence[Path]) -> Rate:
    """The rate of `.266` files, from their sizes and the original sizes that their side_infos give.

    Raises:
        BitstreamError: one is no intact featcodec bitstream; the message names it.
        InputError: there is none.
    """
    sizes = []
    for path in paths:
        data = bitstream.read_file(path)
        try:
            side_info, _ = bitstream.unpack(data)
        except BitstreamError as error:
            raise BitstreamError(f"{path}: {error}") from None
        sizes.append((len(data), side_info.original_width, side_info.original_height))
    return Rate(len(sizes), sum(size for size, _, _ in sizes), bits_per_pixel(sizes))
