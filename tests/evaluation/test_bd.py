"""Bjontegaard deltas against published values, and what the command says of bad curves."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcodec.errors import InputError
from featcodec.evaluation.bd import Comparison, compare, upper_envelope
from featcodec.evaluation.curves import CurvePoint, RateCurve

Points = Sequence[tuple[float, ...]]
"""(rate, accuracy) or (rate, accuracy, PSNR) each."""

ANCHOR = [(0.1, 30.0), (0.2, 40.0), (0.4, 50.0), (0.8, 55.0)]


def curve(name: str, points: Points) -> RateCurve:
    made = [CurvePoint(point[0], point[1], point[2] if len(point) > 2 else None, {}) for point in points]
    return RateCurve(name, "ap50", tuple(sorted(made, key=lambda point: point.rate)))


def compared(anchor: Points, test: Points, interpolation: str = "pchip") -> Comparison:
    return compare(curve("anchor.csv", anchor), curve("test.csv", test), interpolation)


# JCTVC-E137; VMAF checks its own against the results of that spreadsheet (python/test/bd_rate_calculator_test.py).
PUBLISHED = [
    (
        [(108048.8736, 43.6471), (61279.976, 40.3953), (33905.6656, 37.247), (18883.6928, 34.2911)],
        [(108061.2784, 43.6768), (61299.9936, 40.4232), (33928.7472, 37.2761), (18910.912, 34.3147)],
        -0.465215420752807,
    ),
    (
        [(40433.8848, 37.5761), (7622.7456, 35.3756), (2394.488, 33.8977), (1017.6184, 32.0603)],
        [(40370.12, 37.5982), (7587.0024, 35.4025), (2390.0944, 33.9194), (1017.0984, 32.0822)],
        -1.8779823450567612,
    ),
]


@pytest.mark.parametrize(("anchor", "test", "bd_rate"), PUBLISHED)
def test_bd_rate_is_that_of_the_standards_spreadsheet(anchor: Points, test: Points, bd_rate: float) -> None:
    comparison = compared(anchor, test)
    assert comparison.bd_rate == pytest.approx(bd_rate, abs=0.01)
    assert comparison.warnings == ()


def test_cubic_is_bjontegaards_own() -> None:
    """VCEG-M33 by an independent integration, on the example of its Matlab script (File Exchange 27798)."""
    anchor = [(686.76, 40.28), (309.58, 37.18), (157.11, 34.24), (85.95, 31.42)]
    test = [(893.34, 40.39), (407.8, 37.21), (204.93, 34.17), (112.75, 31.24)]
    comparison = compared(anchor, test, "cubic")
    low, high = 31.42, 40.28
    x = np.linspace(low, high, 20_001)
    fits = [
        np.polyfit([y for _, y in points], [math.log10(rate) for rate, _ in points], 3) for points in (anchor, test)
    ]
    difference = np.mean(np.polyval(fits[1], x) - np.polyval(fits[0], x))
    assert comparison.bd_rate == pytest.approx(100 * (10**difference - 1), abs=0.01)
    assert (comparison.accuracy.low, comparison.accuracy.high) == (low, high)


@pytest.mark.parametrize("interpolation", ["pchip", "cubic", "akima"])
def test_what_is_known_in_advance(interpolation: str) -> None:
    """The same curve at 70 % of the rate, and the same curve 2 points higher."""
    same = compared(ANCHOR, ANCHOR, interpolation)
    assert (same.bd_rate, same.bd_accuracy, same.bd_psnr) == (pytest.approx(0), pytest.approx(0), None)
    cheaper = compared(ANCHOR, [(0.7 * rate, accuracy) for rate, accuracy in ANCHOR], interpolation)
    assert cheaper.bd_rate == pytest.approx(-30)
    assert cheaper.bd_accuracy is not None
    assert cheaper.bd_accuracy > 0
    better = compared(ANCHOR, [(rate, accuracy + 2) for rate, accuracy in ANCHOR], interpolation)
    assert better.bd_accuracy == pytest.approx(2)
    assert better.bd_rate < 0


def test_curves_need_not_have_equally_many_points() -> None:
    dense = [(rate, 30 + 10 * math.log2(rate / 0.1)) for rate in (0.1, 0.15, 0.2, 0.3, 0.5, 0.8)]
    sparse = [(0.5 * rate, 30 + 10 * math.log2(rate / 0.1)) for rate in (0.1, 0.8)]
    assert compared(dense, sparse).bd_rate == pytest.approx(-50, abs=0.5)


def test_bd_psnr_is_at_equal_accuracy() -> None:
    """An attacker sees 1.5 dB less at each accuracy, whatever the rate."""
    anchor = [(rate, accuracy, 10 + accuracy / 5) for rate, accuracy in ANCHOR]
    test = [(0.3 * rate, accuracy - 1, 8.5 + (accuracy - 1) / 5) for rate, accuracy in ANCHOR]
    assert compared(anchor, test).bd_psnr == pytest.approx(-1.5)
    partly = compared(anchor, [*test[:-1], test[-1][:2]])
    assert partly.bd_psnr is None
    assert "PSNR was not measured at every point" in partly.warnings[-1]


SATURATED = [(0.1, 30.0), (0.2, 45.0), (0.4, 56.0), (0.8, 57.0), (1.6, 57.1), (3.2, 57.15)]


@pytest.mark.parametrize("interpolation", ["cubic", "akima", "pchip"])
def test_an_interpolation_that_goes_astray_is_said(interpolation: str) -> None:
    """A polynomial over the accuracy cannot follow a curve that saturates. Bjontegaard's own method is one."""
    anchor = [(1.3 * rate, accuracy) for rate, accuracy in SATURATED[:4]]
    notes = [note for note in compared(anchor, SATURATED, interpolation).warnings if "does not follow" in note]
    if interpolation == "pchip":
        assert notes == []
    if interpolation == "cubic":
        assert "cubic does not follow the points of test.csv between 30 and 57, so the BD-rate is not" in notes[-1]
        assert notes[-1].endswith("use `interpolation` pchip")


def test_a_cubic_far_beyond_all_rates_is_refused() -> None:
    """Four points, the last three almost equal: the polynomial through them leaves every rate that was measured."""
    steep = [(0.1, 30.0), (0.5, 57.0), (1.0, 57.0001), (2.0, 57.0002)]
    with pytest.raises(InputError, match=r"anchor.csv: its rates are more than 10\^9 times those of test.csv"):
        compared(ANCHOR, steep, "cubic")
    with pytest.raises(InputError, match=r"test.csv: its rates are more than 10\^9 times"):
        compared(steep, ANCHOR, "cubic")
    assert compared(ANCHOR, steep).warnings == ()


@pytest.mark.parametrize("interpolation", ["pchip", "akima"])
def test_points_that_lie_too_close_together_are_refused(interpolation: str) -> None:
    test = [(0.1, 0.0), (0.2, 5e-324), (0.4, 50.0), (0.8, 55.0)]
    with pytest.raises(
        InputError, match=r"anchor\.csv and test\.csv: their points lie too close together for a BD-rate"
    ):
        compared([(0.1, 0.0), *ANCHOR[1:]], test, interpolation)


def test_what_was_left_out_of_a_file_is_said_with_the_result() -> None:
    anchor = dataclasses.replace(curve("anchor.csv", ANCHOR), notes=("anchor.csv: row 7 has no bpp",))
    assert compare(anchor, anchor).warnings == ("anchor.csv: row 7 has no bpp",)


def test_points_that_cheaper_ones_reach_are_left_out_and_named() -> None:
    bumpy = [*ANCHOR, (0.5, 49.0), (0.9, 55.0)]
    comparison = compared(ANCHOR, bumpy)
    assert comparison.bd_rate == pytest.approx(0)
    (warning,) = comparison.warnings
    assert warning.startswith("test.csv is not monotone")
    assert "0.5000 bpp 49.00, 0.9000 bpp 55.00" in warning


def test_the_upper_envelope_rises_in_both() -> None:
    points = curve("x", [(0.2, 40), (0.2, 41), (0.1, 39), (0.3, 41), (0.4, 45), (0.5, 44)]).points
    assert [(point.rate, point.accuracy) for point in upper_envelope(points)] == [(0.1, 39), (0.2, 41), (0.4, 45)]


def test_little_overlap_is_said_with_its_range() -> None:
    comparison = compared(ANCHOR, [(1.0, 50.0), (4.0, 90.0)])
    assert comparison.accuracy.fraction == pytest.approx(5 / 60)
    assert comparison.warnings[0].startswith("the curves share only 8 % of their ap50 range, 50.00 to 55.00")
    assert comparison.bd_accuracy is None
    assert "no bpp in common" in comparison.warnings[1]
    assert comparison.bd_rate > 0


def test_disjoint_accuracies_single_points_and_too_few_for_cubic_are_refused() -> None:
    with pytest.raises(InputError, match=r"ap50 30.00 to 55.00 and test.csv 60.00 to 70.00: .* no accuracy in common"):
        compared(ANCHOR, [(0.1, 60), (0.2, 70)])
    with pytest.raises(InputError, match=r"test.csv: 1 usable point is not enough; pchip needs 2"):
        compared(ANCHOR, [(0.1, 40)])
    with pytest.raises(InputError, match="1 usable point is not enough"):
        compared(ANCHOR, [(0.1, 40), (0.2, 39)])
    with pytest.raises(InputError, match="3 usable points are not enough; cubic needs 4"):
        compared(ANCHOR[:3], ANCHOR, "cubic")
    with pytest.raises(InputError, match="unknown interpolation"):
        compared(ANCHOR, ANCHOR, "linear")


# The command.


@pytest.fixture
def run(run: Any) -> Any:
    return partial(run, "bd")


def write(path: Path, columns: str, *rows: tuple[object, ...]) -> Path:
    path.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two methods in one file; the second needs 70 % of the rate."""
    rows = [("latent", 40 - n, *point, 20 + n) for n, point in enumerate(ANCHOR)]
    rows += [("bottleneck", 40 - n, 0.7 * rate, accuracy, 19 + n) for n, (rate, accuracy) in enumerate(ANCHOR)]
    return write(tmp_path / "points.csv", "method,qp,bpp,ap50,psnr", *rows)


def test_one_line_and_json(run: Any, file: Path) -> None:
    arguments = [file, file, "--anchor", "method=latent", "--test", "method=bottleneck"]
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith("BD-rate -30.00 %  BD-AP50 +")
    assert out.endswith("BD-PSNR -1.00 dB  (AP50 30.00 to 55.00, 100 % overlap)\n")
    report = json.loads(run(*arguments, "--json", "--interpolation", "akima")[1])
    assert report["bd_rate"] == pytest.approx(-30)
    assert report["bd_psnr"] == pytest.approx(-1)
    assert (report["metric"], report["interpolation"], report["warnings"]) == ("ap50", "akima", [])
    assert report["accuracy"] == {"low": 30, "high": 55, "fraction": 1}


def test_ambiguity_missing_columns_and_bad_curves_are_one_line(run: Any, file: Path, tmp_path: Path) -> None:
    anchor = ["--anchor", "method=latent"]
    single = write(tmp_path / "single.csv", "bpp,ap50", (0.1, 40))
    far = write(tmp_path / "far.csv", "bpp,ap50", (0.1, 60), (0.2, 70))
    rate = write(tmp_path / "rate.csv", "bpp,ap", (0.1, 60), (0.2, 70))
    for arguments, reason in (
        ([file, file, *anchor], "holds 2 curves; choose one, by COLUMN=VALUE: method=bottleneck; method=latent"),
        ([file, rate, *anchor], "rate.csv: has no column 'ap50'"),
        ([file, single, *anchor], "single.csv: 1 usable point is not enough"),
        ([file, far, *anchor], "no accuracy in common"),
        ([file, tmp_path / "nowhere.csv", *anchor], "nowhere.csv: no such file"),
    ):
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert reason in err
    assert run(file, file, "--anchor", "latent")[0] == 2


def test_warnings_go_to_stderr(run: Any, tmp_path: Path) -> None:
    anchor = write(tmp_path / "a.csv", "bpp,ap", *ANCHOR)
    test = write(tmp_path / "t.csv", "bpp,ap", (0.1, 50), (0.2, 49), (0.3, 70))
    code, out, err = run(anchor, test, "--metric", "ap")
    assert code == 0
    assert out.startswith("BD-rate ")
    assert "t.csv is not monotone" in err
    assert "share only 12 % of their ap range" in err


def test_the_mpeg_table_lies_where_it_was_asked_for(run: Any, file: Path, tmp_path: Path) -> None:
    arguments = [file, file, "--anchor", "method=latent", "--test", "method=bottleneck"]
    assert run(*arguments, "--mpeg-vcm", tmp_path / "new/table.csv")[0] == 0
    lines = (tmp_path / "new/table.csv").read_text().splitlines()
    assert len(lines) == 5
    assert lines[1].split(",")[2:5] == ["37", "0.800000", "55.0000"]
    code, out, err = run(*arguments, "--mpeg-vcm", tmp_path / "new/table.csv")
    assert (code, out) == (1, "")
    assert "table.csv: exists; use --overwrite or another --mpeg-vcm" in err
    assert run(*arguments, "--mpeg-vcm", tmp_path / "new/table.csv", "--overwrite")[0] == 0
