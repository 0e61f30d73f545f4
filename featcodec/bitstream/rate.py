"""Rate: the only definition of bits per pixel in featcodec."""

from __future__ import annotations

from collections.abc import Iterable

from featcodec.errors import InputError


def bits_per_pixel(sizes: Iterable[tuple[int, int, int]]) -> float:
    """Bits per pixel of the ORIGINAL images over a whole set: 8 * sum of bytes / sum of width * height.

    Args:
        sizes: per image (bytes of its whole file, original width, original height). All bytes of the file count, also
            the side info.

    Raises:
        InputError: there is no image, or the images have no pixels.
    """
    total_bytes = total_pixels = 0
    for file_bytes, width, height in sizes:
        total_bytes += file_bytes
        total_pixels += width * height
    if total_pixels == 0:
        raise InputError("bits per pixel are undefined without pixels; give at least one stream")
    return 8 * total_bytes / total_pixels
