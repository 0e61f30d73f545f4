"""The frontier: what bottlenecks cost in accuracy, and what they take from the strongest attack."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_rows import COMPACT, DETECTOR, append, append_curve, append_uncoded

from featcodec.evaluation.report import figures
from featcodec.evaluation.report.frontier import PAPER, FrontierPoint, frontier
from featcodec.evaluation.report.study import read_study


def points_of(path: Path) -> list[FrontierPoint]:
    return frontier(read_study([path], "ap50"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    append_uncoded(tmp_path / "points.csv")
    return tmp_path / "points.csv"


def append_attack(path: Path, attack: str, psnr: str, edge_psnr: str = "", *, compact: bool, **values: str) -> None:
    side = {"bottleneck": "compact", "fingerprint": COMPACT} if compact else {"fingerprint": DETECTOR}
    append(path, method="uncoded", attack=attack, ap50="", bpp="", psnr=psnr, edge_psnr=edge_psnr, **{**side, **values})


def test_changes_against_the_detector_alone(path: Path) -> None:
    (point,) = points_of(path)
    assert (point.label, point.accuracy) == ("compact", pytest.approx(-1.625))
    assert point.scores == {"psnr": pytest.approx(-1.75), "edge_psnr": pytest.approx(-0.25)}


def test_the_strongest_attack_of_each_side_counts(path: Path) -> None:
    """Latent coding falls to one attack, the bottleneck to another."""
    for attack, latent, compact in (("strong", "22", "18.75"), ("gradient", "21", "19.5")):
        append_attack(path, attack, latent, compact=False)
        append_attack(path, attack, compact, compact=True)
    (point,) = points_of(path)
    assert point.scores == {"psnr": pytest.approx(19.5 - 22), "edge_psnr": pytest.approx(-0.25)}
    assert point.attacks == ("", "strong", "gradient")


def test_an_attack_on_one_side_alone_does_not_count(path: Path) -> None:
    append_attack(path, "strong", "25", compact=True)
    append_attack(path, "gradient", "25", compact=False)
    (point,) = points_of(path)
    assert point.scores["psnr"] == pytest.approx(-1.75)
    assert point.attacks == ("",)


def test_other_images_and_coded_tensors_do_not_count(path: Path) -> None:
    for compact in (False, True):
        append_attack(path, "strong", "30", compact=compact, dataset="db" * 8)
        append_attack(path, "gradient", "30", compact=compact, qp="38", codec="ffmpeg")
    (point,) = points_of(path)
    assert point.scores["psnr"] == pytest.approx(-1.75)


def test_without_an_attack_or_a_detector_there_is_none(tmp_path: Path) -> None:
    append_curve(tmp_path / "a.csv", "compact")
    assert points_of(tmp_path / "a.csv") == []
    assert figures.frontier(read_study([tmp_path / "a.csv"], "ap50")) is None
    for compact in ({}, {"bottleneck": "compact", "fingerprint": COMPACT}):
        append(tmp_path / "b.csv", method="uncoded", bpp="23", ap50="60", **compact)
    assert points_of(tmp_path / "b.csv") == []


@pytest.mark.slow
def test_the_figure_has_both_scores_and_the_papers_point(path: Path) -> None:
    svg = figures.frontier(read_study([path], "ap50"))
    assert svg is not None
    text = {"".join(one.itertext()) for one in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}  # noqa: S314  (our own)
    assert {"compact", PAPER.label, "no bottleneck", "change of AP50, points"} <= text
    assert {"change of the attacker's PSNR, dB", "change of the attacker's edge-PSNR, dB"} <= text
    # The paper has no AP at this point that could be compared.
    other = figures.frontier(read_study([path], "ap"))
    assert other is not None
    assert PAPER.label not in other
