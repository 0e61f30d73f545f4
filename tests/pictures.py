"""Pictures of every awkward kind, made on the spot."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth, coloured (height, width, 3) uint8 picture with edges in it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(5, 40) + y / rng.uniform(5, 40) + phase) for phase in range(3)]
    image = np.stack(waves, axis=-1) * 60 + 128
    image[height // 4 : height // 2, width // 4 : width // 2] += 60
    return np.clip(image, 0, 255).astype(np.uint8)


def save_texture(path: Path, width: int = 160, height: int = 120, seed: int = 0) -> Path:
    """Write a texture as JPEG or PNG, by the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(texture(width, height, seed)).save(path)
    return path


def make_good_pictures(folder: Path) -> list[str]:
    """Readable pictures of unusual kinds; returns their file names."""
    folder.mkdir(parents=True, exist_ok=True)
    base = Image.fromarray(texture(96, 64))
    base.convert("L").save(folder / "gray.png")
    with_alpha = base.convert("RGBA")
    with_alpha.putalpha(Image.linear_gradient("L").resize(base.size))
    with_alpha.save(folder / "rgba.png")
    base.convert("CMYK").save(folder / "cmyk.jpg")
    base.convert("P").save(folder / "palette.gif")
    Image.fromarray(np.arange(96 * 64, dtype=np.uint16).reshape(64, 96) * 10).save(folder / "gray16.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    base.save(folder / "rotated.jpg", exif=exif)
    base.resize((1, 1)).save(folder / "one.png")
    Image.fromarray(texture(20_000, 20)).save(folder / "wide.png")
    base.save(folder / "name with spaces.é.webp")
    return sorted(path.name for path in folder.iterdir())


def make_bad_pictures(folder: Path) -> list[str]:
    """Files that are not readable pictures; returns their file names."""
    folder.mkdir(parents=True, exist_ok=True)
    save_texture(folder / "whole.jpg")
    data = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("this is no picture")
    (folder / "bomb.png").write_bytes(png_header(60_000, 60_000))
    return sorted(path.name for path in folder.iterdir())


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
