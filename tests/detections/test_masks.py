"""Masks of objects: the pixels come back, and COCO's form of them is pycocotools'."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from featcodec.detections import Mask


def test_a_mask_is_its_pixels() -> None:
    pixels = np.random.default_rng(0).random((30, 40)) < 0.3
    mask = Mask.of(pixels)
    assert (mask.width, mask.height, mask.area) == (40, 30, pixels.sum())
    np.testing.assert_array_equal(mask.pixels(), pixels)
    assert mask.pixels().dtype == bool


def test_a_part_lies_where_it_belongs() -> None:
    mask = Mask.of(np.ones((2, 3), bool), left=4, top=1, width=10, height=5)
    rows, columns = mask.pixels().nonzero()
    assert mask.pixels().shape == (5, 10)
    assert (set(rows), set(columns)) == ({1, 2}, {4, 5, 6})


def test_nothing_and_everything() -> None:
    assert Mask.of(np.zeros((3, 4), bool)).area == 0
    assert not Mask.of(np.zeros((3, 4), bool)).pixels().any()
    assert Mask.of(np.ones((3, 4), bool)).pixels().all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
def test_coco_form_is_json_and_pycocotools_reads_it() -> None:
    pixels = np.arange(20).reshape(4, 5) % 3 == 1
    form = Mask.of(pixels).to_coco()
    assert json.loads(json.dumps(form)) == form == {"size": [4, 5], "counts": form["counts"]}
    np.testing.assert_array_equal(coco_mask.decode(form), pixels)


def test_counts_of_another_size_are_an_error() -> None:
    with pytest.raises(ValueError, match="counts of a mask of 5x5 pixels"):
        Mask(5, 5, Mask.of(np.ones((3, 4), bool)).counts).pixels()
