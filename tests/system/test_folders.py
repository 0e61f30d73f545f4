"""Atomic folders: whole or not there, nothing left beside them; what is not theirs is never lost."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest
from refused_calls import run_refusing

from featcodec.errors import OutputError
from featcodec.system.files import ExistsError, write_atomically
from featcodec.system.folders import atomic_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(path: Path, name: str, *, overwrite: bool = False) -> None:
    with atomic_folder(path, (".txt",), overwrite=overwrite) as folder:
        (folder / name).write_text(name)


def test_a_folder_appears_at_the_end_and_replaces_an_older_one_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    for run in ("one", "two"):
        with atomic_folder(path, (".txt",), overwrite=True) as folder:
            (folder / f"{run}.txt").write_text(run)
            assert not (path / f"{run}.txt").exists()
        assert names(path) == [f"{run}.txt"]
    with contextlib.suppress(ZeroDivisionError), atomic_folder(path, (".txt",), overwrite=True) as folder:
        (folder / "three.txt").write_text("three")
        raise ZeroDivisionError
    assert names(path) == ["two.txt"]
    assert names(tmp_path) == ["labels"]


def test_a_folder_with_other_things_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/thesis.pdf").touch()
    with pytest.raises(OutputError, match=r"thesis\.pdf"), atomic_folder(tmp_path / "work", (".txt",), overwrite=True):
        pass
    assert names(tmp_path / "work") == ["thesis.pdf"]


@pytest.mark.parametrize("path", ["/", "//", "/tmp/.."])
@pytest.mark.parametrize("overwrite", [True, False])
def test_the_root_is_not_replaced(path: str, overwrite: bool) -> None:
    with (
        pytest.raises(OutputError, match="choose another `output`"),
        atomic_folder(Path(path), (), overwrite=overwrite),
    ):
        raise AssertionError


@pytest.mark.parametrize(("name", "overwrite"), [("a.txt", False), ("thesis.pdf", True)])
def test_what_comes_in_between_is_not_replaced(tmp_path: Path, name: str, overwrite: bool) -> None:
    path = tmp_path / "labels"

    def overtaken() -> None:
        with atomic_folder(path, (".txt",), overwrite=overwrite) as folder:
            (folder / "new.txt").touch()
            path.mkdir()
            (path / name).write_text("of somebody else")

    with pytest.raises(OutputError, match=r"exists|thesis\.pdf"):
        overtaken()
    assert (path / name).read_text() == "of somebody else"
    assert names(path) == [name]
    assert names(tmp_path) == ["labels"]


def test_an_empty_folder_is_replaced_and_one_with_files_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.mkdir()
    make(path, "one.txt")
    with pytest.raises(ExistsError, match="labels: exists; use `overwrite`"):
        make(path, "two.txt")
    assert names(path) == ["one.txt"]
    make(path, "two.txt", overwrite=True)
    assert names(path) == ["two.txt"]


def test_what_cannot_be_written_in_it_has_its_later_name_in_the_message(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "labels", (".txt",)) as folder:
            (folder / "a").touch()
            write_atomically(folder / "a/b.txt", b"")

    with pytest.raises(OutputError) as caught:
        fail()
    assert str(caught.value).startswith(f"{tmp_path / 'labels/a/b.txt'}: cannot be written")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/old.txt").touch()
    (tmp_path / "labels").symlink_to("real")
    make(tmp_path / "labels", "new.txt", overwrite=True)
    assert names(tmp_path / "real") == ["new.txt"]
    assert names(tmp_path) == ["labels", "real"]
    assert (tmp_path / "labels").is_symlink()


def test_an_older_folder_survives_a_replacement_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        atomic_folder(path, (".txt",), overwrite=True) as folder,
    ):
        folder.rmdir()
    assert names(path) == ["old.txt"]
    assert names(tmp_path) == ["labels"]


ALWAYS_THERE = """
import sys, threading
from pathlib import Path
from featcodec.system.folders import atomic_folder
path = Path(sys.argv[1])
seen = {True: 0, False: 0}
stop = threading.Event()
def watch():
    while not stop.is_set():
        seen[path.is_dir()] += 1
def write(name):
    with atomic_folder(path, (".txt",), overwrite=True) as folder:
        (folder / name).touch()
write("0.txt")
watcher = threading.Thread(target=watch)
watcher.start()
for number in range(300):
    write(f"{number}.txt")
stop.set()
watcher.join()
print(seen[False], [file.name for file in path.iterdir()], len(list(path.parent.iterdir())))
"""


@pytest.mark.parametrize("refused", [{}, {"renameat2": errno.EINVAL}], ids=["all", "no renameat2"])
def test_one_of_the_two_folders_always_stands_there(tmp_path: Path, refused: dict[str, int]) -> None:
    out = run_refusing(refused, ALWAYS_THERE, tmp_path / "labels")
    missing, rest = out.split(maxsplit=1)
    assert rest == "['299.txt'] 1\n"
    if not refused:
        assert missing == "0"
