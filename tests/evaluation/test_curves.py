"""Curves out of CSV files: which one is meant, and what is no curve."""

from __future__ import annotations

from pathlib import Path

import pytest

from featcodec.errors import InputError
from featcodec.evaluation.curves import read_curve
from featcodec.evaluation.points import COLUMNS, PointFile


def append(path: Path, **values: str) -> None:
    PointFile(path).append({**dict.fromkeys(COLUMNS, ""), **values})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three curves: two of latent features with different clip ranges, one of pictures."""
    path = tmp_path / "points.csv"
    for clip in ("3", "6"):
        for qp, bpp, ap50 in (("34", "0.9", "60"), ("40", "0.3", "40"), ("38", "0.5", "50")):
            append(path, method="latent", qp=qp, clip_high=clip, fingerprint="ab12", bpp=bpp, ap50=ap50, ap="")
    append(path, method="input-vvc", qp="30", fingerprint="ab12", bpp="0.2", ap50="30", ap="20", psnr="25.5")
    return path


def test_a_curve_is_chosen_by_columns_and_sorted_by_rate(path: Path) -> None:
    curve = read_curve(path, "ap50", {"method": "latent", "clip_high": "6"})
    assert [(point.rate, point.accuracy) for point in curve.points] == [(0.3, 40), (0.5, 50), (0.9, 60)]
    assert curve.points[0].psnr is None
    assert curve.points[0].row["qp"] == "40"
    assert curve.name.endswith("points.csv latent")
    (point,) = read_curve(path, "ap", {"method": "input-vvc", "fingerprint": "ab"}).points
    assert (point.accuracy, point.psnr) == (20, 25.5)


def test_ambiguity_is_refused_with_what_tells_the_curves_apart(path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 3 curves; choose one, by COLUMN=VALUE: ") as caught:
        read_curve(path, "ap50")
    assert str(caught.value).endswith(
        "method=input-vvc clip_high=; method=latent clip_high=3; method=latent clip_high=6"
    )
    with pytest.raises(InputError, match="holds 2 curves"):
        read_curve(path, "ap50", {"method": "latent"})
    with pytest.raises(InputError, match=r"holds no point with method=jpeg; it holds method=input-vvc"):
        read_curve(path, "ap50", {"method": "jpeg"})


def test_restored_curves_are_told_apart(path: Path) -> None:
    append(path, method="input-vvc", qp="30", fingerprint="ab12", bpp="0.2", ap50="35", restoration="cd34")
    with pytest.raises(InputError, match=r"restoration=; .*restoration=cd34"):
        read_curve(path, "ap50", {"method": "input-vvc"})
    restored = read_curve(path, "ap50", {"method": "input-vvc", "restoration": "cd"})
    assert (restored.points[0].accuracy, restored.name) == (35, f"{path} input-vvc restored")
    plain = read_curve(path, "ap50", {"method": "input-vvc", "restoration": ""})
    assert (plain.points[0].accuracy, plain.name) == (30, f"{path} input-vvc")


def test_rows_of_older_versions_are_not_restored(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("method,qp,bpp,ap50\nlatent,34,0.9,60\n")
    assert len(read_curve(path, "ap50").points) == 1
    assert len(read_curve(path, "ap50", {"restoration": ""}).points) == 1
    with pytest.raises(InputError, match="holds no point with restoration=cd"):
        read_curve(path, "ap50", {"restoration": "cd"})


def test_of_double_points_the_latest_counts(path: Path) -> None:
    append(path, method="input-vvc", qp="30", fingerprint="ab12", bpp="0.25", ap50="31")
    (point,) = read_curve(path, "ap50", {"method": "input-vvc"}).points
    assert (point.rate, point.accuracy) == (0.25, 31)


def test_a_file_with_rate_and_accuracy_alone_is_a_curve(tmp_path: Path) -> None:
    path = tmp_path / "paper.csv"
    path.write_text("bpp,ap50\n0.2,50\n0.1,40\n0.2,50\n")
    assert [point.rate for point in read_curve(path, "ap50").points] == [0.1, 0.2, 0.2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bpp,ap\n1,2\n", "has no column 'ap50'"),
        ("ap50,ap\n1,2\n", "has no column 'bpp'"),
        ("", "has no column 'bpp'"),
        ("bpp,ap50\n", "holds no point"),
        ("bpp,ap50\n,\n", "no bpp or no ap50"),
        ("bpp,ap50\n0.1,forty\n", "ap50 'forty' is not a number"),
        ("bpp,ap50\ninf,40\n", "bpp 'inf' is not a number"),
        ("bpp,ap50\n0,40\n", "a rate of 0 bpp"),
    ],
)
def test_what_is_no_curve_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        read_curve(path, "ap50")
    assert str(caught.value).startswith(str(path))


def test_rows_of_an_audit_are_points_only_if_asked_for(path: Path) -> None:
    wanted = {"method": "latent", "clip_high": "6"}
    swept = read_curve(path, "ap50", wanted)
    same = {"method": "latent", "clip_high": "6", "fingerprint": "ab12"}
    append(path, **same, qp="34", bpp="0.9", ap50="60", psnr="22", attack="gradient")
    append(path, **same, qp="38", psnr="21", attack="recnet")
    assert read_curve(path, "ap50", wanted) == swept
    (point,) = read_curve(path, "ap50", {"attack": "gradient"}).points
    assert (point.rate, point.psnr) == (0.9, 22)


def test_what_is_left_out_of_a_curve_is_said(tmp_path: Path) -> None:
    path = tmp_path / "paper.csv"
    path.write_text("\ufeffbpp,ap50\r\n0.2,50\r\n0.1,\r\n,30\r\n0.3,60", newline="")
    curve = read_curve(path, "ap50")
    assert [point.rate for point in curve.points] == [0.2, 0.3]
    assert curve.notes == (
        f"{path}: row 2 has no ap50, so it is left out",
        f"{path}: row 3 has no bpp, so it is left out",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bpp,ap50\n0.1,40\n0.2\n", r"row 2 \(line 3\) has 1 value, but there are 2 columns"),
        ("bpp,ap50\n0,1,40\n", r"row 1 \(line 2\) has 3 values"),
        ('bpp,ap50\n0.2,50\n"0,1",40\n', "row 2: bpp '0,1' is not a number; write it like 0.25"),
        ("bpp,ap50\n0.1,nan\n", "row 1: ap50 'nan' is not a number"),
        ("bpp,ap50\n0.1,40\n0.2,-1\n", "row 2: has the ap50 -1; accuracies are from 0 to 100 %"),
        ("bpp,ap50\n0.1,40\n0.2,101\n", "row 2: has the ap50 101; accuracies"),
        ("bpp;ap50\n0.1;40\n", "its columns are separated by semicolons"),
        ("bpp,ap50,bpp\n0.1,40,0.2\n", "has 'bpp' as the name of two columns"),
    ],
)
def test_what_would_change_a_curve_in_silence_is_refused_with_its_row(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        read_curve(path, "ap50")
    assert str(caught.value).startswith(str(path))


def test_a_condition_on_a_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "paper.csv").write_text("bpp,ap50\n0.2,50\n")
    with pytest.raises(InputError, match="has no column 'method'"):
        read_curve(tmp_path / "paper.csv", "ap50", {"method": "latent"})
