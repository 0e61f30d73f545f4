"""Sources of a command line: files, folders, patterns, each file once, no two with the same output."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcodec.errors import InputError
from featcodec.system.paths import Source, cache_folder, exists, expand_sources, is_file, is_folder, weights_folder

JPEG = frozenset({".jpg", ".jpeg"})


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def relatives(*arguments: Path | str) -> list[str]:
    return [source.relative.as_posix() for source in expand_sources(list(map(str, arguments)), JPEG, "images")]


def test_a_folder_is_searched_recursively_and_mirrored(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "sub/a.JPEG", "sub/deep/c.jpg", "notes.txt", ".hidden.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert relatives(tmp_path) == ["b.jpg", "sub/a.JPEG", "sub/deep/c.jpg"]
    (source, *_) = expand_sources([str(tmp_path)], JPEG, "images")
    assert source == Source(tmp_path / "b.jpg", Path("b.jpg"))


IMPOSSIBLE = (
    "x" * 300,
    "x/" * 3000,
    "a\0b",
    "\0",
    "\udc80" * 300,
    "caf\ud800",
    "file/below",
    "absent",
    "circle",
    "dangling",
)


@pytest.mark.parametrize("number", range(len(IMPOSSIBLE)))
def test_a_name_that_no_file_can_have_is_that_of_no_file(tmp_path: Path, number: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "dangling").symlink_to("x" * 300)
    path = tmp_path / IMPOSSIBLE[number]
    assert (exists(path), is_file(path), is_folder(path)) == (False, False, False)


def test_what_a_name_leads_to(tmp_path: Path) -> None:
    make(tmp_path, "file")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    found = {name: (exists(tmp_path / name), is_file(tmp_path / name)) for name in ("file", "link", "pipe")}
    assert found == {"file": (True, True), "link": (True, True), "pipe": (True, False)}
    assert (exists(tmp_path), is_file(tmp_path), is_folder(tmp_path)) == (True, False, True)


def test_what_cannot_be_looked_up_is_not_taken_for_absent(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may look up anything
    try:
        for look in (exists, is_file, is_folder):
            with pytest.raises(InputError, match=r"/closed/a: cannot be read \(Permission denied\); check the path"):
                look(folder / "a")
    finally:
        os.seteuid(user)
        folder.chmod(0o700)


def test_a_named_file_counts_whatever_it_is_called(tmp_path: Path) -> None:
    make(tmp_path, "picture.dat")
    assert relatives(tmp_path / "picture.dat") == ["picture.dat"]


def test_patterns(tmp_path: Path) -> None:
    make(tmp_path, "a1.jpg", "a2.jpg", "a3.txt", "b1.jpg", "sub/a4.jpg")
    assert relatives(tmp_path / "a*") == ["a1.jpg", "a2.jpg"]
    assert relatives(tmp_path / "**" / "a*.jpg") == ["a1.jpg", "a2.jpg", "a4.jpg"]


def test_a_name_that_looks_like_a_pattern_is_first_of_all_a_name(tmp_path: Path) -> None:
    make(tmp_path, "a[1].jpg", "a1.jpg")
    assert relatives(tmp_path / "a[1].jpg") == ["a[1].jpg"]


def test_each_file_counts_once_in_the_order_of_the_arguments(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "c.jpg")
    assert relatives(tmp_path / "c.jpg", tmp_path, tmp_path / "*.jpg") == ["c.jpg", "a.jpg", "b.jpg"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(st.text("abc/", min_size=1, max_size=4).filter(lambda name: "//" not in name), min_size=1))
def test_a_folder_gives_all_its_files_sorted(tmp_path: Path, names: set[str]) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    wanted = {f"x{name}y.jpg" for name in names}
    make(folder, *wanted)
    assert [Path(name) for name in relatives(folder)] == sorted(map(Path, wanted))


@pytest.mark.parametrize("argument", ["missing.jpg", "*.png", "empty"])
def test_an_argument_that_matches_nothing_is_refused_by_name(tmp_path: Path, argument: str) -> None:
    make(tmp_path, "a.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images found") as caught:
        relatives(tmp_path / "a.jpg", tmp_path / argument)
    assert argument in str(caught.value)


def test_an_empty_argument_is_not_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no images found"):
        relatives("")


def test_two_sources_with_one_output_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "a/x.jpg", "b/x.jpg", "c/x.jpg", "c/x.jpeg")
    with pytest.raises(InputError, match="same output"):
        relatives(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="same output"):
        relatives(tmp_path / "c")
    assert relatives(tmp_path / "a", tmp_path / "a" / "x.jpg") == ["x.jpg"]


@pytest.mark.parametrize("other", ["X.jpg", "x.JPEG", "X.Jpeg"])
def test_names_that_differ_in_case_alone_are_refused(tmp_path: Path, other: str) -> None:
    """On macOS and Windows X.266 is x.266."""
    make(tmp_path, "sub/x.jpg", f"sub/{other}")
    with pytest.raises(InputError, match=r"would have the same output; rename one file, or use two output folders"):
        relatives(tmp_path)
    make(tmp_path / "apart", "a/x.jpg", f"b/{other}")
    assert len(relatives(tmp_path / "apart")) == 2


def test_linked_folders_are_searched_each_file_once(tmp_path: Path) -> None:
    make(tmp_path, "disk/a.jpg", "disk/deep/b.jpg", "set/c.jpg")
    (tmp_path / "set/link").symlink_to(tmp_path / "disk")
    (tmp_path / "set/same").symlink_to(tmp_path / "disk")
    assert relatives(tmp_path / "set") == ["c.jpg", "link/a.jpg", "link/deep/b.jpg"]
    (tmp_path / "outside").symlink_to(tmp_path / "set")
    assert relatives(tmp_path / "outside") == ["c.jpg", "link/a.jpg", "link/deep/b.jpg"]


def test_links_that_lead_back_up_end(tmp_path: Path) -> None:
    make(tmp_path, "set/a.jpg", "set/one/b.jpg", "set/two/c.jpg")
    (tmp_path / "set/one/up").symlink_to(tmp_path / "set")
    (tmp_path / "set/two/self").symlink_to(tmp_path / "set/two")
    (tmp_path / "set/one/across").symlink_to(tmp_path / "set/two")
    (tmp_path / "set/two/across").symlink_to(tmp_path / "set/one")
    (tmp_path / "set/nowhere").symlink_to(tmp_path / "set/nowhere")
    found = expand_sources([str(tmp_path / "set")], JPEG, "images")
    assert sorted(source.path.resolve().name for source in found) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("pattern", ["", "*.jpg", "**/*.jpg", "**"])
def test_what_only_looks_like_a_file_is_found_so_that_its_reader_can_say_why_not(tmp_path: Path, pattern: str) -> None:
    make(tmp_path, "set/a.jpg")
    for name, target in (
        ("circle", "circle.jpg"),
        ("dangling", "missing"),
        ("endless", "x" * 300),
        ("note", "missing"),
    ):
        (tmp_path / f"set/{name}.jpg").symlink_to(target)
    os.mkfifo(tmp_path / "set/pipe.jpg")
    (tmp_path / "set/note.jpg").rename(tmp_path / "set/note.txt")
    found = relatives(tmp_path / "set" / pattern)
    assert found == ["a.jpg", "circle.jpg", "dangling.jpg", "endless.jpg", "pipe.jpg"]


@pytest.mark.parametrize("pattern", ["", "**/*.jpg", "**"])
def test_folders_of_links_to_each_other_are_visited_once(tmp_path: Path, pattern: str) -> None:
    """Every path through these folders is another name: there are more than 10^60 of them."""
    names = [f"f{number:02d}" for number in range(50)]
    make(tmp_path, *(f"{name}/{name}.jpg" for name in names))
    for name in names:
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    found = expand_sources([str(tmp_path / pattern)], JPEG, "images")
    assert [source.path for source in found] == [tmp_path / name / f"{name}.jpg" for name in names]


def test_a_file_has_its_own_name_and_not_that_of_a_link(tmp_path: Path) -> None:
    make(tmp_path, "set/real/a.jpg", "set/z.jpg", "disk/b.jpg")
    (tmp_path / "set/a-link").symlink_to(tmp_path / "set/real")
    (tmp_path / "set/a-link.jpg").symlink_to(tmp_path / "set/z.jpg")
    (tmp_path / "set/deep").mkdir()
    (tmp_path / "set/deep/disk").symlink_to(tmp_path / "disk")
    (tmp_path / "set/real/way").symlink_to(tmp_path / "set/deep")
    (tmp_path / "set/two.jpg").symlink_to(tmp_path / "disk/b.jpg")
    (tmp_path / "set/three.jpg").symlink_to(tmp_path / "disk/b.jpg")
    assert relatives(tmp_path / "set") == ["deep/disk/b.jpg", "real/a.jpg", "z.jpg"]


def test_a_deep_folder_is_searched(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(1100):  # Python's limit of recursion is 1000
        folder /= "d"
        folder.mkdir()
    make(folder, "a.jpg")
    try:
        (source,) = expand_sources([str(tmp_path)], JPEG, "images")
        assert source.path == folder / "a.jpg"
    finally:  # what removes the folders of tests may be recursive
        (folder / "a.jpg").unlink()
        while folder != tmp_path:
            folder.rmdir()
            folder = folder.parent


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".git", ".cache/deep"])
def test_hidden_folders_are_left_out_unless_they_are_named(tmp_path: Path, hidden: str) -> None:
    make(tmp_path, "set/a.jpg", f"set/{hidden}/a-checkpoint.jpg", f"set/sub/{hidden}/b.jpg")
    assert relatives(tmp_path / "set") == ["a.jpg"]
    assert relatives(tmp_path / "set" / "**" / "*.jpg") == ["a.jpg"]
    assert relatives(tmp_path / "set" / hidden) == ["a-checkpoint.jpg"]
    assert relatives(tmp_path / "set" / hidden / "*.jpg") == ["a-checkpoint.jpg"]


def test_recursive_patterns_match_as_those_of_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jpg", "x/b.jpg", "x/y/c.jpg", "x/y/c.txt", "z[1]/d.jpg", ".h/e.jpg")
    monkeypatch.chdir(tmp_path)
    for pattern in (
        "**/*.jpg",
        "x/**/*.jpg",
        "*/**/c.jpg",
        "**/y/*.jpg",
        "**/*/*.jpg",
        f"{tmp_path}/**/c.*",
        "*/*.jpg",
    ):
        matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  (it says what is expected)
        expected = {Path(match).resolve() for match in matches if match.endswith(".jpg")}
        assert {source.path.resolve() for source in expand_sources([pattern], JPEG, "images")} == expected, pattern


def test_an_unreadable_folder_is_an_error_and_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jpg", "locked/b.jpg")
    locked = tmp_path / "locked"
    locked.chmod(0)
    if os.access(locked, os.R_OK):  # root may read everything
        listing = Path.iterdir

        def iterdir(path: Path) -> Iterator[Path]:
            if path == locked:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return listing(path)

        monkeypatch.setattr(Path, "iterdir", iterdir)
    try:
        with pytest.raises(InputError, match=r"locked: cannot be read \(Permission denied\); check the path"):
            relatives(tmp_path)
    finally:
        locked.chmod(0o700)


@pytest.mark.parametrize("pattern", ["{}", "{}*", "{}/x.jpg"])
def test_a_name_longer_than_a_file_system_takes_is_no_crash(tmp_path: Path, pattern: str) -> None:
    name = pattern.format("x" * 300)
    with pytest.raises(InputError, match=r"cannot be read \(File name too long\)|no images found"):
        relatives(tmp_path / name)


def test_a_cache_in_the_home_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", "~nosuch/x")
    with pytest.raises(InputError, match="FEATCODEC_HOME=~nosuch/x: no such home folder"):
        cache_folder()


def test_the_cache_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path))
    assert cache_folder() == tmp_path
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.setenv("FEATCODEC_HOME", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.delenv("FEATCODEC_HOME")
    assert cache_folder().name == "featcodec"
    assert cache_folder().is_absolute()
