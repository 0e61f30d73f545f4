"""What importing ultralytics changes for our users: nothing outside our cache, no thread limit, no foreign Pillow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CODE = """
import json, os
from PIL import Image
pillows = Image.open
import featcodec.detectors.ultralytics_quiet
import featcodec.detectors
import torch
from ultralytics.utils import SETTINGS, SETTINGS_FILE
print(json.dumps({
    "omp": os.environ.get("OMP_NUM_THREADS"),
    "threads": torch.get_num_threads(),
    "pillow": Image.open is pillows and Image.open.__module__,
    "settings": str(SETTINGS_FILE),
    "sync": SETTINGS["sync"],
    "switches": [os.environ[f"YOLO_{name}"] for name in ("AUTOINSTALL", "OFFLINE", "VERBOSE")],
}))
"""


def imported(folder: Path, **environment: str) -> dict[str, Any]:
    """What a fresh process finds after the import; its home is folder/home, our cache folder/cache."""
    ours = ("YOLO_", "OMP_", "XDG_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    plain.update(HOME=str(folder / "home"), FEATCODEC_HOME=str(folder / "cache"), TMPDIR=str(folder / "tmp"))
    for name in ("home", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    result = subprocess.run(
        [sys.executable, "-c", CODE], env={**plain, **environment}, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A user who has set nothing."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, imported(folder)


@pytest.mark.slow
def test_the_number_of_threads_is_not_touched(plain: tuple[Path, dict[str, Any]]) -> None:
    _, found = plain
    assert found["omp"] is None
    assert found["threads"] == int(
        subprocess.run(
            [sys.executable, "-c", "import torch; print(torch.get_num_threads())"],
            env={name: value for name, value in os.environ.items() if not name.startswith("OMP_")},
            capture_output=True,
            check=True,
        ).stdout
    )


def test_pillow_opens_images_itself(plain: tuple[Path, dict[str, Any]]) -> None:
    assert plain[1]["pillow"] == "PIL.Image"


def test_settings_are_written_into_our_cache_alone_and_share_nothing(plain: tuple[Path, dict[str, Any]]) -> None:
    folder, found = plain
    assert Path(found["settings"]).is_relative_to(folder / "cache")
    assert found["sync"] is False
    assert json.loads(Path(found["settings"]).read_text())["sync"] is False
    assert [name for name in files(folder) if not name.startswith("cache/")] == []


def test_nothing_is_installed_or_fetched(plain: tuple[Path, dict[str, Any]]) -> None:
    assert plain[1]["switches"] == ["false", "true", "false"]


@pytest.mark.slow
def test_a_users_own_choices_are_respected(tmp_path: Path) -> None:
    own = {"YOLO_CONFIG_DIR": str(tmp_path / "own"), "OMP_NUM_THREADS": "3", "YOLO_VERBOSE": "true"}
    found = imported(tmp_path, **own)
    assert Path(found["settings"]).is_relative_to(tmp_path / "own")
    assert found["sync"] is True
    assert json.loads(Path(found["settings"]).read_text())["sync"] is True
    assert found["omp"] == "3"
    assert found["switches"] == ["false", "true", "true"]
    assert [name for name in files(tmp_path) if not name.startswith("own/")] == []
