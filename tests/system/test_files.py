"""Atomic files: whole or not there, nothing left beside them, failures as OutputError."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest

from featcodec.errors import OutputError
from featcodec.system.files import PART_SUFFIX, _Sink, atomic_folder, atomic_writer, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "out.266"
    with atomic_writer(path) as file:
        file.write(b"half")
        assert not path.exists()
        (part,) = names(path.parent)
        assert part.startswith(".")
        assert part.endswith(PART_SUFFIX)
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert names(path.parent) == ["out.266"]


def test_a_failing_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_atomically(path, b"old")

    def fail_half_way() -> None:
        with atomic_writer(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_an_existing_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_atomically(path, b"a long old content")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"a long old content", "it was written over instead of renamed"
    assert path.read_bytes() == b"new"


def test_text_is_utf_8(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "out.txt", "w") as file:
        file.write("Zähler\n")
    assert (tmp_path / "out.txt").read_bytes() == "Zähler\n".encode()


def test_a_full_disk_is_an_output_error_with_path_and_reason(tmp_path: Path) -> None:
    """/dev/full takes every write and says that the disk is full."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = _Sink(tmp_path / "out", full)
        with pytest.raises(OutputError, match=r"out: cannot be written \(No space left on device\)"):
            sink.write(b"data")


def test_an_error_that_is_not_the_files_own_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="elsewhere"), atomic_writer(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "elsewhere")
    assert names(tmp_path) == []


def test_a_folder_appears_at_the_end_and_replaces_an_older_one_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    for run in ("one", "two"):
        with atomic_folder(path, (".txt",)) as folder:
            (folder / f"{run}.txt").write_text(run)
            assert not (path / f"{run}.txt").exists()
        assert names(path) == [f"{run}.txt"]
    with contextlib.suppress(ZeroDivisionError), atomic_folder(path, (".txt",)) as folder:
        (folder / "three.txt").write_text("three")
        raise ZeroDivisionError
    assert names(path) == ["two.txt"]
    assert names(tmp_path) == ["labels"]


def test_a_folder_with_other_things_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/thesis.pdf").touch()
    with pytest.raises(OutputError, match=r"thesis\.pdf"), atomic_folder(tmp_path / "work", (".txt",)):
        pass
    assert names(tmp_path / "work") == ["thesis.pdf"]


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / "out", b"data")
    assert names(tmp_path) == ["out"]


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "out", b"data")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["n" * 251 + ".266", "ü" * 125 + ".266"])
def test_the_longest_names_a_file_system_takes(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, b"data")
    assert names(tmp_path) == [name]


def test_an_older_folder_survives_a_replacement_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with pytest.raises(OutputError, match="cannot be written"), atomic_folder(path, (".txt",)) as folder:
        folder.rmdir()
    assert names(path) == ["old.txt"]
    assert names(tmp_path) == ["labels"]
