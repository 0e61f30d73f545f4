"""What a report is about: rows sorted into curves, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_rows import COMPACT, CURVES, DETECTOR, NARROW, USUAL, WIDE, append, append_curve, make_points

from featcodec.errors import InputError
from featcodec.evaluation.points import COLUMNS
from featcodec.evaluation.report.study import NUMBER, ORIGIN, is_detector_alone, label_of, read_study


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_points(tmp_path / "points.csv")


def test_rows_become_curves_bottlenecks_first(path: Path) -> None:
    study = read_study([path], "ap50")
    assert [series.label for series in study.series] == ["compact", "latent", "input-vvc", "input-jpeg"]
    assert [series.is_anchor for series in study.series] == [False, True, True, True]
    for series in study.series:
        points = [(point.rate, point.accuracy) for point in series.curve.points]
        assert points == sorted((float(bpp), float(ap50)) for _, bpp, ap50 in CURVES[series.label])
    compact, latent, *_ = study.series
    assert {point.row["clip_high"] for point in compact.curve.points} == {USUAL[1]}, "the curve with the most points"
    assert [curve.points[0].row["clip_high"] for curve in compact.variants] == [NARROW[1], WIDE[1]]
    assert latent.variants == ()


def test_standards_and_splits_are_not_mixed_under_one_name(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    for name in ("compact", "latent"):
        append_curve(path, name, split="4")
        append_curve(path, name, split="4", codec="hevc", preset="superfast")
    append_curve(path, "latent", split="10")
    append(path, method="uncoded", bpp="23", ap50="60", split="10")
    study = read_study([path], "ap50")
    assert [series.label for series in study.series] == [
        *("compact", "compact, HEVC", "latent", "latent, HEVC", "latent, split 10")
    ]
    for series in study.series:
        assert {point.row["codec"] for point in series.curve.points} == {"hevc" if "HEVC" in series.label else "ffmpeg"}
        assert series.variants == ()
    assert [label_of(row) for row in study.uncompressed] == ["latent, split 10"]


def test_rows_are_numbered_over_all_files(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    append_curve(other, "input-vvc", (("42", "0.1", "30"),))
    study = read_study([path, other], "ap50")
    assert [row[NUMBER] for row in study.rows] == [str(number) for number in range(1, 22)]
    assert study.rows[4][ORIGIN] == f"{path}, row 5"
    assert study.rows[20][ORIGIN] == f"{other}, row 1"
    assert [len(series.curve.points) for series in study.series if series.method == "input-vvc"] == [4]


def test_rows_of_unknown_methods_are_said(path: Path) -> None:
    append_curve(path, "latent", (("42", "0.1", "30"),), method="Latent")
    study = read_study([path], "ap50")
    assert study.notes == (
        f"{path}, row 21 has the method 'Latent', which a report does not know, so it is on no curve",
    )
    assert [series.label for series in study.series] == ["compact", "latent", "input-vvc", "input-jpeg"]


def test_the_metric_is_that_of_the_curves(path: Path) -> None:
    study = read_study([path], "ap")
    assert [point.accuracy for point in study.series[3].curve.points] == [10, 37]


def test_uncoded_rows_come_apart_the_detector_alone_first(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append(path, method="uncoded", bottleneck="compact", fingerprint=COMPACT, bpp="7", ap50="50")
    append(path, method="latent", codec="none", bpp="6", ap50="59")
    for ap50 in ("1", "60"):
        append(path, method="uncoded", bpp="23", ap50=ap50)
    study = read_study([path], "ap50")
    assert study.series == ()
    assert [(label_of(row), row["ap50"]) for row in study.uncompressed] == [
        *(("latent", "60"), ("compact", "50"), ("latent", "59"))
    ]
    assert [is_detector_alone(row) for row in study.uncompressed] == [True, False, False]
    assert study.detector == study.rows[3], "of two measurements the latest"


def test_a_detector_without_accuracy_is_none(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append(path, method="uncoded", bpp="23", ap50="", ap="30")
    assert read_study([path], "ap50").detector is None
    assert read_study([path], "ap").detector is not None
    append_curve(tmp_path / "other.csv", "latent")
    assert read_study([tmp_path / "other.csv"], "ap50").detector is None


def test_equal_names_are_told_apart_by_fingerprints(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "compact")
    append_curve(path, "compact", fingerprint="1234567890abcdef")
    append_curve(path, "compact", fingerprint="fedcba9876543210", bottleneck="")
    append_curve(path, "compact", fingerprint="0011223344556677", bottleneck="latent")
    append_curve(path, "latent")
    labels = [series.label for series in read_study([path], "ap50").series]
    assert labels == [
        *(f"compact {COMPACT[:8]}", "compact 12345678", "fedcba98", "latent 00112233"),
        f"latent {DETECTOR[:8]}",
    ]


def test_restored_curves_stand_beside_the_others(path: Path) -> None:
    """Also with two restorations of one codec."""
    append_curve(path, "latent", restoration="11" * 8)
    append_curve(path, "compact", restoration="22" * 8)
    append_curve(path, "compact", restoration="33" * 8)
    study = read_study([path], "ap50")
    assert [series.label for series in study.series] == [
        *("compact, restored 22222222", "compact, restored 33333333", "compact"),
        *("latent, restored", "latent", "input-vvc", "input-jpeg"),
    ]
    assert [series.is_anchor for series in study.series] == [False] * 4 + [True] * 3
    restored, _, compact, _, latent, *_ = study.series
    assert (compact.as_coded_in(restored), latent.as_coded_in(restored)) == (compact.curve, None)
    assert len(compact.variants) == 2, "restored curves are no variants"


def test_rows_of_older_versions_are_not_restored(path: Path) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    index = COLUMNS.index("restoration")
    path.write_text("".join(",".join([*line[:index], *line[index + 1 :]]) + "\n" for line in lines))
    study = read_study([path], "ap50")
    assert [series.label for series in study.series] == ["compact", "latent", "input-vvc", "input-jpeg"]


def test_conditions_choose_rows(path: Path) -> None:
    study = read_study([path], "ap50", {"fingerprint": COMPACT[:4], "clip_high": "3"})
    assert [series.label for series in study.series] == ["compact"]
    assert len(study.rows) == 4
    assert study.rows[0][ORIGIN] == f"{path}, row 4", "numbered as in the file"
    with pytest.raises(InputError, match=r"points\.csv: no row meets `where`; measure with `featcodec sweep`"):
        read_study([path], "ap50", {"method": "jpeg"})
    with pytest.raises(InputError, match=r"points\.csv: has no column 'colour'; give"):
        read_study([path], "ap50", {"colour": "red"})


@pytest.mark.parametrize("column", ["method", "bpp", "ap50", "clip_low", "bytes", "bottleneck", "dataset", "quality"])
def test_a_missing_column_is_named_with_its_file(path: Path, column: str) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    index = COLUMNS.index(column)
    path.write_text("".join(",".join([*line[:index], *line[index + 1 :]]) + "\n" for line in lines))
    with pytest.raises(InputError, match=rf"^{path}: has no column '{column}'; give a CSV file of `featcodec sweep`$"):
        read_study([path], "ap50")


def test_two_data_sets_or_detectors_are_refused_with_a_remedy(tmp_path: Path) -> None:
    path, other = tmp_path / "a.csv", tmp_path / "b.csv"
    append_curve(path, "latent")
    append_curve(other, "latent", dataset="db" * 8)
    where = f"{path}, {other}"
    with pytest.raises(InputError) as caught:
        read_study([path, other], "ap50")
    assert str(caught.value) == (
        f"{where}: rows of 2 data sets (dataset {'da' * 8}, {'db' * 8}); give the files of one, or choose it with "
        "`where` dataset=..."
    )
    assert len(read_study([path, other], "ap50", {"dataset": "db"}).rows) == 4
    other.unlink()
    append_curve(other, "input-vvc", fingerprint="0123" * 4)
    with pytest.raises(InputError, match=r"rows of 2 detectors \(fingerprint 0123.*give the files of one$"):
        read_study([path, other], "ap50")
    # Bottlenecks have fingerprints of their own.
    other.unlink()
    append_curve(other, "compact")
    assert len(read_study([path, other], "ap50").series) == 2


def test_an_uncoded_detector_is_one_of_the_detectors(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "latent")
    append(path, method="uncoded", bpp="23", ap50="60", fingerprint="0123" * 4)
    with pytest.raises(InputError, match="rows of 2 detectors"):
        read_study([path], "ap50")


@pytest.mark.parametrize("text", ["", "bpp,ap50\n", f"{','.join(COLUMNS)}\n"])
def test_files_without_rows_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(InputError, match=r"points\.csv: (has no column 'method'|no row; measure with `featcodec sw)"):
        read_study([tmp_path / "points.csv"], "ap50")


@pytest.mark.parametrize("column", ["bpp", "ap50", "ap", "bytes", "psnr", "ap50_low", "clip_high", "encode_seconds"])
@pytest.mark.parametrize("value", ["nan", "inf", "forty", "1;2"])
def test_what_is_no_number_names_row_and_column(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "latent")
    append(path, **{**{"method": "uncoded", "bpp": "1", "ap": "1", "ap50": ""}, column: value})
    with pytest.raises(InputError) as caught:
        read_study([path], "ap50")
    assert str(caught.value).startswith(f"{path}, row 5: {column} '{value}' is not a number")
    assert str(caught.value).endswith("; measure it with `featcodec sweep`")


@pytest.mark.parametrize("value", ["0", "-0.5"])
def test_a_rate_is_above_0(tmp_path: Path, value: str) -> None:
    append(tmp_path / "points.csv", method="uncoded", bpp=value, ap50="60")
    with pytest.raises(InputError, match=rf"points\.csv, row 1: bpp '{value}' is not a rate above 0"):
        read_study([tmp_path / "points.csv"], "ap50")


@pytest.mark.parametrize("value", ["-1", "140"])
def test_an_accuracy_is_in_percent(tmp_path: Path, value: str) -> None:
    """pycocotools says -1 where nothing is annotated."""
    append(tmp_path / "points.csv", method="uncoded", bpp="1", ap50=value, ap="1")
    with pytest.raises(InputError, match=rf"points\.csv, row 1: ap50 '{value}' is not an accuracy from 0 to 100 %"):
        read_study([tmp_path / "points.csv"], "ap50")


def test_names_that_are_no_utf8_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "compact", bottleneck="b\udcff\udc80")
    (series,) = read_study([path], "ap50").series
    assert series.label == "b\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
