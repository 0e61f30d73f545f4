"""Pictures from anybody."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import texture
from PIL import Image

from featcodec.errors import FeatcodecError
from featcodec.service.pictures import read_picture
from featcodec.service.refusals import RefusedError


def file_of(kind: str, width: int = 60, height: int = 40) -> bytes:
    file = io.BytesIO()
    Image.fromarray(texture(width, height)).save(file, kind, lossless=True) if kind == "WEBP" else Image.fromarray(
        texture(width, height)
    ).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_pictures_are_read(kind: str) -> None:
    pixels = read_picture(file_of(kind), 60 * 40)
    assert pixels.shape == (40, 60, 3)
    if kind != "JPEG":
        assert np.array_equal(pixels, texture(60, 40))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_too_many_pixels_are_refused_before_they_are_decoded(kind: str) -> None:
    with pytest.raises(RefusedError, match="60x40 pixels are too many") as refused:
        read_picture(file_of(kind), 60 * 40 - 1)
    assert refused.value.status == 413


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(FeatcodecError, match="send a JPEG, PNG or WebP file"):
        read_picture(file_of(kind), 10_000)


_FILES = {kind: file_of(kind) for kind in ("PNG", "JPEG", "WEBP")}


@settings(max_examples=150)
@given(st.sampled_from(sorted(_FILES)), st.integers(0), st.binary(min_size=1, max_size=8), st.booleans())
def test_damaged_pictures_are_read_or_refused(kind: str, place: int, noise: bytes, cut: bool) -> None:
    file = _FILES[kind]
    place %= len(file)
    damaged = file[:place] if cut else file[:place] + noise + file[place + len(noise) :]
    said = ""
    try:
        pixels = read_picture(damaged, 1_000_000)
    except FeatcodecError as error:
        said = str(error)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
    assert "\n" not in said
    assert "BytesIO" not in said
