"""Damaged image files of every format that featcodec reads. A PNG is also damaged below checksums that are right."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from mutate import damage_bytes
from pictures import texture
from PIL import Image, features
from targets import READ, REFUSED, WrongError, refused_or

from featcodec.images.letterbox import Letterbox
from featcodec.images.reading import MAX_SIDE, read_image

_SIZE = (48, 32)


class Images:
    """See `targets.Target`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._originals = _originals()

    def run(self, rng: random.Random) -> str:
        """See `targets.Target.run`."""
        suffix, data = rng.choice(self._originals)
        other = rng.choice(self._originals)[1]
        is_below_checksums = suffix == ".png" and rng.random() < 0.6
        data = _damage_chunks(rng, data) if is_below_checksums else damage_bytes(rng, data, other)
        path = self._folder / f"case{suffix}"
        path.write_bytes(data)
        pixels = refused_or(lambda: read_image(path))
        if pixels is None:
            return REFUSED
        height, width = pixels.shape[:2]
        if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8 or not 0 < max(height, width) <= MAX_SIDE:
            raise WrongError(f"an image of {pixels.shape}, {pixels.dtype}")
        letterbox = Letterbox.fit(width, height, 64)
        if letterbox.apply(pixels).shape != (letterbox.height, letterbox.width, 3):
            raise WrongError("the letterbox has another size than it says")
        return READ


def _originals() -> list[tuple[str, bytes]]:
    base = Image.fromarray(texture(*_SIZE))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x829A] = 6, "a picture", (1, 50)
    alpha = base.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(_SIZE))
    deep = Image.fromarray((np.arange(_SIZE[0] * _SIZE[1], dtype=np.uint16) * 40).reshape(_SIZE[1], _SIZE[0]))
    frames = [Image.fromarray(texture(*_SIZE, seed)) for seed in (1, 2)]
    made = [
        _file(".jpg", base, exif=exif.tobytes(), quality=90),
        _file(".jpg", base.convert("CMYK"), progressive=True),
        _file(".jpg", base.convert("L"), exif=exif.tobytes()),
        *(
            _file(".png", image, exif=exif.tobytes())
            for image in (base, alpha, base.convert("P"), base.convert("1"), deep)
        ),
        _file(".webp", base, exif=exif.tobytes()),
        _file(".webp", alpha, lossless=True, save_all=True, append_images=frames),
        _file(".gif", base.convert("P"), save_all=True, append_images=frames, transparency=3),
        _file(".bmp", base),
        _file(".ppm", base),
        *(_file(".tif", image, compression=kind) for image, kind in _tiffs(base, deep)),
    ]
    made += [_file(".jp2", base)] if features.check("jpg_2000") else []
    made += [_file(".avif", base)] if features.check("avif") else []
    return made


def _tiffs(base: Image.Image, deep: Image.Image) -> list[tuple[Image.Image, str]]:
    kinds = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return [*((base, kind) for kind in kinds), (deep, "raw"), (base.convert("1"), "group4")]


def _file(suffix: str, image: Image.Image, **options: object) -> tuple[str, bytes]:
    file = io.BytesIO()
    kind = {".jpg": "JPEG", ".tif": "TIFF", ".jp2": "JPEG2000"}.get(suffix, suffix[1:].upper())
    image.save(file, kind, **options)
    return suffix, file.getvalue()


def _damage_chunks(rng: random.Random, png: bytes) -> bytes:
    """A PNG whose chunks are damaged, repeated, moved or gone, each with a checksum that is right."""
    chunks, place = [], 8
    while place + 8 <= len(png):
        (length,) = struct.unpack_from(">I", png, place)
        chunks.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += 12 + length
    number = rng.randrange(len(chunks))
    kind, body = chunks[number]
    what = rng.random()
    if what < 0.4:
        chunks[number] = (kind, damage_bytes(rng, body))
    elif what < 0.55 and kind == b"IDAT":
        chunks[number] = (kind, zlib.compress(damage_bytes(rng, zlib.decompress(body)) * rng.choice((1, 1, 1000))))
    elif what < 0.7:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[rng.randrange(len(chunks))])
    elif what < 0.8:
        chunks.insert(rng.randrange(len(chunks)), chunks.pop(number))
    elif what < 0.9:
        body = rng.choice((b"", b"\0" * 8, rng.randbytes(40), b"x\0" + zlib.compress(b"y" * 100_000)))
        chunks.insert(rng.randrange(1, len(chunks)), (rng.choice(_CHUNKS), body))
    else:
        del chunks[number]
    return png[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


_CHUNKS = (
    *(b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"tEXt", b"pHYs"),
    *(b"acTL", b"fcTL", b"fdAT"),
)
