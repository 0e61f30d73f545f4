"""The manifest of a run on a cluster. Nothing here needs a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from featcodec.cluster.manifest import Manifest, manifest_path
from featcodec.errors import OutputError
from featcodec.pipeline.coding import Encoded, output_path
from featcodec.system.paths import Source

SETTINGS = {"qp": 40, "quantizer": [-3.0, 3.0, 8]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


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
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(b"stream of " + source.path.read_bytes())
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
    output_path(sources[0], folder).unlink()
    output_path(sources[1], folder).write_bytes(b"torn")
    os.utime(sources[2].path, (1, 1))
    assert left(folder, sources) == sources


@pytest.mark.parametrize(
    "damage", [b"", b"\x00\xff", b"[]\n", b"[" * 100_000, b'{"qp": 40', b"1" * 5000, b'["a.png", "1", 1, 1, 1]\n']
)
def test_a_damaged_manifest_only_costs_time(folder: Path, sources: list[Source], damage: bytes) -> None:
    write(folder, sources)
    path = manifest_path(folder)
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert left(folder, sources) == sources
    first, rest = whole.split(b"\n", 1)
    path.write_bytes(first + b"\n" + damage + b"\n" + rest)
    assert len(left(folder, sources)) <= 2  # a line that is too long swallows those behind it


def test_a_torn_line_is_no_part_of_the_next(folder: Path, sources: list[Source]) -> None:
    write(folder, sources[:2])
    path = manifest_path(folder)
    path.write_bytes(path.read_bytes()[:-5])
    write(folder, sources[1:])
    assert left(folder, sources) == []


def test_it_is_beside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert manifest_path(tmp_path / "link") == manifest_path(tmp_path / "real") == tmp_path / "real.manifest.jsonl"


def test_one_that_cannot_be_written_is_said(folder: Path) -> None:
    manifest_path(folder).mkdir()
    with pytest.raises(OutputError, match=r"manifest\.jsonl"), Manifest(folder, SETTINGS, overwrite=False):
        pass
