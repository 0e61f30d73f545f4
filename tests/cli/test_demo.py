"""featcodec demo, which bin/quickstart calls: what it leaves, that its rows follow from it, what it never removes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcodec.bitstream import read_file, unpack
from featcodec.cli.demonstration import CONTENTS, JPEG_QUALITIES, LATENT_QPS
from featcodec.cli.main import main
from featcodec.evaluation.points import PointFile, Row
from featcodec.evaluation.rate import rate_of_streams
from featcodec.images.reading import read_image
from featcodec.privacy.image_quality import image_quality
from featcodec.privacy.private_details import read_private_details

COUNT = 3


@dataclass(frozen=True)
class Shown:
    """What became of `featcodec demo`."""

    code: int
    out: str
    err: str


def demo(*arguments: object) -> Shown:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main(["demo", *map(str, arguments)])
    assert "Traceback" not in err.getvalue()
    return Shown(int(stop.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def shown(folder: Path) -> Shown:
    """A run as people start it, but for the number of scenes."""
    return demo("-o", folder, "-n", COUNT, "--overwrite", "--json")


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """For runs of which the figures do not matter."""
    monkeypatch.setattr("featcodec.cli.demonstration.LATENT_QPS", (40,))
    monkeypatch.setattr("featcodec.cli.demonstration.JPEG_QUALITIES", (50,))


@pytest.fixture
def report(shown: Shown) -> Any:
    assert shown.code == 0, shown.err
    return json.loads(shown.out)


def rows_of(folder: Path, method: str) -> Iterator[Row]:
    return (row for row in PointFile(folder / "points.csv").rows() if row["method"] == method)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_it_says_what_it_does_and_what_came_of_it(shown: Shown, report: Any, folder: Path) -> None:
    assert [line.split(":")[0] for line in shown.err.splitlines()] == ["scenes", "encode and decode", "sweep", "invert"]
    assert sorted(report) == ["guessing", "images", "picture", "rows", "seconds"]
    assert report["images"] == COUNT
    assert report["picture"] == str(folder / "demo.png")
    assert 0 < report["guessing"] < 0.2
    png, jpeg, latent, bottleneck = report["rows"]
    assert png["name"] == "PNG"
    assert int(jpeg["name"].removeprefix("JPEG, quality ")) in JPEG_QUALITIES
    assert int(latent["name"].removeprefix("latent features, QP ")) in LATENT_QPS
    assert bottleneck["name"] == "bottleneck, QP 38"
    for row in report["rows"]:
        assert sorted(row) == ["ap50", "bpp", "name", "plates", "psnr"]
        assert 0 <= row["ap50"] <= 100
    for row in (latent, bottleneck):
        assert 5 < row["psnr"] < 40
        assert 0 <= row["plates"] <= 1
    assert (png["psnr"], jpeg["psnr"], jpeg["plates"]) == (None, None, None)
    assert png["bpp"] > jpeg["bpp"] > bottleneck["bpp"] > 0
    assert png["plates"] > 0.5


@pytest.mark.slow
def test_the_folder_holds_what_the_rows_come_from(report: Any, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(CONTENTS)
    names = [f"{number:06d}" for number in range(COUNT)]
    for part in ("scenes/images", "streams", "attack/side-by-side"):
        assert sorted(path.stem for path in (folder / part).iterdir()) == names
    png, _, _, bottleneck = report["rows"]
    streams = sorted((folder / "streams").iterdir())
    assert all(unpack(read_file(stream))[0].qp == 38 for stream in streams)
    assert bottleneck["bpp"] == pytest.approx(rate_of_streams(streams).bpp)
    images = sorted((folder / "scenes/images").iterdir())
    assert png["bpp"] == pytest.approx(8 * sum(path.stat().st_size for path in images) / (COUNT * 512 * 512))
    (uncoded,) = rows_of(folder, "uncoded")
    assert png["ap50"] == float(uncoded["ap50"])
    # The pictures are what the attacker sees: but for their rounding to 8 bits, the PSNR is theirs.
    pairs = [(read_image(path) / 255, read_image(folder / "attack" / path.name) / 255) for path in images]
    measured = [image_quality(*(image.astype(np.float32) for image in pair)).psnr for pair in pairs]
    assert bottleneck["psnr"] == pytest.approx(np.mean(measured), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "method", "values", "parameter"),
    [(1, "input-jpeg", JPEG_QUALITIES, "quality"), (2, "latent", LATENT_QPS, "qp")],
)
def test_anchors_are_the_cheapest_points_that_are_as_accurate(
    report: Any, folder: Path, place: int, method: str, values: tuple[int, ...], parameter: str
) -> None:
    anchor, ap50 = report["rows"][place], report["rows"][3]["ap50"]
    rows = list(rows_of(folder, method))
    assert [int(row[parameter]) for row in rows] == list(values)
    (chosen,) = (row for row in rows if row[parameter] == anchor["name"].split()[-1])
    assert (anchor["bpp"], anchor["ap50"]) == (float(chosen["bpp"]), float(chosen["ap50"]))
    enough = [float(row["bpp"]) for row in rows if float(row["ap50"]) >= ap50]
    if enough:
        assert anchor["bpp"] == min(enough)
    else:
        assert anchor["ap50"] == max(float(row["ap50"]) for row in rows)


@pytest.mark.slow
def test_the_picture_shows_two_rows_of_three(report: Any, folder: Path) -> None:
    picture = read_image(folder / "demo.png")
    height, width, _ = picture.shape
    assert 2 * 512 < height < 2 * 512 + 200
    assert 3 * 512 < width < 3 * 512 + 200
    for top in (0, height // 2):
        for left in range(0, 3 * (width // 3), width // 3):
            panel = picture[top : top + height // 2, left : left + width // 3]
            assert panel.std() > 10, (top, left)


@pytest.mark.slow
def test_a_folder_that_holds_something_is_refused_in_one_line(report: Any, folder: Path) -> None:
    before = contents(folder)
    again = demo("-o", folder, "-n", COUNT)
    assert (again.code, again.out) == (1, "")
    assert again.err == f"featcodec: {folder}: exists; choose another -o, or --overwrite\n"
    assert contents(folder) == before


@pytest.mark.slow
def test_overwrite_removes_an_older_run_and_the_table_is_for_people(tmp_path: Path, few_points: None) -> None:
    (tmp_path / "streams").mkdir()
    for name in ("streams/old.266", "points.csv", "demo.png", ".demo.png.0a1b2c3d.part"):
        (tmp_path / name).write_text("old")
    again = demo("-o", tmp_path, "-n", 1, "--seed", 3, "--qp", 30, "--overwrite")
    assert again.code == 0, again.err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(CONTENTS)
    assert [path.name for path in (tmp_path / "streams").iterdir()] == ["000000.266"]
    assert len(list(PointFile(tmp_path / "points.csv").rows())) == 3
    lines = [line.strip() for line in again.out.splitlines() if line.strip()]
    assert lines[0] == "1 scene"
    assert lines[1].split("  ")[0] == "what is sent"
    names = [line.split("  ")[0] for line in lines[3:7]]
    assert names == ["PNG", "JPEG, quality 50", "latent features, QP 40", "bottleneck, QP 30"]
    assert lines[7].endswith(f"Guessing reads {100 * guessing():.0f} % of the characters.")
    assert lines[8].endswith(f" s -> {tmp_path / 'demo.png'}")
    assert len(lines) == 9


def guessing() -> float:
    from featcodec.privacy.plate_reader import shipped_plate_reader
    from featcodec.privacy.plate_text import characters_guessed

    return characters_guessed(shipped_plate_reader().config.alphabets)


@pytest.mark.parametrize("name", ["holiday.jpg", "download.part", ".hidden", "scenes2/a.png"])
def test_nothing_is_removed_where_there_are_other_things(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, tmp_path / "scenes/images/000000.png", tmp_path / "points.csv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    before = contents(tmp_path)
    refused = demo("-o", tmp_path, "-n", 1, "--overwrite")
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert name.split("/", maxsplit=1)[0] in refused.err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "out").write_text("mine")
    refused = demo("-o", tmp_path / "out", "-n", 1, *options)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert (tmp_path / "out").read_text() == "mine"


def test_what_a_link_points_to_is_left_alone(tmp_path: Path, few_points: None) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine.txt").write_text("mine")
    (tmp_path / "out/scenes").symlink_to(tmp_path / "elsewhere")
    from featcodec.cli.demonstration import remove_older

    remove_older(tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())
    assert (tmp_path / "elsewhere/mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_scenes_without_a_readable_plate_are_shown_too(tmp_path: Path, few_points: None) -> None:
    """Seed 0's first scene has none; then nothing is said about plates."""
    found = demo("-o", tmp_path / "out", "-n", 1, "--seed", 0, "--json")
    assert found.code == 0, found.err
    details = read_private_details(tmp_path / "out/scenes/private.json")
    assert not any(details.plates(name) for name in details.by_name)
    assert [row["plates"] for row in json.loads(found.out)["rows"]] == [None] * 4
