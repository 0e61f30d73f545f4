"""JPEG by Pillow: an anchor that is available everywhere."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec.errors import BitstreamError, InputError

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
_START_OF_SCAN = 0xDA
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def encode_jpeg(picture: npt.NDArray[np.uint8], quality: int, subsampling: str = "4:2:0") -> bytes:
    """Encode a picture as a baseline JPEG file with optimized Huffman tables.

    Args:
        picture: (height, width, 3) uint8 RGB.
        quality: quality of libjpeg, 1 (smallest file) to 100.
        subsampling: one of `SUBSAMPLINGS`.

    Raises:
        InputError: the quality is out of range, or the subsampling is not in the list.
    """
    if not 1 <= quality <= 100:
        raise InputError(f"JPEG quality {quality} is outside 1..100")
    if subsampling not in SUBSAMPLINGS:
        raise InputError(f"unknown subsampling {subsampling!r}; choose one of {', '.join(SUBSAMPLINGS)}")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
    return file.getvalue()


def decode_jpeg(data: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Decode a JPEG file to an RGB picture. The picture must have this (height, width).

    Raises:
        BitstreamError: the data is not a JPEG picture, or the picture has another size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if (image.height, image.width) != shape:
                raise BitstreamError(f"holds a picture of {image.size}, not {shape[::-1]}")
            return np.array(image.convert("RGB"))
    except OSError as error:
        raise BitstreamError(f"its JPEG picture does not decode ({error}); encode it again") from None


def scan_bytes(data: bytes) -> int:
    """Count the bytes of the entropy-coded scan: all bytes after the last header, without the end marker.

    Args:
        data: a baseline JPEG file with one scan.

    Raises:
        BitstreamError: the file has no scan.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        length = 0 if marker in _NO_LENGTH else int.from_bytes(data[position + 2 : position + 4], "big")
        position += 2 + length
        if marker == _START_OF_SCAN:
            return len(data) - position - 2
    raise BitstreamError("holds no JPEG scan")
