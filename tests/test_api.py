"""What `from featcodec import ...` gives: found by tab completion, and cheap to import."""

from __future__ import annotations

import numpy as np
import pytest

import featcodec
from featcodec import BoxFilter, Detections, FeatcodecError, InputError, bits_per_pixel
from featcodec.system.paths import expand_sources


def test_tab_completion_finds_everything() -> None:
    assert set(featcodec.__all__) <= set(dir(featcodec))
    for name in featcodec.__all__:
        assert getattr(featcodec, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = featcodec.nothing_of_this_name


def test_input_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="out of range"):
        BoxFilter(conf=2)
    with pytest.raises(FeatcodecError):
        expand_sources(["not there"], frozenset({".png"}), "images")
    assert issubclass(InputError, ValueError)


def test_bits_per_pixel_is_exported() -> None:
    assert bits_per_pixel([(100, 40, 20)]) == 1.0


def some_detections() -> Detections:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 20, 20], [1, 2, 3, 4]], np.float32)
    scores = np.array([0.9, 0.5, 0.1], np.float32)
    return Detections(boxes, scores, np.array([1, 0, 1]), ("cat", "newt"), 32, 24)


def test_detections_are_a_sequence_of_boxes() -> None:
    found = some_detections()
    assert [each.name for each in found] == ["newt", "cat", "newt"]
    assert found[0].xyxy == (0, 0, 10, 10)
    assert (found[-1].class_id, found[np.int64(1)].name) == (1, "cat")
    with pytest.raises(IndexError):
        _ = found[3]
    for chosen in (found[1:], found[[1, 2]], found[found.scores < 0.6], found[[False, True, True]]):
        assert isinstance(chosen, Detections)
        assert (chosen.scores == found.scores[1:]).all()
    assert len(found[[]]) == len(found[found.scores > 1]) == 0


def test_detections_filter_by_score_and_name() -> None:
    found = some_detections()
    assert len(found.filter()) == 2
    assert [each.name for each in found.filter(0, names=["newt"])] == ["newt", "newt"]
    assert [each.name for each in found.filter(0, names="cat")] == ["cat"]
    with pytest.raises(InputError, match="no class 'dog'; its classes are cat, newt"):
        found.filter(names=["dog"])


def test_detections_say_what_they_are_and_draw_themselves() -> None:
    found = some_detections()
    assert repr(found) == "Detections(3 boxes on 32x24 pixels: newt 0.90, cat 0.50, newt 0.10)"
    picture = np.zeros((24, 32, 3), np.uint8)
    drawn = found.draw(picture)
    assert drawn.shape == picture.shape
    assert drawn.any()
    assert not picture.any()
    assert (drawn == featcodec.draw_boxes(picture, found)).all()
