"""Atomic files: whole or not there, nothing left beside them, failures as OutputError. Reading stays within bounds."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcodec.errors import BitstreamError, InputError, OutputError, WeightsError, in_one_line
from featcodec.system import files
from featcodec.system.files import (
    ExistsError,
    _Sink,
    atomic_writer,
    check_new,
    check_regular,
    read_bounded,
    write_atomically,
    write_once,
)
from featcodec.system.leftovers import PART_SUFFIX


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "out.266"
    with atomic_writer(path, overwrite=True) as file:
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
    write_atomically(path, b"old", overwrite=True)

    def fail_half_way() -> None:
        with atomic_writer(path, overwrite=True) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_an_existing_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_atomically(path, b"a long old content", overwrite=True)
    with path.open("rb") as reader:
        write_atomically(path, b"new", overwrite=True)
        assert reader.read() == b"a long old content", "it was written over instead of renamed"
    assert path.read_bytes() == b"new"


def test_what_another_process_writes_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def overtaken() -> None:
        with atomic_writer(path) as file:
            file.write(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(ExistsError) as caught:
        overtaken()
    assert str(caught.value) == f"{path}: exists; use `overwrite` or another `output`"
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def test_the_same_bytes_are_written_once(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for _ in range(2):
        write_once(path, b"data")
    with pytest.raises(ExistsError):
        write_once(path, b"date")
    assert path.read_bytes() == b"data"
    write_once(path, b"date", overwrite=True)
    assert path.read_bytes() == b"date"


def test_text_is_utf_8(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "out.txt", "w", overwrite=False) as file:
        file.write("Zähler\n")
    assert (tmp_path / "out.txt").read_bytes() == "Zähler\n".encode()


def test_a_full_disk_is_an_output_error_with_path_and_reason(tmp_path: Path) -> None:
    """/dev/full takes every write and says that the disk is full."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = _Sink(tmp_path / "out", full)
        with pytest.raises(OutputError, match=r"out: cannot be written \(No space left on device\)"):
            sink.write(b"data")


def test_an_error_that_is_not_the_files_own_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="elsewhere"), atomic_writer(tmp_path / "out", overwrite=False):
        raise PermissionError(errno.EACCES, "elsewhere")
    assert names(tmp_path) == []


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / "out", b"data", overwrite=True)
    assert names(tmp_path) == ["out"]


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "out", b"data", overwrite=True)
    assert names(tmp_path) == ["file"]


def make_odd(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    else:
        path.symlink_to(os.devnull)


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a device"])
def test_devices_and_pipes_are_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """As root, `-o /dev/null` with `overwrite` would make /dev/null a file."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path = tmp_path / "out"
    make_odd(path, kind)
    before = path.lstat()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="out: is not a regular file, so it is not replaced; choose another"):
            check_new(path, overwrite=overwrite)
        with pytest.raises(OutputError, match="out: "):
            write_atomically(path, b"data", overwrite=overwrite)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("target", ["there", "not there", "new/folder/not there"])
def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path: Path, target: str) -> None:
    """As for a folder. Otherwise the file behind the link would keep its old content, and nobody would notice."""
    (tmp_path / "there").write_bytes(b"old")
    link = tmp_path / "links" / "out"
    link.parent.mkdir()
    link.symlink_to(f"../{target}")
    with pytest.raises(ExistsError):
        write_atomically(link, b"data")
    write_atomically(link, b"data", overwrite=True)
    assert link.is_symlink()
    assert (tmp_path / target).read_bytes() == b"data"
    assert names(link.parent) == ["out"]


@pytest.mark.parametrize("other", ["same", "linked", "hard"])
def test_what_a_command_reads_is_not_its_output(tmp_path: Path, other: str) -> None:
    (tmp_path / "same").write_bytes(b"data")
    (tmp_path / "linked").symlink_to("same")
    (tmp_path / "hard").hardlink_to(tmp_path / "same")
    inputs = [tmp_path / "missing", tmp_path / "same"]
    with pytest.raises(OutputError, match=f"{other}: is read by this command; choose another `draw`"):
        check_new(tmp_path / other, "draw", overwrite=True, inputs=inputs)
    check_new(tmp_path / "missing", overwrite=False, inputs=inputs)


def test_a_name_that_is_too_long_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"xx: cannot be written \(File name too long\)"):
        check_new(tmp_path / ("x" * 300), overwrite=True)


@pytest.mark.parametrize("name", ["n" * 251 + ".266", "ü" * 125 + ".266"])
def test_the_longest_names_a_file_system_takes(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, b"data", overwrite=True)
    assert names(tmp_path) == [name]


# Reading within bounds

READERS = (read_bounded, check_regular)


def read_refusal(reader: Callable[..., Any], path: Path, limit: int = 100) -> str:
    with pytest.raises(InputError) as caught:
        reader(path, limit, InputError, what="thing", remedy="give a thing", unreadable="look again")
    message = str(caught.value)
    name = in_one_line(str(path))
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    return message.removeprefix(f"{name}: ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=64), limit=st.integers(0, 64), chunk=st.integers(1, 70))
def test_a_file_is_read_whole_or_refused(tmp_path: Path, data: bytes, limit: int, chunk: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", chunk)
        if len(data) <= limit:
            assert read_bounded(path, limit, InputError, what="thing", remedy="give a thing") == data
            check_regular(path, limit, InputError, what="thing", remedy="give a thing")
        else:
            for reader in READERS:
                assert read_refusal(reader, path, limit) == f"over {limit} bytes, larger than any thing; give a thing"


@pytest.mark.parametrize(
    ("limit", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1 << 10, "1 KiB"), (64 << 20, "64 MiB"), (4 << 30, "4 GiB")],
)
def test_a_limit_is_said_in_words(tmp_path: Path, limit: int, words: str) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(limit + 1)
    for reader in READERS:
        assert read_refusal(reader, tmp_path / "a", limit).startswith(f"over {words}, ")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("error", [BitstreamError, WeightsError])
def test_the_callers_error_is_raised(tmp_path: Path, reader: Callable[..., Any], error: type[Exception]) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(error):
            reader(path, 100, error, what="thing", remedy="give a thing")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_not_a_regular_file_is_refused_and_not_waited_for(
    tmp_path: Path, reader: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    for name in ("pipe", "endless", "folder", "link", "socket"):
        assert read_refusal(reader, tmp_path / name) == "not a regular file; give a thing"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_that_comes_in_between_is_refused(
    tmp_path: Path, reader: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path named a file when it was looked at, and names a pipe when it is opened."""
    path = tmp_path / "a"
    path.write_bytes(b"data")
    really_open = os.open

    def swap(name: Any, flags: int, *more: Any, **others: Any) -> int:
        if name == path and not path.is_fifo():
            path.unlink()
            os.mkfifo(path)
        return really_open(name, flags, *more, **others)

    monkeypatch.setattr(os, "open", swap)
    assert read_refusal(reader, path) == "not a regular file; give a thing"


def test_a_file_that_grows_meanwhile_is_read_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    monkeypatch.setattr(files, "_CHUNK", 2)
    really = files._opened

    @contextlib.contextmanager
    def growing(*arguments: Any) -> Any:
        with really(*arguments) as file:
            with path.open("ab") as more:
                more.write(b"x" * 1000)
            yield file

    monkeypatch.setattr(files, "_opened", growing)
    assert read_refusal(read_bounded, path, 100).startswith("over 100 bytes")
    assert len(read_bounded(path, 2005, InputError, what="thing", remedy="")) == 2005


@pytest.mark.parametrize("reader", READERS)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, reader: Callable[..., Any]) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for name, reason in (
        ("x" * 300, "File name too long"),
        ("nul\0", "embedded null"),
        ("circle", "Too many levels of symbolic links"),
    ):
        message = read_refusal(reader, tmp_path / name)
        assert message.startswith(f"cannot be read ({reason}")
        assert message.endswith("); look again")
    assert read_refusal(reader, tmp_path / "absent") == "no such file; look again"
    for path, remedy in ((tmp_path / "absent", "the path"), (tmp_path / "circle", "the path and its permissions")):
        with pytest.raises(InputError, match=f"; check {remedy}$"):
            reader(path, 100, InputError, what="thing", remedy="give a thing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
@pytest.mark.parametrize("reader", READERS)
def test_a_file_without_permission_is_refused(tmp_path: Path, reader: Callable[..., Any]) -> None:
    (tmp_path / "a").write_bytes(b"data")
    (tmp_path / "a").chmod(0)
    assert read_refusal(reader, tmp_path / "a") == "cannot be read (Permission denied); look again"


def test_a_file_that_claims_to_be_empty_is_read() -> None:
    """As those of /proc do."""
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("no such system")
    assert b"Name:" in read_bounded(path, 1 << 20, InputError, what="thing", remedy="give a thing")
    assert "over 10 bytes" in read_refusal(read_bounded, path, 10)
