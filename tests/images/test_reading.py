"""Image files of every kind become the picture that a person sees, or one sentence that says why not."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import make_good_pictures, save_texture, texture
from PIL import Image
from refusals import refusal_of

from featcodec.errors import InputError
from featcodec.images import reading
from featcodec.images.reading import IMAGE_SUFFIXES, as_rgb, read_image
from featcodec.system.batching import Budget


def refusal(path: Path) -> str:
    message = refusal_of(InputError, path, read_image)
    assert message.count(str(path)) == 1
    return message


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int, data: bytes = b"\0" * 100) -> bytes:
    """A tiny PNG whose header claims this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def photo(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth enough for lossy formats: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack((x * 255 // width, y * 255 // height, np.full_like(x, 90)), -1)
    return Image.fromarray(pixels.astype(np.uint8))


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".pgm", ".gif"}))
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"a{suffix}", photo()))
    assert image.shape == (32, 48, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert np.abs(image.astype(int) - np.asarray(photo())).mean() < 6


def test_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(tmp_path / "a.jpg"), np.asarray(photo()))


def test_gray_becomes_rgb(tmp_path: Path) -> None:
    gray = photo().convert("L")
    for suffix in (".png", ".pgm", ".gif"):
        image = read_image(save(tmp_path / f"a{suffix}", gray))
        assert np.array_equal(image, np.repeat(np.asarray(gray)[..., None], 3, -1)), suffix


def test_bilevel_becomes_black_and_white(tmp_path: Path) -> None:
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert read_image(save(tmp_path / "a.png", bits))[..., 0].tolist() == [[0, 255], [255, 0]]


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 100, 0, 128]]], np.uint8)
    image = read_image(save(tmp_path / "a.png", Image.fromarray(pixels)))
    assert image[0, :2].tolist() == [[200, 0, 0], [255, 255, 255]]
    assert np.abs(image[0, 2].astype(int) - [227, 177, 127]).max() <= 1


def test_gray_with_transparency_lies_on_white(tmp_path: Path) -> None:
    pixels = Image.merge("LA", [Image.new("L", (2, 1), 60), Image.fromarray(np.array([[255, 0]], np.uint8))])
    assert read_image(save(tmp_path / "a.png", pixels)).tolist() == [[[60] * 3, [255] * 3]]


def test_palette_with_transparency_lies_on_white(tmp_path: Path) -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.putdata([0, 1, 2])
    for suffix in (".png", ".gif"):
        path = save(tmp_path / f"a{suffix}", palette, transparency=1)
        assert read_image(path).tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]], suffix
    assert read_image(save(tmp_path / "opaque.png", palette)).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


def test_transparent_colour_of_an_rgb_file_lies_on_white(tmp_path: Path) -> None:
    pixels = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert read_image(save(tmp_path / "a.png", pixels, transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    image = read_image(save(tmp_path / "a.jpg", inks, quality=95))
    assert image.shape == (16, 16, 3)
    assert np.abs(image[8, 8].astype(int) - [0, 255, 255]).max() < 12


def test_16_bit_gray_is_scaled(tmp_path: Path) -> None:
    samples = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for suffix in (".png", ".tif"):
        image = read_image(save(tmp_path / f"a{suffix}", Image.fromarray(samples)))
        assert image[0, :, 0].tolist() == [0, 0, 1, 128, 255], suffix
        assert (image == image[..., :1]).all()


def test_samples_without_a_range_are_refused(tmp_path: Path) -> None:
    for number, value in enumerate((70000, -1)):
        path = save(tmp_path / f"{number}.tif", Image.fromarray(np.array([[0, value]], np.int32)))
        assert "beyond 16 bits" in refusal(path)
    assert "floating-point" in refusal(save(tmp_path / "f.tif", Image.fromarray(np.zeros((2, 2), np.float32))))


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, corner: tuple[int, int], suffix: str) -> None:
    """A white patch in the stored picture's top left corner, and where a person sees it."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(save(tmp_path / f"a{suffix}", Image.fromarray(pixels), exif=exif))
    assert image.shape[:2] == ((64, 32) if orientation >= 5 else (32, 64))
    bright = {place: int(image[place].mean()) for place in ((0, 0), (0, -1), (-1, 0), (-1, -1))}
    assert max(bright, key=bright.__getitem__) == corner
    assert bright[corner] > 200
    assert sorted(bright.values())[-2] < 50


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_exif_orientation_is_ignored_where_that_is_asked_for(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = save(tmp_path / f"plain{suffix}", photo())
    path = save(tmp_path / f"a{suffix}", photo(), exif=exif)
    assert np.array_equal(read_image(path, ignore_exif=True), read_image(plain))


DAMAGED_EXIF = {
    "no entries": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 30,
    "no TIFF": b"Exif\0\0nonsense",
    "cut": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01",
    "empty": b"",
    "far away": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "two orientations": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x02\0\x01\0\x01\0\0\0\0",
    "orientation 9": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",
}


@pytest.mark.filterwarnings("ignore")  # what users see is tested below
@pytest.mark.parametrize("name", DAMAGED_EXIF)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_damaged_exif_is_no_reason_to_refuse(tmp_path: Path, suffix: str, name: str) -> None:
    path = save(tmp_path / f"a{suffix}", photo(), exif=DAMAGED_EXIF[name])
    image = read_image(path)
    assert np.array_equal(image, read_image(save(tmp_path / f"plain{suffix}", photo())))
    with Image.open(path) as opened:
        assert np.array_equal(as_rgb(opened), image)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # writing these files warns, too
def test_oddities_of_a_file_print_nothing(tmp_path: Path) -> None:
    """Pillow's own warnings do not name the file, and the pixels are right."""
    for suffix in (".jpg", ".png", ".webp"):
        for name, exif in DAMAGED_EXIF.items():
            save(tmp_path / f"{name}{suffix}", photo(), exif=exif)
    photo().save(tmp_path / "odd.tif", tiffinfo={256: (48, 48), 274: (1, 1)})
    transparent = photo().convert("P")
    transparent.save(tmp_path / "palette.png", transparency=bytes(range(256)))
    (tmp_path / "comment.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes() + b"\0" * 100)
    script = "import sys\nfrom featcodec.images.reading import read_image\nfor path in sys.argv[1:]: read_image(path)"
    paths = sorted(map(str, tmp_path.iterdir()))
    run = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True, timeout=60)
    assert (run.stdout, run.stderr) == ("", "")


def test_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "lime")]
    for suffix in (".gif", ".tif", ".webp"):
        path = save(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:])
        assert read_image(path)[0, 0].argmax() == 0, suffix


def test_multi_picture_jpeg_of_a_phone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", photo(), format="MPO", save_all=True, append_images=[photo().rotate(180)])
    assert np.abs(read_image(path).astype(int) - np.asarray(photo())).mean() < 6


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20000, 10), (10, 20000), (1, 65535), (65535, 1)])
def test_unusual_sizes(tmp_path: Path, width: int, height: int) -> None:
    image = read_image(save(tmp_path / "a.png", Image.new("RGB", (width, height), (1, 2, 3))))
    assert image.shape == (height, width, 3)
    assert (image == [1, 2, 3]).all()


@pytest.mark.parametrize(
    ("width", "height"), [(65536, 1), (1, 65536), (9460, 9460), (60000, 60000), (1 << 31, 1 << 31)]
)
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(width, height))
    refusal(tmp_path / "bomb.png")


def test_decompression_bomb_is_named(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(60000, 60000))
    assert "pixels are too many" in refusal(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp", ".jp2", ".avif"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = save(tmp_path / f"whole{suffix}", Image.fromarray(noise)).read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(data[: int(len(data) * kept)])
    assert "not a readable image" in refusal(tmp_path / f"a{suffix}")


def test_truncated_file_is_refused_also_beside_ultralytics(tmp_path: Path) -> None:
    """ultralytics changes Pillow for the whole process."""
    import featcodec.detectors  # noqa: F401

    test_truncated_file_is_refused(tmp_path, ".jpg", 0.5)


def test_empty_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert "empty file" in refusal(tmp_path / "empty.jpg")
    assert "no such file" in refusal(tmp_path / "absent.jpg")
    (tmp_path / "folder.jpg").mkdir()
    refusal(tmp_path / "folder.jpg")


NO_IMAGES = {
    "text": b"This is a text file.\n" * 10,
    "html": b"<html><body>404 Not Found</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "zip": b"PK\x03\x04" + bytes(100),
    "zeros": bytes(1000),
    "jpeg marker": b"\xff\xd8\xff\xe0",
    "png signature": b"\x89PNG\r\n\x1a\n",
    "gif signature": b"GIF89a",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(NO_IMAGES[name])
    message = refusal(tmp_path / "a.jpg")
    assert "not a readable image" in message
    assert "file the file" not in message


@pytest.mark.slow
def test_refusal_does_not_depend_on_ultralytics(tmp_path: Path) -> None:
    """ultralytics' Image.open wants to install a plugin whenever a file is no image; users get our message alone."""
    (tmp_path / "a.jpg").write_bytes(NO_IMAGES["text"])
    script = (
        "import sys, pathlib, featcodec.detectors\n"
        "from featcodec.images.reading import read_image\n"
        "try:\n    read_image(pathlib.Path(sys.argv[1]))\n"
        "except Exception as error:\n    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.jpg"], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == refusal(tmp_path / "a.jpg")
    assert "its format is not known" in run.stdout
    assert run.stderr == ""


def test_damaged_bytes_never_crash(tmp_path: Path) -> None:
    """Any damage gives a picture or an InputError."""
    rng = np.random.default_rng(7)
    outcomes = set()
    for suffix in (".jpg", ".png", ".tif", ".webp", ".gif", ".bmp"):
        buffer = io.BytesIO()
        photo().save(buffer, Image.registered_extensions()[suffix])
        whole = np.frombuffer(buffer.getvalue(), np.uint8)
        for number in range(25):
            data = whole.copy()
            data[rng.integers(0, len(data), 1 + number % 8)] = rng.integers(0, 256, 1 + number % 8)
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(data.tobytes())
            try:
                image = read_image(path)
                as_rgb(image)
                outcomes.add("read")
            except InputError as error:
                outcomes.add("refused" if str(error).startswith(f"{path}: ") else str(error))
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((65536, 1, 3), np.uint8),
        [[[1, 2, 3]]],
        None,
        "not there.jpg",
        Image.new("F", (4, 4)),
    ],
    ids=lambda image: str(getattr(image, "shape", type(image).__name__)),
)
def test_array_that_is_no_picture_is_refused(image: Any) -> None:
    with pytest.raises(InputError, match=r"image|no such file|floating-point"):
        as_rgb(image)


def test_array_that_is_a_picture_is_accepted() -> None:
    for shape in ((1, 1, 3), (65535, 1, 3), (3, 3, 3)):
        as_rgb(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "I;16"])
def test_an_image_of_pillow_is_the_same_as_its_file(tmp_path: Path, mode: str) -> None:
    values = np.arange(12 * 8 * 3, dtype=np.uint8).reshape(8, 12, 3)
    image = Image.fromarray(values).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    assert np.array_equal(as_rgb(image), read_image(path))
    assert np.array_equal(as_rgb(str(path)), read_image(path))


def test_rotation_in_exif_is_applied_to_an_image_of_pillow(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 4)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert as_rgb(image).shape == read_image(tmp_path / "a.jpg").shape == (10, 4, 3)


@pytest.mark.parametrize("pixels", [1, 1000])
def test_the_strips_of_an_image_make_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    """Whatever its kind is, and however few rows a strip has."""
    names = [*make_good_pictures(tmp_path), "clear.png", "key.png"]
    names.remove("wide.png")  # one strip per row would take a second
    Image.fromarray(texture(97, 65)).convert("P").save(tmp_path / "clear.png", transparency=3)
    Image.fromarray(texture(97, 65)).save(tmp_path / "key.png", transparency=tuple(texture(97, 65)[3, 3].tolist()))
    whole = {name: read_image(tmp_path / name) for name in names}
    monkeypatch.setattr(reading, "_STRIP_PIXELS", pixels)
    for name, expected in whole.items():
        assert np.array_equal(read_image(tmp_path / name), expected), name


def test_threads_share_what_images_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of these images are more than all threads may hold together. So one is read after the other."""
    monkeypatch.setattr(reading, "_being_read", Budget(64 * 64 + 1))
    lock, held = threading.Lock(), []

    def hold(path: Path) -> int:
        with reading.reading(path) as pixels:
            with lock:
                held.append(path)
                assert held == [path]
            time.sleep(0.01)
            with lock:
                held.remove(path)
            return pixels.size

    paths = [save_texture(tmp_path / f"{number}.png", 64, 64) for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(hold, paths)) == [64 * 64 * 3] * 6
