"""The table of MPEG VCM's reporting template."""

from __future__ import annotations

import csv
from pathlib import Path

from featcodec.evaluation.bd import compare
from featcodec.evaluation.curves import CurvePoint, RateCurve
from featcodec.evaluation.mpeg_vcm import write_table

SIDE_INFO = [
    *("Data set", "Point", "Anchor QP", "Anchor Rate [bpp]", "Anchor mAP@0.5 [%]", "Anchor Enc T [s]"),
    *("Anchor Dec T [s]", "Test QP", "Test Rate [bpp]", "Test mAP@0.5 [%]", "Test Enc T [s]", "Test Dec T [s]"),
    *("BD-rate [%]", "BD-mAP@0.5 [%]", "Enc T [%]", "Dec T [%]"),
]


def curve(factor: float, count: int, *, timed: bool = True) -> RateCurve:
    points = []
    for number in range(count):
        row = {"qp": str(44 - number), "quality": "", "dataset": "ab12"}
        if timed:
            row |= {"front_end_seconds": "1", "encode_seconds": str(3 * factor + factor - 1)}
            row |= {"decode_seconds": "0.5", "back_end_seconds": "0.25"}
        points.append(CurvePoint(factor * 0.1 * 2**number, 30 + 5.0 * number, None, row))
    return RateCurve("x.csv", "ap50", tuple(points))


def table(path: Path, anchor: RateCurve, test: RateCurve) -> list[list[str]]:
    write_table(path, anchor, test, compare(anchor, test))
    return list(csv.reader(path.read_text().splitlines()))


def test_points_stand_side_by_side_and_deltas_in_the_first_row(tmp_path: Path) -> None:
    side_info, *rows = table(tmp_path / "table.csv", curve(1, 4), curve(0.5, 3))
    assert side_info == SIDE_INFO
    assert len(rows) == 4
    assert rows[0][:7] == ["ab12", "1", "41", "0.800000", "45.0000", "4.000", "0.750"]
    assert rows[0][7:12] == ["42", "0.200000", "40.0000", "2.000", "0.750"]
    assert rows[0][12] == "-50.00"
    assert rows[0][14:] == ["50", "100"]
    assert rows[3][7:] == [""] * 9
    assert rows[1][12:] == [""] * 4


def test_without_times_their_columns_are_empty(tmp_path: Path) -> None:
    _, *rows = table(tmp_path / "table.csv", curve(1, 2), curve(0.5, 2, timed=False))
    assert rows[0][10:12] == ["", ""]
    assert rows[0][14:] == ["", ""]
