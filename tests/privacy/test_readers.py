"""Scores of readers, and the reader of number plates as one of them."""

from __future__ import annotations

import math
from pathlib import Path, PurePath

import pytest
from plate_set import make_scenes, plates_on

from featcodec.images.reading import read_image
from featcodec.privacy.plates import PlateAudit
from featcodec.privacy.readers import Original, Reader, Score, summed


def test_scores_of_images_add_up_so_that_every_thing_counts_the_same() -> None:
    first, second = {"a": Score(3, 4), "b": Score(0.5, 1)}, {"a": Score(0, 2)}
    assert summed([first, second]) == {"a": Score(3, 6), "b": Score(0.5, 1)}
    assert summed([first, second])["a"].mean == 0.5
    assert math.isnan(Score().mean)


def test_the_plate_audit_is_a_reader(tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path, 4)
    path, _, _ = plates_on(scenes)[0]
    pixels = read_image(path)
    audit: Reader = PlateAudit.load(scenes / "private.json", None, [path])
    (measure,) = audit.measures
    original = Original(PurePath(path.name), (pixels.shape[1], pixels.shape[0]), pixels)
    scores = audit.scores(original, {"original": pixels, "gray": pixels * 0 + 128})
    plates = [text for image, _, text in plates_on(scenes) if image == path]
    assert {score[measure.name].count for score in scores.values()} == {7 * len(plates)}
    assert scores["original"][measure.name].mean >= 0.85
    assert scores["gray"][measure.name].mean == pytest.approx(0.06, abs=0.25)
    unlisted = Original(PurePath("other.png"), original.size, pixels)
    assert audit.scores(unlisted, {"original": pixels}) == {"original": {measure.name: Score()}}
