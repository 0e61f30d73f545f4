"""The manifest of a run on a cluster. Nothing here needs a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from featcodec.cluster import journal
from featcodec.cluster.manifest import Manifest, manifest_path
from featcodec.errors import InputError, OutputError
from featcodec.pipeline.coding import Encoded, output_path
from featcodec.system.addresses import Address, objects_below, path_of
from featcodec.system.files import read_bounded, write_atomically
from featcodec.system.paths import Source

SETTINGS = {"qp": 40, "quantizer": [-3.0, 3.0, 8]}


@pytest.fixture(params=["files", "objects"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "out" if request.param == "files" else path_of(f"memory://{tmp_path.name}/out")


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    made = []
    for name in ("a", "b/c", "ä\nö"):
        path = tmp_path / "in" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        made.append(Source(path, Path(f"{name}.png")))
    return made


def coded(source: Source, folder: Path) -> Encoded:
    output = output_path(source, folder)
    write_atomically(output, b"stream of " + source.path.read_bytes(), overwrite=True)
    return Encoded(source, output, output.stat().st_size, 640)


def write(folder: Path, sources: list[Source], settings: dict[str, object] = SETTINGS) -> None:
    with Manifest(folder, settings, overwrite=False) as manifest:
        for source in sources:
            manifest.add(coded(source, folder))


def left(folder: Path, sources: list[Source], **options: object) -> list[Source]:
    with Manifest(folder, options.pop("settings", SETTINGS), overwrite=bool(options)) as manifest:  # type: ignore[arg-type]
        done, waiting = manifest.split(sources)
    assert len(done) + len(waiting) == len(sources)
    return waiting


def parts_of(folder: Path) -> list[Path]:
    """The files or objects of a manifest."""
    path = manifest_path(folder)
    return sorted(objects_below(path)) if isinstance(path, Address) else [path]


def test_what_is_noted_is_done(folder: Path, sources: list[Source]) -> None:
    assert left(folder, sources) == sources
    write(folder, sources[:2])
    with Manifest(folder, SETTINGS, overwrite=False) as manifest:
        done, waiting = manifest.split(sources)
        manifest.add(coded(sources[2], folder))
    assert waiting == sources[2:]
    assert [outcome.source for outcome in done] == sources[:2]
    assert all(outcome.skipped and outcome.pixels == 640 for outcome in done)
    assert [outcome.bytes for outcome in done] == [outcome.output.stat().st_size for outcome in done]
    assert left(folder, sources) == []


def test_failures_are_tried_again(folder: Path, sources: list[Source]) -> None:
    with Manifest(folder, SETTINGS, overwrite=False) as manifest:
        manifest.add(Encoded(sources[0], output_path(sources[0], folder), error="its worker died"))
    assert left(folder, sources) == sources


@pytest.mark.parametrize("change", ["settings", "overwrite"])
def test_files_of_other_runs_do_not_count(folder: Path, sources: list[Source], change: str) -> None:
    write(folder, sources)
    options: dict[str, object] = {"settings": {"qp": 41}} if change == "settings" else {"overwrite": True}
    assert left(folder, sources, **options) == sources
    assert left(folder, sources) == sources  # the manifest is that of the last run


def test_a_file_or_image_that_has_changed_is_not_done(folder: Path, sources: list[Source]) -> None:
    write(folder, sources)
    for source, data in ((sources[0], b"longer than before, much longer"), (sources[1], b"torn")):
        write_atomically(output_path(source, folder), data, overwrite=True)
    os.utime(sources[2].path, (1, 1))
    assert left(folder, sources) == sources


@pytest.mark.parametrize(
    "damage", [b"", b"\x00\xff", b"[]\n", b"[" * 100_000, b'{"qp": 40', b"1" * 5000, b'["a.png", "1", 1, 1, 1]\n']
)
def test_a_damaged_manifest_only_costs_time(folder: Path, sources: list[Source], damage: bytes) -> None:
    write(folder, sources)
    (path,) = parts_of(folder)
    whole = read_bounded(path, 1 << 20, InputError, what="manifest", remedy="")
    write_atomically(path, damage, overwrite=True)
    assert left(folder, sources) == sources
    first, rest = whole.split(b"\n", 1)
    write_atomically(path, first + b"\n" + damage + b"\n" + rest, overwrite=True)
    assert len(left(folder, sources)) <= 2  # a line that is too long swallows those behind it


def test_a_torn_line_is_no_part_of_the_next(tmp_path: Path, sources: list[Source]) -> None:
    folder = tmp_path / "out"
    write(folder, sources[:2])
    path = manifest_path(folder)
    path.write_bytes(path.read_bytes()[:-5])
    write(folder, sources[1:])
    assert left(folder, sources) == []


def test_it_is_beside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert manifest_path(tmp_path / "link") == manifest_path(tmp_path / "real") == tmp_path / "real.manifest.jsonl"
    assert manifest_path(path_of("s3://bucket/a/out")) == path_of("s3://bucket/a/out.manifest")
    assert manifest_path(path_of("s3://bucket")) == path_of("s3://bucket/.manifest")


def test_one_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    manifest_path(folder).mkdir()
    with pytest.raises(OutputError, match=r"manifest\.jsonl"), Manifest(folder, SETTINGS, overwrite=False):
        pass


def test_objects_are_written_now_and_then(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_LINES_PER_PART", 2)
    folder = path_of(f"memory://{tmp_path.name}/out")
    with Manifest(folder, SETTINGS, overwrite=False) as manifest:
        for source in sources:
            manifest.add(coded(source, folder))
        assert len(parts_of(folder)) == 1
        assert left(folder, sources) == sources[2:]  # what a run that is killed here leaves
    assert len(parts_of(folder)) == 2


def test_many_objects_become_one(tmp_path: Path, sources: list[Source]) -> None:
    folder = path_of(f"memory://{tmp_path.name}/out")
    for _ in range(journal._MOST_PARTS + 1):
        write(folder, sources)
    assert len(parts_of(folder)) == journal._MOST_PARTS + 1
    assert left(folder, sources) == []
    assert len(parts_of(folder)) == 1
    assert left(folder, sources) == []


def test_objects_of_others_stay(tmp_path: Path, sources: list[Source]) -> None:
    folder = path_of(f"memory://{tmp_path.name}/out")
    other = manifest_path(folder) / "notes.jsonl"
    write_atomically(other, b"mine")
    write(folder, sources)
    left(folder, sources, settings={"qp": 1})
    assert parts_of(folder) == [other]
