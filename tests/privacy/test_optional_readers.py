"""What can run is used, and what cannot is said in one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from featcodec.errors import FeatcodecError
from featcodec.privacy import face_reader, ocr_reader, perceptual
from featcodec.privacy.optional_readers import optional_readers
from featcodec.privacy.private_details import PrivateDetails

DETAILS = PrivateDetails(Path("private.json"), {})


def absent(name: str, *modules: str) -> Any:
    raise FeatcodecError(f"{name}: needs the package {modules[0]}")


def test_without_the_extra_each_reader_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (face_reader, ocr_reader, perceptual):
        monkeypatch.setattr(module, "import_extra", absent)
    readers, missing = optional_readers(DETAILS)
    assert (readers, [line.split(":")[0] for line in missing]) == ([], ["rapidocr", "faces", "LPIPS"])
    assert [line.split(":")[0] for line in optional_readers(None)[1]] == ["faces", "LPIPS"]


def test_one_that_is_missing_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(ocr_reader, "_load_engine", lambda: None)
    monkeypatch.setattr(face_reader, "import_extra", absent)
    readers, missing = optional_readers(DETAILS)
    assert [reader.measures[0].name for reader in readers] == ["ocr_characters"]
    assert len(missing) == 2
