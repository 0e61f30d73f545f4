"""Rows for JSON, and sums in bounded memory."""

from __future__ import annotations

import json

import numpy as np
import pytest

from featcodec.edge.messages import Answer
from featcodec.edge.newest import Shot
from featcodec.edge.tally import Outcome, Tally

SHOT = Shot(7, 1_500_000, 0.0, np.zeros((2, 2, 3), np.uint8))


def outcome(latency: float = 0.25, status: int = 200, *, late: bool = False) -> Outcome:
    return Outcome(SHOT, 38, 100, latency, late, Answer(0, 0, status, "", "", [], 2, 2))


def test_a_row_says_what_became_of_the_frame() -> None:
    row = json.loads(json.dumps(outcome().as_row()))
    assert row == {
        "frame": 7,
        "captured": 1.5,
        "latency_ms": 250.0,
        "late": False,
        "bytes": 100,
        "qp": 38,
        "status": 200,
        "width": 2,
        "height": 2,
        "detections": [],
    }
    refused = outcome(status=429).as_row()
    assert "detections" not in refused
    assert refused["reason"] == refused["detail"] == ""


def test_sums() -> None:
    tally = Tally(seconds=2.0, bytes=1000)
    for latency in range(1, 101):
        tally.add(outcome(latency / 100, late=latency > 90))
    tally.add(outcome(status=429))
    row = tally.as_row()
    assert (tally.answered, tally.late, tally.refused) == (100, 10, 1)
    assert row["latency_ms"] == {"p50": pytest.approx(505), "p95": pytest.approx(950.5)}
    assert (row["bits_per_second"], row["frames_per_second"]) == (4000, 50)


def test_a_run_without_answers_has_no_latency() -> None:
    assert Tally().as_row()["latency_ms"] == {"p50": None, "p95": None}


def test_a_run_of_months_needs_no_more_memory() -> None:
    tally = Tally()
    one = outcome()
    for _ in range(30_000):
        tally.add(one)
    assert len(tally.latencies) == 10_000
    assert tally.answered == 30_000
