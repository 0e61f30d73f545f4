"""The orientation of an image in its EXIF data."""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags, Image

# https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf, 4.6.4 A: what makes an image upright, by its orientation.
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Turning by 90 degrees is undone by turning by 270 degrees; all others undo themselves.
_OPPOSITE = {6: 8, 8: 6}

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_METADATA_CHUNKS = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
_MOST_CHUNKS = 100_000


def orientation_of(image: Image.Image) -> int:
    """The orientation in the EXIF data, 1 to 8; 1 is upright. Damaged EXIF data counts as none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation if orientation in _TO_UPRIGHT else 1
    except Exception:  # hostile EXIF data can make Pillow raise any exception
        return 1


def upright(image: Image.Image) -> Image.Image:
    """The image as a person would see it: turned and mirrored as its EXIF data says."""
    image.load()  # in some PNG files the EXIF data is behind the pixels; Pillow turns TIFF files itself
    orientation = orientation_of(image)
    return image if orientation == 1 else image.transpose(_TO_UPRIGHT[orientation])


def as_stored(image: Image.Image) -> Image.Image:
    """The image as its pixels are stored. It must not be loaded yet."""
    if image.format != "TIFF":
        return image
    orientation = orientation_of(image)
    image.load()
    return image if orientation == 1 else image.transpose(_TO_UPRIGHT[_OPPOSITE.get(orientation, orientation)])


def is_on_its_side(orientation: int) -> bool:
    """Whether width and height change their places when the image is made upright."""
    return orientation >= 5


def has_late_metadata(png: Path) -> bool:
    """Whether a PNG file may have EXIF data behind its pixels, where Pillow finds it only when it decodes the file."""
    with png.open("rb") as file:
        position = len(_PNG_SIGNATURE)
        for _ in range(_MOST_CHUNKS):
            file.seek(position)
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                return False
            if head[4:] in _METADATA_CHUNKS:
                return True
            position += 12 + int.from_bytes(head[:4], "big")
    return True
