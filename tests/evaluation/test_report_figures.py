"""The report's curves: well-formed SVG that says what was measured, whatever the names are."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_rows import append_curve, append_uncoded, make_points

from featcodec.evaluation.report import figures
from featcodec.evaluation.report.study import Study, read_study

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str | None) -> ElementTree.Element:
    assert svg is not None
    return ElementTree.fromstring(svg)  # noqa: S314  (our own)


def make_study(tmp_path: Path, *names: str, label: str = "compact") -> Study:
    path = tmp_path / "points.csv"
    for name in names:
        append_curve(path, name, **({"bottleneck": label, "psnr": "17"} if name == "compact" else {}))
    return read_study([path], "ap50")


def texts(svg: str | None) -> list[str]:
    return ["".join(text.itertext()) for text in parsed(svg).iter(f"{SVG}text")]


def markers(svg: str | None) -> list[int]:
    """How many markers each curve has, without the legend's."""
    axes = next(one for one in parsed(svg).iter(f"{SVG}g") if one.get("id") == "axes_1")
    lines = [one for one in axes if (one.get("id") or "").startswith("line2d")]
    return [len(list(line.iter(f"{SVG}use"))) for line in lines]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read_study([make_points(tmp_path / "points.csv")], "ap50")


@pytest.mark.slow
@pytest.mark.parametrize("draw", [figures.rate_accuracy, figures.privacy_accuracy, figures.frontier])
def test_a_figure_is_well_formed_and_made_alike_twice(study: Study, draw: object) -> None:
    assert callable(draw)
    svg = draw(study)
    assert parsed(svg).tag == f"{SVG}svg"
    assert draw(study) == svg


@pytest.mark.slow
def test_rate_accuracy_shows_every_curve_and_the_detector(study: Study) -> None:
    svg = figures.rate_accuracy(study)
    shown = texts(svg)
    assert [text for text in shown if text in ("compact", "latent", "input-vvc", "input-jpeg")] == [
        *("compact", "latent", "input-vvc", "input-jpeg")
    ]
    assert "uncoded detector 60.1" in shown
    assert {"AP50, %", "0.1", "0.5"} <= set(shown)
    # Of the other clip ranges nothing; the detector's line has no marker.
    assert [count for count in markers(svg) if count] == [4, 4, 3, 2]


def test_privacy_accuracy_shows_what_was_attacked(study: Study, tmp_path: Path) -> None:
    svg = figures.privacy_accuracy(study)
    assert [count for count in markers(svg) if count] == [4, 4]
    assert "input-vvc" not in texts(svg)
    assert figures.privacy_accuracy(make_study(tmp_path / "other", "latent")) is None


@pytest.mark.slow
def test_points_behind_the_upper_envelope_are_left_out_of_privacy_alone(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    points = (("34", "0.4", "58"), ("36", "0.3", "50"), ("38", "0.2", "55"))
    append_curve(path, "compact", points, psnr="17")
    study = read_study([path], "ap50")
    assert markers(figures.rate_accuracy(study)) == [3]
    assert markers(figures.privacy_accuracy(study)) == [2]


@pytest.mark.slow
def test_intervals_are_drawn_where_they_were_measured(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "latent", (("34", "0.9", "59.5"),), ap50_low="55", ap50_high="63")
    append_curve(path, "latent", (("38", "0.5", "56"),))
    with_interval = figures.rate_accuracy(read_study([path], "ap50"))
    assert with_interval is not None
    assert with_interval.count('id="LineCollection_1"') == 1
    without = figures.rate_accuracy(read_study([path], "ap"))
    assert without is not None
    assert "LineCollection" not in without, "they are AP50's"
    assert "AP, %" in texts(without)


def test_no_curve_is_no_figure_and_one_point_is_one(tmp_path: Path) -> None:
    append_uncoded(tmp_path / "uncoded.csv")
    assert figures.rate_accuracy(read_study([tmp_path / "uncoded.csv"], "ap50")) is None
    append_curve(tmp_path / "one.csv", "latent", (("34", "0.9", "59.5"),))
    assert markers(figures.rate_accuracy(read_study([tmp_path / "one.csv"], "ap50"))) == [1]


@pytest.mark.slow
def test_figures_follow_light_and_dark(study: Study) -> None:
    svg = figures.rate_accuracy(study)
    assert svg is not None
    assert "@media(prefers-color-scheme:dark){:root{--figure-ink:" in svg
    assert "var(--figure-ink, #333)" in svg
    assert "var(--figure-grid, #ddd)" in svg
    assert not re.search("#12345[67]", svg), "a stand-in was left"
    assert not re.search(r"(?:#000000|#000|black|#ffffff|white)\b", svg), "it would vanish on one of the two"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("a$b$c", "a$b$c"),
        ("$\\frac{$", "$\\frac{$"),
        ("<script>&amp;]]>", "<script>&amp;]]>"),
        ("_hidden", "\N{ZERO WIDTH SPACE}_hidden"),
        ("two\nlines\x01", "two lines "),
        ("特徴", "特徴"),
        ("b\udcff", "b\N{REPLACEMENT CHARACTER}"),
        ("x" * 300, "x" * 39 + "…"),
    ],
)
def test_names_are_shown_as_they_are(tmp_path: Path, label: str, shown: str) -> None:
    study = make_study(tmp_path, "compact", "latent", label=label)
    for svg in (figures.rate_accuracy(study), figures.privacy_accuracy(study)):
        assert svg is not None
        svg.encode()
        assert shown in texts(svg)
