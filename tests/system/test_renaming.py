"""A new name is given in one step and replaces nothing, whatever the system and the file system can do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from refused_calls import run_refusing

from featcodec.system.renaming import exchange, move_new

WAYS = [{}, {"renameat2": errno.ENOSYS}, {"renameat2": errno.EINVAL, "link": errno.EPERM}]
"""What the kernel refuses: nothing (ext4), renames that replace nothing (NFS), and hard links as well (vfat)."""
WAY_NAMES = ["all", "no renameat2", "no links"]

MOVE = """
import sys
from pathlib import Path
from featcodec.system.renaming import move_new
part, path = map(Path, sys.argv[1:])
try:
    move_new(part, path)
    print("moved")
except FileExistsError:
    print("taken")
"""

WRITE = """
import sys
from pathlib import Path
from featcodec.system.files import ExistsError, write_atomically
path = Path(sys.argv[1])
try:
    write_atomically(path, b"new", overwrite=sys.argv[2] == "yes")
    print("written")
except ExistsError as error:
    print(error)
"""


@pytest.mark.parametrize("refused", WAYS, ids=WAY_NAMES)
def test_a_free_name_is_given_and_a_taken_one_is_not(tmp_path: Path, refused: dict[str, int]) -> None:
    (tmp_path / "part").write_bytes(b"new")
    assert run_refusing(refused, MOVE, tmp_path / "part", tmp_path / "file") == "moved\n"
    assert (tmp_path / "file").read_bytes() == b"new"
    (tmp_path / "part").write_bytes(b"newer")
    assert run_refusing(refused, MOVE, tmp_path / "part", tmp_path / "file") == "taken\n"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "part"]


@pytest.mark.parametrize("refused", WAYS, ids=WAY_NAMES)
def test_files_are_written_without_replacing_whatever_the_file_system_can_do(
    tmp_path: Path, refused: dict[str, int]
) -> None:
    path = tmp_path / "out"
    assert run_refusing(refused, WRITE, path, "no") == "written\n"
    path.write_bytes(b"of somebody else")
    assert run_refusing(refused, WRITE, path, "no") == f"{path}: exists; use `overwrite` or another `output`\n"
    assert path.read_bytes() == b"of somebody else"
    assert run_refusing(refused, WRITE, path, "yes") == "written\n"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_nowhere_takes_the_name_too(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"new")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        move_new(tmp_path / "part", tmp_path / "link")
    assert (tmp_path / "link").readlink() == Path("nowhere")


def test_names_that_are_no_utf_8_and_missing_files(tmp_path: Path) -> None:
    part, path = tmp_path / os.fsdecode(b"p\xe9"), tmp_path / os.fsdecode(b"caf\xe9")
    part.write_bytes(b"new")
    move_new(part, path)
    assert path.read_bytes() == b"new"
    with pytest.raises(FileNotFoundError):
        move_new(part, tmp_path / "other")
    assert list(tmp_path.iterdir()) == [path]


def test_two_folders_change_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    try:
        exchange(tmp_path / "a", tmp_path / "b")
    except OSError as error:
        pytest.skip(f"this file system cannot exchange folders ({error.strerror})")
    assert (tmp_path / "a/b").exists()
    assert (tmp_path / "b/a").exists()
