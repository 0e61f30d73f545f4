"""The memory of real commands on large pictures: the peak of a process that does nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import save_texture
from PIL import Image

CODE = """
import resource, sys
from featcodec.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


def peak(*arguments: object) -> int:
    """The most MiB that a command held."""
    result = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    return int(result.stdout.split("peak ")[1])


@pytest.fixture
def transparent(tmp_path: Path) -> Path:
    """Three transparent pictures of 36 million pixels: 137 MiB each as Pillow holds them."""
    folder = tmp_path / "large"
    folder.mkdir()
    Image.new("RGBA", (6000, 6000), (10, 200, 30, 128)).save(folder / "0.png", compress_level=1)
    for number in (1, 2):
        shutil.copy(folder / "0.png", folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_large_pictures_are_read_one_at_a_time(tmp_path: Path, transparent: Path, tiny_yolov5: Path) -> None:
    """Each takes 7 bytes per pixel, 240 MiB, while it is read; two of them fit into the budget of 89 million pixels."""
    save_texture(tmp_path / "small/a.png", 64, 64)
    arguments = ["--detector", tiny_yolov5, "--image-size", "64", "--qp", "40", "--workers", "2", "-o"]
    usual = peak("encode", tmp_path / "small", *arguments, tmp_path / "a")
    assert peak("encode", transparent, *arguments, tmp_path / "b") - usual < 2 * 240 + 100
