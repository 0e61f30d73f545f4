"""An independent reader of number plates: rapidocr, which knows nothing of featcodec, its plates or its attacks.

The reader of `plate_reader` was trained on drawn plates and on reconstructions, and knows the format. rapidocr is a
general reader of text (PP-OCR); its weights come in its package. What it reads, anybody with a standard tool reads.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from featcodec.errors import FeatcodecError
from featcodec.privacy.extras import import_extra
from featcodec.privacy.measures import OCR_CHARACTERS
from featcodec.privacy.plate_reader import cut_plates
from featcodec.privacy.private_details import PrivateDetails
from featcodec.privacy.readers import Measure, Original, Pixels, Score

_SCALE = 1.5
"""rapidocr reads lines of 48 pixels; `cut_plates` makes crops of 32."""


@dataclass(frozen=True, eq=False)
class OcrReader:
    """rapidocr, and the plates that it should read.

    Characters count if rapidocr reads the whole plate correctly on the original. Spaces and signs are left out, and
    case does not matter. The characters read are the length of the true text minus the edit distance (Levenshtein) to
    what is read, at least 0: rapidocr knows no positions, so a character that it misses must not move all others.

    Attributes:
        details: the private details on the originals.

    Raises:
        FeatcodecError: rapidocr is not installed, or its weights are not in its package.
    """

    details: PrivateDetails
    _engine: Any = field(init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_engine", _load_engine())

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The share of characters that are read."""
        return (OCR_CHARACTERS,)

    def scores(self, original: Original, pictures: Mapping[str, Pixels]) -> dict[str, dict[str, Score]]:
        """Count the characters that are read on each picture; see `Reader.scores`."""
        plates = self.details.plates(original.image)
        boxes = [plate.box for plate in plates]
        on_original = self._read(cut_plates(original.pixels, boxes, original.size))
        known = [plate for plate, found in zip(plates, on_original, strict=True) if found == _plain(plate.text)]
        boxes = [plate.box for plate in known]
        scores = {}
        for name, picture in pictures.items():
            found = self._read(cut_plates(picture, boxes, original.size))
            texts = [_plain(plate.text) for plate in known]
            right = sum(characters_in_common(text, one) for text, one in zip(texts, found, strict=True))
            scores[name] = {OCR_CHARACTERS.name: Score(right, sum(map(len, texts)))}
        return scores

    def _read(self, crops: Pixels) -> list[str]:
        texts = []
        for crop in crops:
            # OpenCV's order of colours. The engine keeps options between calls, so only one thread may call it.
            with self._lock:
                result = self._engine(np.ascontiguousarray(crop[:, :, ::-1]), use_det=False, use_cls=False)
            texts.append(_plain("".join(getattr(result, "txts", None) or ())))
        return texts


def characters_in_common(text: str, found: str) -> int:
    """The length of a text minus the edit distance (insert, delete, replace) to what was read, at least 0."""
    distances = list(range(len(found) + 1))
    for row, character in enumerate(text, 1):
        before, distances[0] = distances[0], row
        for column, other in enumerate(found, 1):
            replaced = before + (character != other)
            before = distances[column]
            distances[column] = min(replaced, before + 1, distances[column - 1] + 1)
    return max(0, len(text) - distances[-1])


def _plain(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def _load_engine() -> Any:
    package: Any = import_extra("rapidocr", "rapidocr", "onnxruntime")
    # Without a path, rapidocr downloads what its package does not have.
    models = sorted((Path(package.__file__).parent / "models").glob("*_rec_*.onnx"))
    if not models:
        raise FeatcodecError("rapidocr: its package has no weights; install rapidocr 3.10")
    one_thread = dict.fromkeys(("intra_op_num_threads", "inter_op_num_threads"), 1)
    parameters = {f"EngineConfig.onnxruntime.{name}": count for name, count in one_thread.items()}
    try:
        engine = package.RapidOCR(
            params={"Global.log_level": "critical", "Rec.model_path": str(models[0]), **parameters}
        )
        engine(np.zeros((32, 128, 3), np.uint8), use_det=False, use_cls=False)
    except Exception as error:  # whatever another version of rapidocr raises
        raise FeatcodecError(f"rapidocr: does not start ({type(error).__name__}); install rapidocr 3.10") from error
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    return engine
