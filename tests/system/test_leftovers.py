"""What killed processes of ours left is removed, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from featcodec.system.files import write_atomically
from featcodec.system.leftovers import beside, clear, temporary_prefix
from featcodec.system.owners import owner

WRITE = """
import sys, tempfile
from pathlib import Path
from featcodec.system.files import atomic_writer
from featcodec.system.folders import atomic_folder
from featcodec.video.process import temporary_folder
folder = Path(sys.argv[1])
tempfile.tempdir = str(folder / "tmp")
with (
    atomic_writer(folder / "out.json") as file,
    atomic_folder(folder / "labels", (".txt",)) as labels,
    temporary_folder() as temporary,
):
    (labels / "a.txt").touch()
    (temporary / "a.yuv").touch()
    print("ready", flush=True)
    input()
"""


def started(folder: Path) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = started(tmp_path), started(tmp_path)
    assert len(names(tmp_path)) == 5, "tmp, and two hidden ones of each"
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    write_atomically(tmp_path / "other.json", b"data")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    temporary_prefix()
    left = names(tmp_path) | names(tmp_path / "tmp")
    assert len(left) == 5, "tmp, other.json, and what the live process writes"
    assert all(f"-{alive.pid}-" in name for name in left - {"tmp", "other.json"})
    alive.communicate("\n")
    assert alive.returncode == 0
    assert names(tmp_path) == {"tmp", "other.json", "out.json", "labels"}
    assert names(tmp_path / "tmp") == set()


def test_names_that_are_not_ours_stay(tmp_path: Path) -> None:
    machine, number, start = owner().split("-")
    dead = f"{machine}-{number}-{int(start) - 1}"
    other = f"{int(machine, 16) ^ 1:08x}-{number}-{start}"
    kept = {
        f".a.{owner()}.0a1b2c3d.part",
        f".a.{other}.0a1b2c3d.part",
        ".a.0a1b2c3d.part",
        "download.part",
        f"a.{dead}.0a1b2c3d.part",
        f".a.{dead}.part",
        "featcodec-0a1b2c3d",
        "featcodec-notes",
    }
    for name in (*kept, f".a.{dead}.0a1b2c3d.part"):
        (tmp_path / name).touch()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").touch()
    (tmp_path / f".link.{dead}.0a1b2c3d.part").symlink_to("precious")
    clear(tmp_path)
    assert names(tmp_path) == kept | {"precious"}
    assert names(tmp_path / "precious") == {"thesis.txt"}


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    clear(tmp_path / "absent")
    assert beside(tmp_path / "absent/a").name.startswith(".a.")


def test_line_breaks_in_names_are_no_obstacle(tmp_path: Path) -> None:
    machine, number, start = owner().split("-")
    (tmp_path / f".a\nb.{machine}-{number}-{int(start) - 1}.0a1b2c3d.part").touch()
    clear(tmp_path)
    assert names(tmp_path) == set()
