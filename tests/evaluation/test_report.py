"""featcodec report: what it prints, what it writes, and what it refuses without writing anything."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from refusals import assert_refused
from report_rows import append, append_curve, make_attack, make_points

from featcodec.evaluation.bd import compare
from featcodec.evaluation.curves import read_curve

FIGURES = ("rate-accuracy", "privacy-accuracy", "frontier")
MARKDOWN_FILES = ("r.md", *(f"r-{name}.svg" for name in FIGURES), "r-reconstructions.jpg")


@pytest.fixture
def run(run: Any) -> Any:
    return partial(run, "report")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_points(tmp_path / "points.csv")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.slow
def test_a_page_is_made_and_its_bd_values_printed(run: Any, path: Path, tmp_path: Path) -> None:
    code, out, err = run(path, "-o", tmp_path / "report.html")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    found = compare(
        read_curve(path, "ap50", {"method": "latent", "codec": "ffmpeg"}),
        read_curve(path, "ap50", {"method": "bottleneck", "clip_high": "3"}),
    )
    assert found.bd_accuracy is not None
    assert found.bd_psnr is not None
    expected = f"BD-rate {found.bd_rate:+.1f} %, BD-AP50 {found.bd_accuracy:+.2f}, BD-PSNR {found.bd_psnr:+.2f} dB"
    assert lines[0].startswith(f"compact against latent: {expected}".replace("-", "−").replace("BD−", "BD-"))
    assert len(lines) == 7
    assert lines[-1] == f"20 points, 4 curves, 0 attacks -> {tmp_path / 'report.html'}"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(snapshot(tmp_path)) == ["points.csv", "report.html"]


@pytest.mark.slow
def test_json_and_markdown_and_attacks_and_all(run: Any, path: Path, tmp_path: Path) -> None:
    (tmp_path / "commands.sh").write_text("featcodec sweep some\n")
    attacks = [make_attack(tmp_path / label, tmp_path / "in", label) for label in ("latent", "compact")]
    options = ["--markdown", tmp_path / "out/r.md", "--commands", tmp_path / "commands.sh", "--title", "Some title"]
    options += [part for folder in attacks for part in ("--attack", folder)]
    options += ["--originals", tmp_path / "in"]
    code, out, err = run(path, "-o", tmp_path / "out/r.html", *options, "--pictures", 1, "--metric", "ap", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert {name: report[name] for name in ("points", "curves", "attacks")} == {"points": 20, "curves": 4, "attacks": 2}
    assert [row[0] for row in report["bd"]][:2] == ["compact against latent", "compact against input-vvc"]
    names = [
        "r.html",
        "r.md",
        "r-rate-accuracy.svg",
        "r-privacy-accuracy.svg",
        "r-frontier.svg",
        "r-reconstructions.jpg",
    ]
    assert report["output"] == [str(tmp_path / "out" / name) for name in names]
    assert sorted(snapshot(tmp_path / "out")) == sorted(names)
    html = (tmp_path / "out/r.html").read_text()
    assert html.count("<img ") == 3, "one image, its original and two attacks"
    assert "<h1>Some title</h1>" in html
    for text in (html, (tmp_path / "out/r.md").read_text()):
        assert "featcodec sweep some" in text
        assert "AP, %" in html


@pytest.mark.slow
def test_several_files_and_conditions(run: Any, path: Path, tmp_path: Path) -> None:
    append_curve(tmp_path / "other.csv", "latent", dataset="db" * 8)
    files = [path, tmp_path / "other.csv"]
    assert_refused(run(*files, "-o", tmp_path / "r.html"), "points.csv", "rows of 2 data sets", "--where dataset=...")
    code, out, _ = run(*files, "-o", tmp_path / "r.html", "--where", "dataset=db", "--where", "preset=faster", "--json")
    assert (code, json.loads(out)["points"]) == (0, 4)
    code, _, err = run(*files, "-o", tmp_path / "s.html", "--where", "dataset")
    assert code == 2
    assert "not of the form COLUMN=VALUE" in " ".join(err.split())
    code, _, err = run(*files, "-o", tmp_path / "s.html", "--where", "qp=34", "--where", "qp=38")
    assert code == 2
    assert "qp=34 and qp=38 exclude each other; give one of them" in " ".join(err.split())


@pytest.mark.slow
def test_what_exists_stays_without_overwrite(run: Any, path: Path, tmp_path: Path) -> None:
    arguments = [path, "-o", tmp_path / "r.html", "--markdown", tmp_path / "r.md"]
    for name in (
        "r.html",
        "r.md",
        "r-rate-accuracy.svg",
        "r-privacy-accuracy.svg",
        "r-frontier.svg",
        "r-reconstructions.jpg",
    ):
        (tmp_path / name).write_text("precious")
        before = snapshot(tmp_path)
        assert_refused(run(*arguments), f"{tmp_path / name}: exists; use --overwrite or another -o")
        assert snapshot(tmp_path) == before
        (tmp_path / name).unlink()
    assert run(*arguments)[0] == 0
    before = snapshot(tmp_path)
    assert_refused(run(*arguments), "exists; use --overwrite")
    append_curve(path, "input-vvc", (("42", "0.1", "30"),))
    assert run(*arguments, "--overwrite")[0] == 0
    assert snapshot(tmp_path)["r.html"] != before["r.html"]


def test_inputs_are_never_overwritten(run: Any, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to(path)
    (tmp_path / "commands.md").write_text("featcodec sweep")
    attack = make_attack(tmp_path / "attack", tmp_path / "in", "latent")
    common = [path, "--overwrite", "--attack", attack, "--commands", tmp_path / "commands.md"]
    common += ["--originals", tmp_path / "in"]
    before = snapshot(tmp_path)
    for options in (
        ["-o", path],
        ["-o", tmp_path / "link.html"],
        ["-o", attack / "attack.csv"],
        ["-o", tmp_path / "r.html", "--markdown", tmp_path / "commands.md"],
    ):
        assert_refused(run(*common, *options), f"{options[-1]}: is read by this command; choose another name")
    for names in (("r.md", "r.md"), ("x-rate-accuracy.svg", "x.md")):
        options = ["-o", tmp_path / names[0], "--markdown", tmp_path / "in/.." / names[1]]
        assert_refused(run(*common, *options), "would be written twice")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", [".", "", ".."])
def test_a_folder_is_no_report(
    run: Any, path: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for options in (["-o", name], ["-o", "r.html", "--markdown", name]):
        assert_refused(run(path, *options, "--overwrite"), f"{Path(name)}: is a folder; choose another name")
    assert snapshot(tmp_path).keys() == {"points.csv"}


@pytest.mark.slow
def test_nothing_is_written_when_something_is_wrong(run: Any, path: Path, tmp_path: Path) -> None:
    attack = make_attack(tmp_path / "attack", tmp_path / "in", "latent")
    (tmp_path / "in/b.png").unlink()
    (tmp_path / "bad.csv").write_text("bpp,ap50\n0.1,40\n")
    append(tmp_path / "odd.csv", method="latent", bpp="0.1", ap50="forty", ap="1")
    append(tmp_path / "bytes.csv", method="latent", bpp="0.1", ap50="4", ap="1", bytes="1.5", qp="3")
    before = snapshot(tmp_path)
    output = ["-o", tmp_path / "out/r.html", "--markdown", tmp_path / "out/r.md"]
    for arguments, reason in (
        ([tmp_path / "bad.csv"], f"{tmp_path}/bad.csv: has no column 'method'; give a CSV file of `featcodec sweep`"),
        ([tmp_path / "none.csv"], f"{tmp_path}/none.csv: no such file"),
        ([tmp_path], f"{tmp_path}: not a regular file"),
        ([tmp_path / "odd.csv"], f"{tmp_path}/odd.csv, row 1: ap50 'forty' is not a number"),
        ([tmp_path / "bytes.csv"], f"{tmp_path}/bytes.csv, row 1: a value is not a number"),
        ([path, "--attack", attack, "--originals", tmp_path / "in"], f"{tmp_path}/in/b.png: no such file"),
        (
            [path, "--attack", attack],
            f"{tmp_path}/in/a.png; if it belongs on the page, give its folder with --originals",
        ),
        ([path, "--attack", tmp_path / "in"], f"{tmp_path}/in/attack.csv: no such file"),
        ([path, "--commands", tmp_path / "none.sh"], f"{tmp_path}/none.sh: no such file"),
        ([path, "--commands", tmp_path], f"{tmp_path}: not a regular file"),
    ):
        assert_refused(run(*arguments, *output), reason)
        assert snapshot(tmp_path) == before
    (tmp_path / "long.sh").write_bytes(b"x" * ((1 << 20) + 1))
    assert_refused(run(path, *output, "--commands", tmp_path / "long.sh"), "long.sh: over 1 MiB")
    assert not (tmp_path / "out").exists()


def test_usage(run: Any, path: Path, tmp_path: Path) -> None:
    assert run(path)[0] == 2
    assert run("-o", tmp_path / "r.html")[0] == 2
    assert run(path, "-o", tmp_path / "r.html", "--pictures", 0)[0] == 2
    assert run(path, "-o", tmp_path / "r.html", "--metric", "ap75")[0] == 2
    assert not (tmp_path / "r.html").exists()


@pytest.mark.slow
def test_one_point_and_strange_names_are_no_reason_to_stop(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "compact", (("34", "0.4", "58"),), bottleneck="$x_\udcff[b]\n<i>")
    append_curve(path, "latent")
    code, out, err = run(path, "-o", tmp_path / "r.html")
    assert (code, err) == (0, "")
    assert re.search(r"against latent: BD-rate –, BD-AP50 –, BD-PSNR – \(–, – overlap\)", out)
    assert "1 usable point is not enough" in (tmp_path / "r.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bpp", "ap50", "psnr", "bytes", "clip_high"])
@pytest.mark.parametrize("value", ["1e308", "-1e15", "1e-308", "9" * 5000, "\x01"])
def test_odd_numbers_are_a_page_or_one_line(run: Any, tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "latent", psnr="20", ap50_high="70")
    append_curve(path, "compact", psnr="19", ap50_high="70")
    append_curve(path, "compact", (("43", "0.04", "40"),), **{"ap": "20", "psnr": "18", "ap50_high": "70", name: value})
    code, out, err = run(path, "-o", tmp_path / "r.html")
    if code:
        assert_refused((code, out, err), "points.csv, row 9: ")
        assert len(err) < 400
        assert not (tmp_path / "r.html").exists()
