"""Addresses of objects, on fsspec's store in memory; tests/cli/test_cli_addresses.py has a real S3 server."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.errors import FeatcodecError, InputError, OutputError
from featcodec.system.addresses import Address, is_address, path_of, states_below
from featcodec.system.elsewhere import state_of
from featcodec.system.files import ExistsError, atomic_writer, check_new, read_bounded, write_atomically
from featcodec.system.paths import expand_sources

WORDS = {"what": "thing", "remedy": "give a thing"}


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Address:
    """An address of its own for each test. The store in memory lasts as long as this process."""
    path = path_of(f"memory://{re.sub('[^a-z_]', '.', request.node.name)}")
    assert isinstance(path, Address)
    return path


def put(address: Address, data: bytes) -> Address:
    fsspec.filesystem("memory").pipe_file(address.place, data)
    return address


def test_an_address_is_a_path(folder: Address) -> None:
    address = folder / "a" / "b.c.jpg"
    assert str(address) == f"{folder}/a/b.c.jpg"
    assert str(address.with_suffix(".266")) == f"{folder}/a/b.c.266"
    assert (address.name, address.stem, address.suffix) == ("b.c.jpg", "b.c", ".jpg")
    assert address == path_of(str(address))
    assert hash(address) == hash(path_of(str(address)))
    assert path_of(address) is address


def test_what_was_found_travels_along(folder: Address) -> None:
    put(folder / "a.jpg", b"1234")
    (source,) = expand_sources([str(folder)], frozenset({".jpg"}), "images")
    fsspec.filesystem("memory").rm_file(source.path.place)  # type: ignore[attr-defined]
    for copy in (source, pickle.loads(pickle.dumps(source))):
        assert copy.path.stat().st_size == 4
        assert copy == source
        assert str(copy.path) == f"{folder}/a.jpg"


@pytest.mark.parametrize("path", ["/a/b", "a/b", "a:b", "s3:/a", "", ".", "C:\\a"])
def test_a_path_is_no_address(path: str) -> None:
    assert not is_address(path)
    assert path_of(path) == Path(path)


def test_addresses_of_files_are_paths(tmp_path: Path) -> None:
    assert path_of(f"file://{tmp_path}") == tmp_path
    with pytest.raises(InputError, match="not a whole path"):
        path_of("file://a/b")


@pytest.mark.parametrize(
    "text", ["s3://", "s3:///key", "s3://key:secret@bucket/a", "s3://b/a", "s3://bu cket", "memory://a\0b"]
)
def test_an_address_without_a_bucket_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="BUCKET/KEY") as raised:
        path_of(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("text", ["ftp://host/a", "zip://a", "simplecache::s3://bucket/a", "http://host/a"])
def test_other_kinds_of_addresses_are_refused(text: str) -> None:
    if "::" in text:
        assert not is_address(text)
    else:
        with pytest.raises(InputError, match="no such kind"):
            path_of(text)


@pytest.mark.parametrize("key", ["a//b", "../a", "a/../b", "./a", "a/.", "a\0b", "/a"])
def test_keys_that_no_path_can_have_are_refused(key: str) -> None:
    with pytest.raises(InputError, match="rename"):
        path_of(f"s3://bucket/{key}")


@pytest.mark.parametrize("key", ["in/../../../etc/evil.jpg", "in//b.jpg", "in/./b.jpg"])
def test_an_object_cannot_lead_out_of_the_output(folder: Address, key: str) -> None:
    objects = fsspec.filesystem("memory").store
    objects[f"/{folder.place}/{key}"] = objects.pop(f"/{put(folder / 'a.jpg', b'1').place}")
    try:
        with pytest.raises(InputError, match="rename"):
            expand_sources([f"{folder}/in"], frozenset({".jpg"}), "images")
    finally:
        del objects[f"/{folder.place}/{key}"]


def test_sources(folder: Address, tmp_path: Path) -> None:
    names = ["b.jpg", "a/c.PNG", "a/b/d.jpg", "a-b.jpg", "a.txt", ".hidden.jpg", ".git/e.jpg", "x [1].jpg"]
    for name in names:
        put(folder / "in" / name, b"1")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")

    def found(*arguments: object) -> list[str]:
        sources = expand_sources([str(each) for each in arguments], frozenset({".jpg", ".png"}), "images")
        return [source.relative.as_posix() for source in sources]

    for pattern in ("", "/", "/a", "/b.jpg", "/a.txt", "/*.jpg", "/a/*", "/*/*.PNG", "/x [[]1].jpg", "/**/d.jpg"):
        assert found(f"{folder}/in{pattern}") == found(f"{tmp_path}{pattern}"), pattern
    assert found(f"{folder}/in/x [1].jpg") == ["x [1].jpg"]
    assert found(f"{folder}/in/a", tmp_path / "b.jpg") == ["b/d.jpg", "c.PNG", "b.jpg"]
    for missing in ("/nothing", "/*.tif"):
        with pytest.raises(InputError, match="no images found"):
            found(f"{folder}{missing}")
    with pytest.raises(InputError, match="same output"):
        found(f"{folder}/in", tmp_path)


@given(data=st.binary(max_size=100), limit=st.integers(0, 100))
def test_reading_within_bounds(data: bytes, limit: int) -> None:
    address = path_of("memory://bounds/a")
    assert isinstance(address, Address)
    put(address, data)
    if len(data) <= limit:
        assert read_bounded(address, limit, InputError, **WORDS) == data
    else:
        with pytest.raises(InputError, match="larger than any thing; give a thing"):
            read_bounded(address, limit, InputError, **WORDS)


def test_reading_what_is_not_there(folder: Address) -> None:
    with pytest.raises(InputError, match=f"{folder}/a: no such file; check the path"):
        read_bounded(folder / "a", 10, InputError, **WORDS)
    assert state_of(folder / "a") is None
    assert not (folder / "a").exists()


@given(data=st.binary(max_size=300), block=st.integers(2, 50), steps=st.lists(st.integers(-100, 400), max_size=8))
def test_an_open_object_is_like_an_open_file(data: bytes, block: int, steps: list[int]) -> None:
    address = path_of("memory://opened/a")
    assert isinstance(address, Address)
    put(address, data)
    with address.open("rb", block) as file:
        for step in steps:
            if step >= 0:
                file.seek(step)
            else:
                start = file.tell()
                assert file.read(-step) == data[start : start - step]
        file.seek(0)
        assert file.read() == data
        assert file.seek(0, os.SEEK_END) == len(data)


def test_an_object_appears_whole_or_not_at_all(folder: Address) -> None:
    address = folder / "a" / "x.json"
    with pytest.raises(ZeroDivisionError), atomic_writer(address, "w") as file:
        file.write("half" * (1 // 0))
    assert not address.exists()
    with atomic_writer(address, "w") as file:
        file.write("wh\udcffole")
        assert not address.exists()
    assert read_bounded(address, 10, InputError, **WORDS) == b"wh\xffole"
    write_atomically(folder / "b", b"bytes")
    assert read_bounded(folder / "b", 10, InputError, **WORDS) == b"bytes"


def written(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    with atomic_writer(path, overwrite=overwrite) as file:
        file.write(data)


@pytest.mark.parametrize("write", [write_atomically, written])
def test_nothing_is_replaced_by_accident(folder: Address, write: Callable[..., None]) -> None:
    address = folder / "a"
    write(address, b"first")
    with pytest.raises(ExistsError, match="use `overwrite`"):
        write(address, b"second")
    with pytest.raises(ExistsError, match="use `overwrite`"):
        check_new(address, overwrite=False)
    check_new(address, overwrite=True)
    with pytest.raises(OutputError, match="read by this command"):
        check_new(address, overwrite=True, inputs=[address])
    assert read_bounded(address, 10, InputError, **WORDS) == b"first"
    write(address, b"third", overwrite=True)
    assert read_bounded(address, 10, InputError, **WORDS) == b"third"


def test_a_bucket_is_no_file() -> None:
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"memory://bucket\.json: is a folder"):
            check_new(path_of("memory://bucket.json"), overwrite=overwrite)


def test_states(folder: Address, tmp_path: Path) -> None:
    put(folder / "out" / "a", b"123")
    state = states_below(folder / "out")
    found = state(folder / "out" / "a")
    assert found is not None
    assert found == (folder / "out" / "a").state()
    assert (found.size, state(folder / "out" / "b")) == (3, None)
    assert states_below(folder / "nothing")(folder / "nothing" / "a") is None
    (tmp_path / "a").write_bytes(b"12")
    found = states_below(tmp_path)(tmp_path / "a")
    assert found == (2, (tmp_path / "a").stat().st_mtime_ns)


def test_no_call_of_the_system_gets_an_address(folder: Address) -> None:
    """Else it would make or read a local file of that name."""
    for call in (os.stat, os.listdir, Path.mkdir, Path.touch, Path.unlink, open, os.path.realpath):
        with pytest.raises(FeatcodecError, match=f"{folder}: "):
            call(folder)  # type: ignore[operator]
    with pytest.raises(FeatcodecError, match=f"{folder}: "):
        folder.open("wb")
    with pytest.raises(FeatcodecError, match=f"{folder}: "):
        folder.write_bytes(b"")


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(kind: str, **_: object) -> None:
        raise ImportError(f"Install {kind}fs to access it")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(InputError, match=r"s3://bucket/a: s3:// needs a library .*; pip install 'featcodec\[s3\]'"):
        expand_sources(["s3://bucket/a"], frozenset({".jpg"}), "images")
    with pytest.raises(OutputError, match="pip install"):
        write_atomically(path_of("s3://bucket/a"), b"")
