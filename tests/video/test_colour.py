"""Colour pictures through VVC: the conversion, and real streams."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import texture

from featcodec.bitstream import nal
from featcodec.errors import BitstreamError, InputError
from featcodec.video import EncoderSettings
from featcodec.video.colour import ColourCodec, to_rgb, to_yuv
from featcodec.video.ffmpeg import FfmpegCodec


@pytest.fixture(scope="module")
def codec() -> ColourCodec:
    return ColourCodec(FfmpegCodec(EncoderSettings()))


def flat(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((32, 32, 3), (red, green, blue), np.uint8)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        # 10-bit code values of 100 % colour bars in BT.709 (Rec. ITU-R BT.709-6, item 4.6; as in SMPTE RP 219).
        ((0, 0, 0), (64, 512, 512)),
        ((255, 255, 255), (940, 512, 512)),
        ((255, 0, 0), (250, 409, 960)),
        ((0, 255, 0), (691, 167, 105)),
        ((0, 0, 255), (127, 960, 471)),
        ((255, 255, 0), (877, 64, 553)),
    ],
)
def test_colours_have_the_code_values_of_bt709(colour: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    planes = to_yuv(flat(*colour))
    assert [plane.shape for plane in planes] == [(32, 32), (16, 16), (16, 16)]
    assert tuple(int(plane[3, 3]) for plane in planes) == expected
    for plane in planes:
        assert plane.min() == plane.max()


def test_every_gray_and_flat_colour_survives_the_conversion() -> None:
    random = np.random.default_rng(0)
    for colour in [(value, value, value) for value in range(0, 256, 5)] + random.integers(0, 256, (40, 3)).tolist():
        np.testing.assert_allclose(to_rgb(*to_yuv(flat(*colour))), flat(*colour), atol=1)


def test_chroma_lies_where_it_was() -> None:
    """A ramp of colour keeps its place: a shift by half a sample would move each value by 2."""
    ramp = np.zeros((32, 64, 3), np.uint8)
    ramp[..., 0] = np.arange(64) * 4
    back = to_rgb(*to_yuv(ramp)).astype(int)
    assert np.abs(back - ramp)[:, 2:-2].max() <= 1


@pytest.mark.slow
def test_streams_decode_alone_and_finer_is_nearer(codec: ColourCodec) -> None:
    pictures = [texture(96, 64, seed) for seed in range(3)]
    errors, sizes = [], []
    for qp in (12, 40):
        streams = codec.encode(pictures, qp)
        assert streams[1] == codec.encode(pictures[1:2], qp)[0]
        assert all(sum(map(nal.is_slice, nal.split_units(stream))) == 1 for stream in streams)
        decoded = [codec.decode(stream, (64, 96)) for stream in streams]
        assert all(picture.shape == (64, 96, 3) and picture.dtype == np.uint8 for picture in decoded)
        errors.append(np.mean([np.abs(one.astype(int) - other) for one, other in zip(decoded, pictures, strict=True)]))
        sizes.append(sum(map(len, streams)))
    assert errors[0] < 3 < errors[1] < 20
    assert sizes[0] > 2 * sizes[1]


def test_the_settings_are_those_of_the_mosaics(codec: ColourCodec) -> None:
    other = ColourCodec(FfmpegCodec(EncoderSettings("faster", {"DepQuant": "1", "SignHideFlag": "0"})))
    picture = texture(96, 64)
    assert codec.encode([picture], 36) != other.encode([picture], 36)


def test_what_cannot_be_coded_is_refused(codec: ColourCodec) -> None:
    for pictures in ([], [texture(96, 64), texture(64, 96)]):
        with pytest.raises(InputError, match="one shape"):
            codec.encode(pictures, 30)
    for picture in (texture(95, 64), texture(16, 16), texture(96, 64)[..., :2]):
        with pytest.raises(InputError, match="cannot be coded as 4:2:0"):
            codec.encode([picture], 30)
    with pytest.raises(InputError, match="not a whole number from 0 to 63"):
        codec.encode([texture(96, 64)], 64)


def test_streams_of_other_pictures_are_refused(codec: ColourCodec) -> None:
    (stream,) = codec.encode([texture(96, 64)], 40)
    with pytest.raises(BitstreamError, match="96x64, not to one 64x96 picture"):
        codec.decode(stream, (96, 64))
    for broken in (b"", b"nonsense", stream[: len(stream) // 3]):
        with pytest.raises(BitstreamError):
            codec.decode(broken, (64, 96))
