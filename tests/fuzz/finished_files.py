"""Finished files: which there are, whether each is whole, and what they hold besides times."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open

from featcodec import bitstream
from featcodec.system.leftovers import PART_SUFFIX
from featcodec.video.base import coded_shape
from featcodec.video.embedded import decode_picture

TIMED = "points.csv"
"""A table whose columns of seconds differ from run to run."""


def finished(path: Path) -> list[Path]:
    """The files with final names: the file, or all below the folder except TensorBoard's, which hold times."""
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [file for file in found if not _is_part(file) and "tfevents" not in file.name]


def hidden_parts(folder: Path) -> list[Path]:
    """What a killed process left of files and folders that it was writing."""
    return list(folder.rglob(f".*{PART_SUFFIX}"))


def contents(path: Path) -> dict[str, bytes]:
    """What the finished files hold, by name."""
    return {str(file.relative_to(path)): _without_times(file) for file in finished(path)}


def broken(path: Path) -> list[str]:
    """Which finished files are not whole, in words."""
    wrong = []
    for file in finished(path):
        try:
            _READERS[file.suffix](file)
        except Exception as error:
            wrong.append(f"{file.name} is not whole ({error!r})")
    return wrong


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table. A file that was made but not yet written to has none.

    Raises:
        ValueError: a row is cut off.
    """
    text = path.read_text()
    found = list(csv.DictReader(io.StringIO(text)))
    if (text and not text.endswith("\n")) or any(None in row or None in row.values() for row in found):
        raise ValueError("a row is cut off")
    return found


def saved_step(path: Path) -> int:
    """The step of the state of a training run, 0 without a state."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        (config,) = file.metadata().values()
        return int(json.loads(config)["step"])


def _is_part(path: Path) -> bool:
    return any(part.startswith(".") and part.endswith(PART_SUFFIX) for part in path.parts)


def _without_times(path: Path) -> bytes:
    if path.name != TIMED:
        return path.read_bytes()
    return json.dumps(
        [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in rows(path)]
    ).encode()


def _decode(path: Path) -> None:
    side_info, stream = bitstream.unpack(path.read_bytes())
    decode_picture(stream, [coded_shape(side_info.frame_shape)])


def _load(path: Path) -> None:
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118  (it is not a mapping)
            file.get_tensor(name)


def _show(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


_READERS: dict[str, Callable[[Path], Any]] = {
    ".265": _decode,
    ".266": _decode,
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": rows,
    ".txt": lambda path: [float(number) for number in path.read_text().split()],
    ".safetensors": _load,
    ".png": _show,
    ".jpg": _show,
}
