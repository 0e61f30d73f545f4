"""COCO's run-length code: as pycocotools writes it, and nothing from a file that pycocotools would choke on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from featcodec.images.rle import RleError, check_polygons, check_rle, decode, encode, rle_of, runs_of

MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(MASKS)
def test_the_code_is_pycocotools_and_comes_back(mask: np.ndarray) -> None:
    counts = encode(mask)
    assert counts == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    height, width = mask.shape
    np.testing.assert_array_equal(decode(counts, width, height), mask)
    check_rle({"size": [height, width], "counts": counts})


@given(MASKS, *[st.integers(0, 5)] * 4)
def test_a_part_is_coded_like_the_whole(part: np.ndarray, left: int, top: int, right: int, bottom: int) -> None:
    whole = np.pad(part, ((top, bottom), (left, right)))
    height, width = whole.shape
    assert encode(part, left, top, width, height) == encode(whole)


def test_large_counts_and_many_runs() -> None:
    mask = np.random.default_rng(1).random((700, 900)) < 0.5
    mask[:, 300:600] = False
    counts = encode(mask)
    np.testing.assert_array_equal(decode(counts, 900, 700), mask)
    assert int(runs_of(counts, 900, 700)[1::2].sum()) == mask.sum()


def test_a_part_without_pixels() -> None:
    assert encode(np.zeros((0, 3), bool), 1, 1, 5, 4) == encode(np.zeros((4, 5), bool))


GOOD = encode(np.eye(4, dtype=bool))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
@given(st.text(alphabet=[chr(code) for code in range(40, 120)], max_size=30))
def test_what_is_accepted_is_what_pycocotools_decodes(counts: str) -> None:
    try:
        mine = decode(counts, 4, 3)
    except RleError:
        return
    np.testing.assert_array_equal(mine, coco_mask.decode({"size": [3, 4], "counts": counts}))


@pytest.mark.parametrize(
    ("rle", "said"),
    [
        ("text", "an object with size and counts"),
        ([1, 2], "an object with size and counts"),
        ({"size": [4, 4]}, "an object with size and counts"),
        ({"size": [4], "counts": GOOD}, r"size \[height, width\]"),
        ({"size": [4, 4.0], "counts": GOOD}, r"size \[height, width\]"),
        ({"size": [4, True], "counts": GOOD}, r"size \[height, width\]"),
        ({"size": [0, 4], "counts": GOOD}, r"size \[height, width\]"),
        ({"size": [1 << 40, 1 << 40], "counts": GOOD}, "at most 1073741824 pixels"),
        ({"size": [4, 5], "counts": GOOD}, "5x4 pixels"),
        ({"size": [4, 4], "counts": GOOD[:-1]}, "4x4 pixels"),
        ({"size": [4, 4], "counts": ""}, "as COCO compresses them"),
        ({"size": [4, 4], "counts": "o" * 9 + "0"}, "as COCO compresses them"),
        ({"size": [4, 4], "counts": "o"}, "as COCO compresses them"),
        ({"size": [4, 4], "counts": "\u00e9"}, "as COCO compresses them"),
        ({"size": [4, 4], "counts": " "}, "as COCO compresses them"),
        ({"size": [4, 4], "counts": None}, "a text or whole numbers"),
        ({"size": [4, 4], "counts": []}, "a text or whole numbers"),
        ({"size": [4, 4], "counts": [16.0]}, "a text or whole numbers"),
        ({"size": [4, 4], "counts": [17, -1]}, "4x4 pixels"),
        ({"size": [4, 4], "counts": [1 << 80, 16 - (1 << 80)]}, "4x4 pixels"),
        ({"size": [4, 4], "counts": [1 << 32, 16]}, "4x4 pixels"),
    ],
    ids=repr,
)
def test_what_is_not_a_mask_is_refused(rle: Any, said: str) -> None:
    with pytest.raises(RleError, match=said):
        check_rle(rle)


@pytest.mark.parametrize(
    ("polygons", "said"),
    [
        ([], "a list of polygons"),
        ("0 0 1 1", "a list of polygons"),
        ([[1, 2, 3, 4]], "three points or more"),
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7]], "three points or more"),
        ([[1, 2, 3, 4, 5, None]], "within the image"),
        ([[1, 2, 3, 4, 5, float("nan")]], "within the image"),
        ([[1, 2, 3, 4, 5, 1e9]], "within the image"),
        ([[1, 2, 3, 4, 5, 10**400]], "within the image"),
        ([[0, 0, 1900, 0] * 2000 + [0, 1]], "an outline of at most 4194304 pixels"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_not_an_outline_is_refused(polygons: Any, said: str) -> None:
    with pytest.raises(RleError, match=said):
        check_polygons(polygons, 1000, 800)


def test_segmentations_of_annotations_are_pycocotools() -> None:
    """Polygons, counts as numbers, and compressed counts."""
    polygons = [[1, 1, 6, 1, 6, 5], [0, 4, 3.5, 4, 3, 7.5, 0, 7]]
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, 8, 9))
    assert rle_of(polygons, 9, 8) == merged
    mask = np.arange(12).reshape(3, 4) % 5 < 2
    runs = runs_of(encode(mask), 4, 3).tolist()
    assert rle_of({"size": [3, 4], "counts": runs}, 4, 3)["counts"].decode() == encode(mask)
    compressed = {"size": [3, 4], "counts": encode(mask)}
    assert rle_of(compressed, 4, 3) == compressed
    with pytest.raises(RleError, match="a mask of the image's 5x3 pixels"):
        rle_of(compressed, 5, 3)
    with pytest.raises(RleError, match="at most"):
        rle_of(polygons, 1 << 20, 1 << 20)
