"""The table of MPEG VCM's reporting template, as CSV.

The template itself is a spreadsheet among MPEG documents that may not be passed on. Its contents are known from papers,
and from the CSV that CompressAI-Vision writes for the template. For each data set the table has one row per rate point,
the finest QP first. A row holds the QP, the rate, the accuracy in percent, and the times of encoder and decoder.

Here anchor and test are side by side. The first row also holds BD-rate, BD-accuracy and the ratio of the times
(geometric mean over the points), as in JVET-T2010.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from featcodec.evaluation.bd import Comparison
from featcodec.evaluation.curves import CurvePoint, RateCurve
from featcodec.system.files import write_atomically

_ACCURACY = {"ap50": "mAP@0.5 [%]", "ap": "mAP@[0.5:0.95] [%]"}
_ENCODER = ("front_end_seconds", "encode_seconds")
_DECODER = ("decode_seconds", "back_end_seconds")


def write_table(
    path: Path, anchor: RateCurve, test: RateCurve, comparison: Comparison, *, overwrite: bool = False
) -> None:
    """Write the table of two curves. A file of that name is replaced only with `overwrite`.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    accuracy = _ACCURACY[anchor.metric]
    side = ("QP", "Rate [bpp]", accuracy, "Enc T [s]", "Dec T [s]")
    summary = ("BD-rate [%]", f"BD-{accuracy}", "Enc T [%]", "Dec T [%]")
    header = ["Data set", "Point", *(f"{who} {name}" for who in ("Anchor", "Test") for name in side), *summary]
    values = [
        f"{comparison.bd_rate:.2f}",
        "" if comparison.bd_accuracy is None else f"{comparison.bd_accuracy:.2f}",
        *(_ratio(anchor.points, test.points, stages) for stages in (_ENCODER, _DECODER)),
    ]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    data_set = anchor.points[0].row.get("dataset", "")
    pairs = zip_longest(reversed(anchor.points), reversed(test.points))
    for number, (first, second) in enumerate(pairs, 1):
        table.writerow([data_set, number, *_side(first), *_side(second), *(values if number == 1 else [""] * 4)])
    write_atomically(path, text.getvalue().encode(), overwrite=overwrite)


def _side(point: CurvePoint | None) -> list[str]:
    if point is None:
        return [""] * 5
    parameter = point.row.get("qp") or point.row.get("quality", "")
    seconds = [_seconds(point, stages) for stages in (_ENCODER, _DECODER)]
    times = ["" if value is None else f"{value:.3f}" for value in seconds]
    return [parameter, f"{point.rate:.6f}", f"{point.accuracy:.4f}", *times]


def _seconds(point: CurvePoint, stages: Sequence[str]) -> float | None:
    try:
        return sum(float(point.row[stage]) for stage in stages)
    except (KeyError, ValueError):
        return None


def _ratio(anchor: Sequence[CurvePoint], test: Sequence[CurvePoint], stages: Sequence[str]) -> str:
    means = []
    for points in (test, anchor):
        seconds = [_seconds(point, stages) for point in points]
        logarithms = [math.log(value) for value in seconds if value]
        if len(logarithms) < len(points):
            return ""
        means.append(math.fsum(logarithms) / len(logarithms))
    return f"{100 * math.exp(means[0] - means[1]):.0f}"
