"""What became of the frames of a live run: one outcome per frame that was sent, and the sums."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcodec.edge.messages import OK, Answer
from featcodec.edge.newest import Shot

_LATENCIES = 10_000
"""So many of the last latencies are kept for percentiles, so that a run of months needs no more memory."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A frame and its answer.

    Attributes:
        shot: the picture.
        qp, size: of its bitstream; bytes.
        latency: seconds from its capture to its answer.
        is_late: it was answered after its deadline.
        answer: what the server said.
    """

    shot: Shot
    qp: int
    size: int
    latency: float
    is_late: bool
    answer: Answer

    def as_row(self) -> dict[str, Any]:
        """The outcome for JSON lines. `captured` is in seconds since 1970 (UTC); a refused frame has no detections."""
        row: dict[str, Any] = {
            "frame": self.shot.number,
            "captured": self.shot.captured / 1e6,
            "latency_ms": round(1e3 * self.latency, 1),
            "late": self.is_late,
            "bytes": self.size,
            "qp": self.qp,
            "status": self.answer.status,
        }
        if self.answer.status != OK:
            return {**row, "reason": self.answer.reason, "detail": self.answer.detail}
        size = {"width": self.answer.width, "height": self.answer.height}
        return {**row, **size, "detections": self.answer.detections}


@dataclass
class Tally:
    """Sums over a live run. `frames` = `dropped` + `unreadable` + `sent`; `sent` = `answered` + `refused` + `lost`.

    Attributes:
        frames: pictures that the camera gave.
        dropped: never sent: overtaken by a newer one, too late before coding, without connection, or over the bit rate.
        unreadable: the camera gave them, but they cannot be decoded.
        sent: bitstreams that were sent.
        answered: with detections.
        late: of these, after the deadline.
        refused: answered without detections.
        lost: sent and not answered before the connection was lost or the run ended.
        bytes: of all bitstreams that were sent.
        seconds: how long the run took.
        latencies: seconds, of the last 10,000 answers.
    """

    frames: int = 0
    dropped: int = 0
    unreadable: int = 0
    sent: int = 0
    answered: int = 0
    late: int = 0
    refused: int = 0
    lost: int = 0
    bytes: int = 0
    seconds: float = 0.0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def add(self, outcome: Outcome) -> None:
        """Count an answer."""
        if outcome.answer.status != OK:
            self.refused += 1
            return
        self.answered += 1
        self.late += outcome.is_late
        self.latencies.append(outcome.latency)

    def latency_ms(self, percent: float) -> float | None:
        """A percentile of the latency in milliseconds; None without answers."""
        return round(1e3 * float(np.percentile(list(self.latencies), percent)), 1) if self.latencies else None

    def as_row(self) -> dict[str, Any]:
        """The summary for JSON."""
        counts = ("frames", "sent", "answered", "dropped", "late", "refused", "lost", "unreadable", "bytes")
        seconds = max(self.seconds, 1e-9)
        return {
            **{name: getattr(self, name) for name in counts},
            "latency_ms": {"p50": self.latency_ms(50), "p95": self.latency_ms(95)},
            "bits_per_second": round(8 * self.bytes / seconds),
            "frames_per_second": round(self.answered / seconds, 2),
            "seconds": round(self.seconds, 3),
        }
