"""What each bottleneck gives up in accuracy, and what it takes from an attacker: the frontier, without compression."""

from __future__ import annotations

import math
from dataclasses import dataclass

from featcodec.evaluation.points import Row
from featcodec.evaluation.report.study import UNCODED, Study, is_detector_alone, label_of

SCORES = {"psnr": "PSNR", "edge_psnr": "edge-PSNR"}
"""The scores of the frontier, in dB, by column."""
_SAME = ("dataset", "image_size", "square")
"""Columns in which rows must agree to be compared."""


@dataclass(frozen=True)
class FrontierPoint:
    """One bottleneck, compared with the detector without a bottleneck.

    Attributes:
        label: its name.
        accuracy: change of the accuracy, in percentage points.
        scores: change of the strongest attack's score in dB, by column of `SCORES`; lower is more private.
        attacks: the kinds of attack that both sides got. The attack of a sweep is among them, as "".
    """

    label: str
    accuracy: float
    scores: dict[str, float]
    attacks: tuple[str, ...] = ()


PAPER = FrontierPoint("the paper, yolov5m", -1.1, {"psnr": -1.40, "edge_psnr": -2.49})
"""Tables I and II of the paper, on COCO val2017."""


def frontier(study: Study) -> list[FrontierPoint]:
    """The bottlenecks of a study that were attacked without compression, in the order of the study.

    The score of a side is the strongest that any attack reaches there: the attack of a sweep, and those of audits. Both
    sides must have been attacked by the same kinds of attack; others do not count.
    """
    detector = study.detector
    if detector is None:
        return []
    points = []
    for row in study.uncompressed:
        if row["method"] != UNCODED or is_detector_alone(row) or not row[study.metric]:
            continue
        theirs, ours = _attacks(study, detector), _attacks(study, row)
        scores, attacks = {}, dict[str, None]()
        for score in SCORES:
            both = [kind for kind in theirs if _is_scored(theirs[kind], score) and _is_scored(ours.get(kind), score)]
            if both:
                strongest = (max(float(side[kind][score]) for kind in both) for side in (ours, theirs))
                scores[score] = math.fsum((next(strongest), -next(strongest)))
                attacks.update(dict.fromkeys(both))
        if scores:
            change = float(row[study.metric]) - float(detector[study.metric])
            points.append(FrontierPoint(label_of(row), change, scores, tuple(attacks)))
    return points


def _attacks(study: Study, side: Row) -> dict[str, Row]:
    """The rows of the attacks on a side by kind of attack; the attack of the sweep itself has the kind ""."""
    rows = [row for row in study.audited if not row["qp"] and row["fingerprint"] == side["fingerprint"]]
    return {"": side, **{row["attack"]: row for row in rows if all(row[name] == side[name] for name in _SAME)}}


def _is_scored(row: Row | None, score: str) -> bool:
    return row is not None and bool(row.get(score))
