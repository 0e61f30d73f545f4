"""rapidocr as a reader: what counts, and what it reads on originals, blurred pictures and nothing."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import pytest
from plate_set import make_scenes, plates_on

from featcodec.errors import FeatcodecError
from featcodec.images.reading import read_image
from featcodec.privacy import ocr_reader
from featcodec.privacy.ocr_reader import OCR_CHARACTERS, OcrReader, characters_in_common
from featcodec.privacy.private_details import PrivateDetail, PrivateDetails, read_private_details
from featcodec.privacy.readers import Original, Pixels, Reader, Score


@pytest.mark.parametrize(
    ("text", "found", "right"),
    [
        ("AB12CDE", "AB12CDE", 7),
        ("AB12CDE", "B12CDE", 6),  # one is missing; by position only 0 would be right
        ("AB12CDE", "AB12CDEX", 6),
        ("AB12CDE", "AB13CDE", 6),
        ("AB", "XXXXXX", 0),
        ("AB12CDE", "", 0),
        ("", "AB", 0),
    ],
)
def test_characters_in_common_are_those_that_no_edit_changes(text: str, found: str, right: int) -> None:
    assert characters_in_common(text, found) == right


def reader_of(details: PrivateDetails, monkeypatch: pytest.MonkeyPatch, *texts: str) -> OcrReader:
    """A reader whose engine returns these texts, one per crop."""
    left = list(texts)

    def engine(crop: Pixels, **options: Any) -> Any:
        assert crop.shape == (32, 128, 3)
        assert options == {"use_det": False, "use_cls": False}
        return type("Result", (), {"txts": (left.pop(0),)})()

    monkeypatch.setattr(ocr_reader, "_load_engine", lambda: engine)
    return OcrReader(details)


def test_plates_that_it_cannot_read_on_the_original_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    plates = [PrivateDetail("plate", (4.0, 4.0, 20.0, 6.0), text, readable=True) for text in ("AB12CDE", "FG34HJK")]
    details = PrivateDetails(Path("private.json"), {PurePath("a"): tuple(plates)})
    pixels = np.zeros((40, 60, 3), np.uint8)
    # The first two are read on the original, and the second of them wrongly.
    reader: Reader = reader_of(details, monkeypatch, "ab12-cde", "FG34HJX", "A12CDE")
    scores = reader.scores(Original(PurePath("a.png"), (60, 40), pixels), {"attack": pixels})
    assert scores == {"attack": {OCR_CHARACTERS.name: Score(6, 7)}}
    unlisted = Original(PurePath("b.png"), (60, 40), pixels)
    assert reader.scores(unlisted, {"attack": pixels}) == {"attack": {OCR_CHARACTERS.name: Score(0, 0)}}


@pytest.mark.slow
def test_it_reads_originals_less_of_blurred_pictures_and_nothing_of_gray_ones(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    scenes = make_scenes(tmp_path, 6)
    path = plates_on(scenes)[0][0]
    pixels = read_image(path)
    reader = OcrReader(read_private_details(scenes / "private.json"))
    blurred = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 2.5), np.uint8)
    pictures = {"original": pixels, "blurred": blurred, "gray": np.full_like(pixels, 128)}
    size = pixels.shape[1], pixels.shape[0]
    found = reader.scores(Original(PurePath(path.name), size, pixels), pictures)
    scores = {name: each[OCR_CHARACTERS.name] for name, each in found.items()}
    assert scores["original"].count >= 7
    assert (scores["original"].mean, scores["gray"].mean) == (1, 0)
    assert scores["blurred"].mean < 0.9


def test_a_package_without_weights_is_refused_before_it_downloads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = type("Package", (), {"__file__": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(ocr_reader, "import_extra", lambda *names: package)
    with pytest.raises(FeatcodecError, match=r"^rapidocr: its package has no weights; install rapidocr 3.10$"):
        OcrReader(PrivateDetails(Path("private.json"), {}))
