"""The letterbox: YOLOv5's geometry, and boxes that come back to where they were."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featcodec.errors import InputError
from featcodec.images.letterbox import Fitting, Letterbox

SIDES = st.one_of(st.integers(1, 65535), st.integers(1, 700))
SIZES = st.sampled_from([32, 64, 320, 512, 640, 1280, 4096])


def gray(width: int, height: int, value: int = 0) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("original", "size", "rectangle", "resized", "offset", "offset_in_square"),
    [
        ((640, 426), 512, (512, 352), (512, 341), (0, 5), (0, 85)),
        ((426, 640), 512, (352, 512), (341, 512), (5, 0), (85, 0)),
        ((640, 480), 512, (512, 384), (512, 384), (0, 0), (0, 64)),
        ((640, 480), 640, (640, 480), (640, 480), (0, 0), (0, 80)),
        ((500, 375), 640, (640, 480), (640, 480), (0, 0), (0, 80)),
        ((256, 256), 512, (512, 512), (512, 512), (0, 0), (0, 0)),
        ((1920, 1080), 512, (512, 288), (512, 288), (0, 0), (0, 112)),
        ((1, 1), 512, (512, 512), (512, 512), (0, 0), (0, 0)),
        ((1, 65535), 512, (32, 512), (1, 512), (15, 0), (255, 0)),
        ((65535, 1), 512, (512, 32), (512, 1), (0, 15), (0, 255)),
        ((100, 10), 32, (32, 32), (32, 3), (0, 14), (0, 14)),
    ],
)
def test_geometry_by_hand(
    original: tuple[int, int],
    size: int,
    rectangle: tuple[int, int],
    resized: tuple[int, int],
    offset: tuple[int, int],
    offset_in_square: tuple[int, int],
) -> None:
    letterbox = Letterbox.fit(*original, size)
    assert (letterbox.width, letterbox.height) == rectangle
    assert letterbox.resized == resized
    assert letterbox.offset == offset
    square = Letterbox.fit(*original, size, square=True)
    assert (square.width, square.height) == (size, size)
    assert square.resized == resized
    assert square.offset == offset_in_square


@given(SIDES, SIDES, SIZES, st.booleans())
@example(1, 65535, 4096, False)
@example(65535, 1, 32, True)
def test_shape_is_what_the_detector_takes(width: int, height: int, size: int, square: bool) -> None:
    letterbox = Letterbox.fit(width, height, size, square=square)
    assert letterbox.width % 32 == letterbox.height % 32 == 0
    assert max(letterbox.width, letterbox.height) == size
    assert max(letterbox.resized) == size
    if square:
        assert letterbox.width == letterbox.height
    else:
        assert letterbox.width - letterbox.resized[0] < 32
        assert letterbox.height - letterbox.resized[1] < 32
    inner_width, inner_height = letterbox.resized
    left, top = letterbox.offset
    assert left >= 0 <= top
    assert inner_width >= 1 <= inner_height
    assert 0 <= letterbox.width - inner_width - 2 * left <= 1
    assert 0 <= letterbox.height - inner_height - 2 * top <= 1
    assert abs(inner_width - width * size / max(width, height)) <= 1
    assert abs(inner_height - height * size / max(width, height)) <= 1


@pytest.mark.slow
@given(SIDES, SIDES, SIZES, st.booleans(), st.lists(st.floats(0, 1), min_size=4, max_size=4))
@example(1, 65535, 512, False, [0.0, 0.0, 1.0, 1.0])
def test_boxes_come_back(width: int, height: int, size: int, square: bool, fractions: list[float]) -> None:
    letterbox = Letterbox.fit(width, height, size, square=square)
    x = sorted(fraction * width for fraction in fractions[:2])
    y = sorted(fraction * height for fraction in fractions[2:])
    box = np.array([[x[0], y[0], x[1], y[1]]])
    gain = np.array([letterbox.resized[0] / width, letterbox.resized[1] / height] * 2)
    there = (box * gain + np.array([*letterbox.offset] * 2)).astype(np.float32)
    back = letterbox.undo(there)
    assert back.dtype == np.float32
    # float32 holds a position in the letterboxed picture to 2**-12 pixels at worst; enlarging back multiplies that.
    tolerance = 0.01 + 2**-11 / gain.min()
    assert np.abs(back - box).max() <= min(tolerance, 1 + 1e-4 * max(width, height))


def test_undo_by_hand() -> None:
    letterbox = Letterbox.fit(640, 426, 512)
    boxes = np.array([[0, 5, 512, 346], [128, 5 + 341 / 2, 256, 346]], np.float32)
    expected = [[0, 0, 640, 426], [160, 213, 320, 426]]
    assert np.allclose(letterbox.undo(boxes), expected, atol=1e-3)


def test_undo_clips_to_the_picture() -> None:
    boxes = np.array([[-50, -50, 900, 900], [0, 0, 512, 4], [600, 10, 700, 20]], np.float32)
    undone = Letterbox.fit(640, 426, 512).undo(boxes)
    assert np.allclose(undone, [[0, 0, 640, 426], [0, 0, 640, 0], [640, 6.246, 640, 18.739]], atol=1e-2)


@given(SIDES, SIDES, SIZES, st.booleans(), st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_points_come_back(width: int, height: int, size: int, square: bool, fractions: list[float]) -> None:
    letterbox = Letterbox.fit(width, height, size, square=square)
    points = np.array(fractions, np.float64).reshape(3, 2) * (width, height)
    there = points * letterbox.resized / (width, height) + letterbox.offset
    back = letterbox.undo_points(there.astype(np.float32)[None])
    assert (back.shape, back.dtype) == ((1, 3, 2), np.float32)
    tolerance = 0.01 + 2**-11 * max(width / letterbox.resized[0], height / letterbox.resized[1])
    assert np.abs(back[0] - points).max() <= tolerance


def test_undo_of_no_boxes() -> None:
    assert Letterbox.fit(640, 426, 512).undo(np.zeros((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("original", [(640, 426), (426, 640), (65, 64), (1, 1), (1, 600), (600, 1), (90, 7), (2000, 3)])
def test_picture_lies_where_the_geometry_says(original: tuple[int, int], square: bool) -> None:
    letterbox = Letterbox.fit(*original, 128, square=square)
    result = letterbox.apply(gray(*original, value=200))
    assert result.shape == (letterbox.height, letterbox.width, 3)
    assert result.dtype == np.uint8
    (left, top), (width, height) = letterbox.offset, letterbox.resized
    expected = gray(letterbox.width, letterbox.height, 114)
    expected[top : top + height, left : left + width] = 200
    assert np.array_equal(result, expected)
    assert letterbox.crop(result).shape == (height, width, 3)
    assert (letterbox.crop(result) == 200).all()


@given(width=st.integers(1, 700), height=st.integers(1, 700), square=st.booleans())
def test_what_is_cut_away_is_the_border_alone(width: int, height: int, square: bool) -> None:
    letterbox = Letterbox.fit(width, height, 128, square=square)
    pixels = np.arange(letterbox.height * letterbox.width, dtype=np.int64).reshape(letterbox.height, letterbox.width)
    whole, inner = pixels.astype(np.float32), letterbox.crop(pixels)
    assert inner.shape == letterbox.resized[::-1]
    assert divmod(int(inner[0, 0]), letterbox.width) == letterbox.offset[::-1]
    # It is a view: what is written there stands in the picture.
    letterbox.crop(whole)[:] = -1
    assert (whole < 0).sum() == inner.size
    assert (whole < 0).ravel()[inner.ravel()].all()


def test_picture_of_the_right_size_is_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    original = image.copy()
    result = Letterbox.fit(128, 64, 128).apply(image)
    assert np.array_equal(result, image)
    result[:] = 0
    assert np.array_equal(image, original)


def test_enlarging_is_bilinear() -> None:
    image = gray(32, 32)
    image[:, 16:] = 80
    row = Letterbox.fit(32, 32, 64).apply(image)[10, :, 1]
    assert row[:31].tolist() == [0] * 31
    assert row[31:33].tolist() == [20, 60]
    assert row[33:].tolist() == [80] * 31


@pytest.mark.parametrize(
    ("width", "height"), [(1024, 1024), (1024, 512), (512, 1024), (1, 1024), (1024, 1), (3, 1024), (1024, 3)]
)
def test_shrinking_averages_areas(width: int, height: int) -> None:
    """Two bright lines of sixteen, in the middle, where sampling would find nothing else."""
    stripes = gray(width, height)
    for line in (7, 8):
        if width >= height:
            stripes[:, line::16] = 200
        else:
            stripes[line::16] = 200
    letterbox = Letterbox.fit(width, height, 64)
    (left, top), (inner_width, inner_height) = letterbox.offset, letterbox.resized
    inside = letterbox.apply(stripes)[top : top + inner_height, left : left + inner_width]
    assert np.array_equal(inside, np.full_like(inside, 25))


def test_extreme_pictures_are_resized() -> None:
    for width, height in ((65535, 1), (1, 65535), (65535, 40)):
        letterbox = Letterbox.fit(width, height, 4096)
        assert letterbox.apply(gray(width, height, 9)).max() == 114


@pytest.mark.parametrize("size", [0, -32, 31, 33, 500, 4128, 1 << 40])
def test_image_size_that_no_detector_takes_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"image size {size} is not a multiple of 32 from 32 to 4096"):
        Letterbox.fit(640, 426, size)
    with pytest.raises(InputError):
        Letterbox.fit(640, 426, size, square=True)


def test_place_is_the_reverse_of_undo() -> None:
    letterbox = Letterbox.fit(1000, 600, 512)
    box = 100.0, 60.0, 300.0, 120.0
    placed = letterbox.place(box)
    assert placed[:2] == pytest.approx((51.2, 6 + 60 * 307 / 600), abs=0.01)
    undone = letterbox.undo(np.array([placed], np.float32))[0].tolist()
    assert undone == pytest.approx([100, 60, 400, 180], abs=1e-3)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (100, 1000), (1, 1), (65535, 1)])
def test_p6_models_get_multiples_of_64(width: int, height: int) -> None:
    for square in (False, True):
        letterbox = Letterbox.fit(width, height, 640, square=square, stride=64)
        assert (letterbox.width % 64, letterbox.height % 64) == (0, 0)
        assert max(letterbox.width, letterbox.height) == 640
    with pytest.raises(InputError, match="image size 608 is not a multiple of 64"):
        Letterbox.fit(width, height, 608, stride=64)


def test_fitting_is_the_letterbox_with_its_settings() -> None:
    picture = np.random.default_rng(4).integers(0, 256, (60, 100, 3), np.uint8)
    fitting = Fitting(320, stride=64)
    letterboxed = fitting.apply(picture)
    assert letterboxed.letterbox == fitting.letterbox(100, 60) == Letterbox.fit(100, 60, 320, stride=64)
    assert letterboxed.pixels.shape == (192, 320, 3)
    assert np.array_equal(letterboxed.pixels, letterboxed.letterbox.apply(picture))
    assert Fitting(64, square=True).letterbox(100, 60).height == 64
    for size, stride in ((100, 32), (352, 64), (0, 32), (4160, 64)):
        with pytest.raises(InputError, match=f"image size {size} is not a multiple of {stride}"):
            Fitting(size, stride=stride)
