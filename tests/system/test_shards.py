"""Shards: written as WebDataset and DALI read them, and hostile ones refused."""

from __future__ import annotations

import gc
import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refusal_of

from featcodec.errors import InputError
from featcodec.system.addresses import path_of
from featcodec.system.files import read_bounded, write_atomically
from featcodec.system.paths import expand_sources
from featcodec.system.shards import Entry, member_name, members_of, path_of_member, scan, write_index, write_shard

ENDINGS = frozenset({".266"})
WORDS = {"what": "thing", "remedy": "give a thing"}
FILES = {
    **{
        "a.266": b"1" * 700,
        "b/c.266": b"",
        "b/cam.01.266": b"2" * 512,
        "with space.266": b"3",
        "ä/ö.266": b"4" * 10240,
    },
    **{f"long/{'x' * 200}/{'ü' * 40}.266": b"5" * 100, "100%.266": b"6", "__meta__/d.266": b"7"},
    f"edge/{'é' * 60}.266": b"8",
}


def make(shard: Path, files: dict[str, bytes] = FILES) -> list[Entry]:
    sink = io.BytesIO()
    entries = write_shard(sink, [(member_name(Path(name)), data) for name, data in files.items()])
    write_atomically(shard, sink.getvalue(), overwrite=True)
    return entries


def read(shard: Path) -> dict[str, bytes]:
    return {
        relative.as_posix(): read_bounded(member, 1 << 20, InputError, **WORDS)
        for member, relative in members_of(shard, ENDINGS)
    }


@pytest.mark.parametrize("with_index", [False, True])
@pytest.mark.parametrize("where", ["file", "object"])
def test_what_is_written_is_read(tmp_path: Path, with_index: bool, where: str) -> None:
    folder = tmp_path if where == "file" else path_of(f"memory://{tmp_path.name}.{with_index}")
    entries = make(folder / "000000.tar")
    if with_index:
        write_index(folder / "000000.tar", entries)
        assert read_bounded(folder / "000000.idx", 10_000, InputError, **WORDS).startswith(
            b"v1.2 9\n266 512 700 a.266\n"
        )
    assert list(scan(folder / "000000.tar")) == entries
    assert list(read(folder / "000000.tar").items()) == list(FILES.items())
    sources = expand_sources([str(folder)], ENDINGS, "bitstreams", in_shards=True)
    assert [source.relative.as_posix() for source in sources] == list(FILES)
    assert str(sources[0].path) == f"{folder}/000000.tar/a.266"
    again = pickle.loads(pickle.dumps(sources))
    assert again == sources
    assert read_bounded(again[0].path, 1000, InputError, **WORDS) == FILES["a.266"]
    assert again[0].path.stat().st_size == 700


def test_a_member_is_bounded(tmp_path: Path) -> None:
    make(tmp_path / "0.tar")
    member, _ = members_of(tmp_path / "0.tar", ENDINGS)[0]
    assert "larger than any thing" in refusal_of(
        InputError, member, lambda path: read_bounded(path, 600, InputError, **WORDS)
    )
    with member.open() as file:
        file.seek(690)
        assert file.read() == b"1" * 10


def test_a_shard_is_a_tar_file_with_plain_members(tmp_path: Path) -> None:
    make(tmp_path / "0.tar")
    make(tmp_path / "1.tar")
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    with tarfile.open(tmp_path / "0.tar") as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == [member_name(Path(name)) for name in FILES]
        assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
            (0, 0, 0, "", 0o644)
        }


# The library leaves the file open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_library_of_webdataset_reads_the_same_keys(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    make(tmp_path / "0.tar")
    found = [
        (sample["__key__"], sample["266"])
        for sample in webdataset.WebDataset(str(tmp_path / "0.tar"), shardshuffle=False)
    ]
    gc.collect()
    expected = [(member_name(Path(name)).removesuffix(".266"), data) for name, data in FILES.items()]
    assert found == expected
    assert [str(path_of_member(tmp_path, f"{key}.266")) for key, _ in found] == list(FILES)


PARTS = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=8)


@given(parts=st.lists(PARTS.filter(lambda part: part not in (".", "..")), max_size=3), stem=PARTS)
@settings(max_examples=200)
def test_names_come_back(parts: list[str], stem: str) -> None:
    path = Path(*parts, f"{stem}.266")
    name = member_name(path)
    assert path_of_member(Path("0.tar"), name) == path
    last = name.rpartition("/")[2]
    assert last.count(".") == 1
    assert not any(character.isspace() for character in name)
    assert not name.startswith("__")


def test_names_that_are_no_utf_8_come_back() -> None:
    path = Path(os.fsdecode(b"caf\xe9.266"))
    assert member_name(path) == "caf%E9.266"
    assert path_of_member(Path("0.tar"), "caf%E9.266") == path


def foreign(
    path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, form: int = tarfile.PAX_FORMAT
) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, "/etc/passwd"
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_others_are_read(tmp_path: Path, form: int) -> None:
    members = [("folder/a.266", b"1"), ("folder/a.json", b"{}"), ("ä.266", b"2"), (f"{'x' * 99}/{'y' * 90}.266", b"3")]
    path = foreign(tmp_path / "x.tar", *members, form=form)
    assert read(path) == {name: data for name, data in members if name.endswith(".266")}
    (tmp_path / "x.idx").write_text("v1.2 3\n266 512 1 folder/a.266 json 1536 2 folder/a.json\n")
    assert len(read(path)) == 3


@pytest.mark.parametrize("name", ["../a.266", "/a.266", "b/../../a.266", "b%2F..%2F../a.266", "a%00.266", "%2Fa.266"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = foreign(tmp_path / "x.tar", (name, b"1"))
    assert "not the name of a file below a folder" in refusal_of(InputError, path, read)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = foreign(tmp_path / "x.tar", ("a.266", b""), kind=kind)
    assert "not a regular file" in refusal_of(InputError, path, read)


def test_double_names_are_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "x.tar", ("a.266", b"1"), ("a.266", b"2"))
    assert "holds 'a.266' twice" in refusal_of(InputError, path, read)
    make(tmp_path / "y.tar", {"b.266": b"1"})
    make(tmp_path / "z.tar", {"B.266": b"1"})
    with pytest.raises(InputError, match="same output"):
        expand_sources([str(tmp_path / "y.tar"), str(tmp_path / "z.tar")], ENDINGS, "bitstreams", in_shards=True)


def test_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    entries = make(path)
    data = path.read_bytes()
    for cut in (0, 100, 600, entries[2].offset - 512, entries[2].offset + 100, len(data) - 10240):
        path.write_bytes(data[:cut])
        refusal_of(InputError, path, read)
    path.write_bytes(b"\0" * len(data))
    assert read(path) == {}
    header = entries[2].offset - 512
    path.write_bytes(data[: header + 5] + b"!" + data[header + 6 :])
    assert f"is damaged or cut off at byte {header}" in refusal_of(InputError, path, read)


def test_a_header_cannot_claim_memory(tmp_path: Path) -> None:
    """A name as long as the file, and a size beyond its end."""
    for kind, size in ((tarfile.GNUTYPE_LONGNAME, 1 << 30), (tarfile.XHDTYPE, 1 << 30), (tarfile.REGTYPE, 1 << 40)):
        info = tarfile.TarInfo("a.266")
        info.type, info.size = kind, size
        (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(20480))
        refusal_of(InputError, tmp_path / "x.tar", read)
    os.mkfifo(tmp_path / "pipe.tar")
    assert "not a regular file" in refusal_of(InputError, tmp_path / "pipe.tar", read)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "v1.1 1\n266 512 700\n",
            "v1.2 2\n266 512 700 a.266\n",
            "v1.2 1\n266 512 700 a.266",
            "v1.2 1\n266 0 700 a.266\n",
        ),
        *("v1.2 1\n266 512 -7 a.266\n", "v1.2 1\n266 512 9999999 a.266\n", "v1.2 1\n266 513 700 a.266\n", "\udcff\n"),
        "v1.2 2\n266 512 700 a.266\n266 512 700 b.266\n",
    ],
)
def test_an_index_that_cannot_be_right_is_not_used(tmp_path: Path, text: str) -> None:
    make(tmp_path / "0.tar")
    (tmp_path / "0.idx").write_text(text, errors="surrogateescape")
    assert list(read(tmp_path / "0.tar")) == list(FILES)


def test_an_index_gives_no_image_the_stream_of_another(tmp_path: Path) -> None:
    entries = make(tmp_path / "0.tar", {"a.266": b"1" * 9, "b.266": b"2" * 9})
    swapped = [Entry("b.266", entries[0].offset, 9), Entry("a.266", entries[1].offset, 9)]
    write_index(tmp_path / "0.tar", swapped)
    for member, _ in members_of(tmp_path / "0.tar", ENDINGS):
        message = refusal_of(InputError, member, lambda path: read_bounded(path, 100, InputError, **WORDS))
        assert "remove the index" in message


def test_a_shard_that_has_gone_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "gone.tar")
    member, _ = members_of(tmp_path / "gone.tar", ENDINGS)[0]
    (tmp_path / "gone.tar").unlink()
    assert "no such file" in refusal_of(InputError, member, lambda path: read_bounded(path, 9999, InputError, **WORDS))
