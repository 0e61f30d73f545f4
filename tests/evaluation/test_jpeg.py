"""The JPEG anchor."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pictures import texture
from PIL import Image

from featcodec.errors import BitstreamError, InputError
from featcodec.evaluation.jpeg import decode_jpeg, encode_jpeg, scan_bytes


def test_pictures_come_back_nearly_and_smaller_at_lower_quality() -> None:
    picture = texture(96, 64)
    sizes = []
    for quality, most in ((95, 4.0), (50, 8.0), (10, 20.0)):
        data = encode_jpeg(picture, quality)
        sizes.append(len(data))
        assert np.abs(decode_jpeg(data, (64, 96)).astype(int) - picture).mean() < most
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_subsampling_is_what_was_asked_for(subsampling: str) -> None:
    with Image.open(io.BytesIO(encode_jpeg(texture(96, 64), 80, subsampling))) as image:
        sampling = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}
        assert sampling[tuple(image.layer[0][1:3])] == subsampling  # type: ignore[attr-defined]


def test_scan_bytes_are_what_follows_the_headers() -> None:
    small, large = (encode_jpeg(texture(96, 64), quality) for quality in (5, 90))
    for data in (small, large):
        start = data.index(b"\xff\xda")
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        assert scan_bytes(data) == len(data) - (start + 2 + length) - 2
    assert abs((len(small) - scan_bytes(small)) - (len(large) - scan_bytes(large))) < 100


def test_nonsense_is_refused() -> None:
    for quality in (0, 101):
        with pytest.raises(InputError, match=r"outside 1\.\.100"):
            encode_jpeg(texture(32, 32), quality)
    with pytest.raises(InputError, match="unknown subsampling"):
        encode_jpeg(texture(32, 32), 50, "4:1:1")
    data = encode_jpeg(texture(96, 64), 50)
    with pytest.raises(BitstreamError, match="not"):
        decode_jpeg(data, (96, 64))
    for broken in (data[: len(data) // 2], b"nonsense"):
        with pytest.raises(BitstreamError, match="does not decode"):
            decode_jpeg(broken, (64, 96))
    with pytest.raises(BitstreamError, match="no JPEG scan"):
        scan_bytes(data[:20])
