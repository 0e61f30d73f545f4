"""Sizes of images and of annotations: what differs is refused, with the remedy that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import texture
from PIL import Image

from featcodec.errors import InputError
from featcodec.images.annotations import Annotations
from featcodec.images.reading import read_image
from featcodec.images.sizes import FileSize, check_files, difference, reaching_out, read_size


def save(path: Path, orientation: int = 1, size: tuple[int, int] = (48, 32), **options: Any) -> Path:
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    Image.fromarray(texture(*size)).save(path, exif=exif, **options)
    return path


def listed(*sizes: tuple[Any, Any] | None) -> Annotations:
    images = [
        {"id": number, "file_name": f"{number}.jpg", **({} if size is None else {"width": size[0], "height": size[1]})}
        for number, size in enumerate(sizes)
    ]
    return Annotations(Path("truth.json"), {"images": images, "annotations": [], "categories": []})


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("ignore_exif", [False, True])
def test_the_size_is_that_of_the_image_that_is_read(
    tmp_path: Path, orientation: int, suffix: str, ignore_exif: bool
) -> None:
    path = save(tmp_path / f"a{suffix}", orientation)
    size = read_size(path)
    assert size == FileSize((48, 32), orientation)
    assert size.read_as(ignore_exif=ignore_exif) == read_image(path, ignore_exif=ignore_exif).shape[1::-1]


def test_exif_data_behind_the_pixels_of_a_png_is_found(tmp_path: Path) -> None:
    data = save(tmp_path / "a.png", 6, dpi=(72, 72)).read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    (tmp_path / "late.png").write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    assert read_size(tmp_path / "late.png") == FileSize((48, 32), 6)
    assert read_image(tmp_path / "late.png").shape == (48, 32, 3)


def test_a_size_of_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"a\.jpg: not a readable image"):
        read_size(tmp_path / "a.jpg")


@pytest.mark.parametrize("is_listed", [True, False])
def test_boxes_that_reach_out_of_their_images_are_noted(tmp_path: Path, is_listed: bool) -> None:
    """Without listed sizes, nothing else tells that boxes were drawn on an image that was larger, or turned."""
    paths = [save(tmp_path / f"{number}.jpg") for number in range(3)]
    annotations = listed(*[(48, 32) if is_listed else None] * 3)
    annotations.content["annotations"] = [{"image_id": number, "bbox": [4, 4, 30 * number, 20]} for number in range(3)]
    (note,) = check(paths, annotations)
    assert "truth.json: boxes reach out of 1 of 3 images (the first is image 2 of 48x32)" in note
    assert check(paths[:2], annotations) == []
    annotations.content["annotations"][2]["bbox"] = [0, 0, 49, 33]  # rounded
    assert check(paths, annotations) == []


def check(paths: list[Path], annotations: Annotations, **options: Any) -> list[str]:
    notes: list[str] = []
    check_files(annotations, enumerate(paths), notes.append, **{"ignore_exif": False, **options})
    return notes


def test_boxes_on_stored_pixels_are_noticed_and_the_remedy_is_named(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.jpg", orientation) for number, orientation in enumerate((1, 6, 8))]
    annotations = listed((48, 32), (48, 32), (48, 32))
    for fractions in (False, True):
        with pytest.raises(
            InputError, match=r"^truth\.json: lists other sizes than 2 of 3 images have \(.*1\.jpg: "
        ) as e:
            check(paths, annotations, fractions=fractions)
        assert "listed as 48x32, read as 32x48), so their boxes were drawn on the pixels as they are stored" in str(
            e.value
        )
        assert str(e.value).endswith("; use `ignore_exif`")
        assert check(paths, annotations, fractions=fractions, ignore_exif=True) == []
        turned = listed((48, 32), (32, 48), (32, 48))
        assert check(paths, turned, fractions=fractions) == []
        with pytest.raises(InputError, match=r"drawn on turned images; leave `ignore_exif` out$"):
            check(paths, turned, fractions=fractions, ignore_exif=True)


def test_nearly_square_images_are_no_exception(tmp_path: Path) -> None:
    path = save(tmp_path / "0.jpg", 6, (48, 47))
    with pytest.raises(InputError, match=r"use `ignore_exif`$"):
        check([path], listed((48, 47)), fractions=True)


@pytest.mark.parametrize("size", [(96, 64), (24, 16), (49, 33)])
def test_resized_images_fit_boxes_in_fractions_only(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(tmp_path / "0.jpg", size=size)
    with pytest.raises(InputError, match=r"so their boxes do not fit; give the images that were annotated, or correct"):
        check([path], listed((48, 32)))
    assert check([path], listed((48, 32)), fractions=True) == []


def test_cropped_images_do_not_fit_boxes_in_fractions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"so their boxes do not fit"):
        check([save(tmp_path / "0.jpg", size=(48, 24))], listed((48, 32)), fractions=True)


def test_what_sizes_cannot_confirm_is_noted(tmp_path: Path) -> None:
    half, square, unknown = (
        save(tmp_path / "0.jpg", 3),
        save(tmp_path / "1.jpg", 6, (32, 32)),
        save(tmp_path / "2.jpg", 6),
    )
    annotations = listed((48, 32), (32, 32), None)
    (note,) = check([half, square, unknown], annotations)
    assert note.startswith("note: 3 images are turned or mirrored by EXIF data, and their sizes cannot confirm it (the")
    assert f"{half}); they are read upright; use `ignore_exif` if" in note
    assert check([half, square, unknown], annotations, ignore_exif=True) == []


@pytest.mark.parametrize("size", [None, (0, 0), ("a", 3), (None, None), (np.inf, 3), (10**400, 3), (5e-324, 3)])
def test_sizes_that_are_not_listed_are_not_compared(tmp_path: Path, size: Any) -> None:
    assert check([save(tmp_path / "0.jpg")], listed(size)) == []
    assert difference(listed(size), {0: (48, 32)}) is None


def test_coded_sizes_are_compared() -> None:
    annotations = listed((48, 32), (40, 30), None)
    assert difference(annotations, {0: (48, 32), 1: (40, 30), 2: (7, 7)}) is None
    turned = difference(annotations, {0: (48, 32), 1: (30, 40)})
    assert turned is not None
    assert turned.startswith(
        "truth.json: lists other sizes than 1 of 2 images were coded with (image 1: listed as 40x30, "
    )
    assert turned.endswith(
        "; encode with `ignore_exif` if they were drawn on the stored pixels, without it if on turned images"
    )
    resized = difference(annotations, {0: (24, 16), 1: (30, 40)})
    assert resized is not None
    assert resized.endswith("; give the annotations of the coded images, or encode the images that were annotated")


def test_boxes_beyond_the_listed_size_are_noticed() -> None:
    annotations = listed((48, 32), (40, 30))
    inside = {"image_id": 0, "bbox": [0, 0, 48, 33]}
    beyond = {"image_id": "1", "bbox": [0, 10, 20, 30]}
    assert reaching_out(annotations, [0, 1], [inside, {**beyond, "image_size": [30, 40]}]) is None
    assert reaching_out(annotations, [0, 1, 1], [inside, beyond, beyond]) == (
        "boxes reach out of 1 images as truth.json lists them (the first is image 1); check that they were found on "
        "these images, at this size and turned in this way"
    )
