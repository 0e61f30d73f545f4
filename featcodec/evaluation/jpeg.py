"""JPEG by Pillow: the anchor that everybody has."""

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
    """One baseline JPEG file with optimized Huffman tables.

    Args:
        picture: (height, width, 3) uint8 RGB.
        quality: of libjpeg, 1 (smallest) to 100.
        subsampling: one of `SUBSAMPLINGS`.

    Raises:
        InputError: the quality or the subsampling is none of these.
    """
    if not 1 <= quality <= 100:
        raise InputError(f"JPEG quality {quality} is outside 1..100")
    if subsampling not in SUBSAMPLINGS:
        raise InputError(f"unknown subsampling {subsampling!r}; choose one of {', '.join(SUBSAMPLINGS)}")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
    return file.getvalue()


def decode_jpeg(data: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The RGB picture of a JPEG file, which has to be of this (height, width).

    Raises:
        BitstreamError: it is none of that size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if (image.height, image.width) != shape:
                raise BitstreamError(f"holds a picture of {image.size}, not {shape[::-1]}")
            return np.array(image.convert("RGB"))
    except OSError as error:
        raise BitstreamError(f"its JPEG picture does not decode ({error}); encode it again") from None


def scan_bytes(data: bytes) -> int:
    """Bytes of the entropy-coded scan: what follows the last header, without the end marker.

    Args:
        data: a baseline JPEG file of one scan.

    Raises:
        BitstreamError: it has no scan.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        length = 0 if marker in _NO_LENGTH else int.from_bytes(data[position + 2 : position + 4], "big")
        position += 2 + length
        if marker == _START_OF_SCAN:
            return len(data) - position - 2
    raise BitstreamError("holds no JPEG scan")
