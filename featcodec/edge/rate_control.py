"""Steers the QP to a target rate in bits per second.

The size of a frame falls by half for every 6 QP or so. So the QP moves by a share of the error in octaves:

    budget = (target - debt / 2 s) * interval, within a factor of 2 of target * interval
    QP    += 6 * 0.35 * log2(size / budget), at most 12 per frame

`interval` is the mean time between frames that are sent. `debt` is a leaky bucket: frames fill it, and it runs out at
the target's rate; what is left when the next frame comes is the debt. Without it, the mean rate would be off where
sizes vary, because the step sees the mean of logarithms. While 2 s are left although the QP is at its end, no frame is
sent.
"""

from __future__ import annotations

import math

from featcodec.errors import InputError

_QP_PER_OCTAVE = 6.0
_GAIN = 0.35
"""Monotone where the rate halves within 2.1 QP or more, stable from 1.05 on; real streams take 4 to 8."""
_LARGEST_STEP = 12.0
_WINDOW = 2.0
"""Seconds within which a debt is paid back, and whose bits are the largest debt."""
_LARGEST_CREDIT = 0.5
"""Seconds whose bits may be saved up, for example while the QP is at 0 and the pictures are still small."""
_SMOOTHING = 0.2
"""Weight of the newest interval in the mean."""
_LONGEST_INTERVAL = 2.0
"""Seconds. A longer pause, for example without network, tells nothing about the rate of frames."""


class RateController:
    """The QP of each frame for a target rate.

    Args:
        target: bits per second, over 0.
        most: the largest QP: 63 with VVC, 51 with HEVC.
        start: the QP of the first frame.
        interval: seconds between frames, until it is measured.

    Attributes:
        qp: that of the next frame, 0..most.

    Raises:
        InputError: the target is not a positive number.
    """

    def __init__(self, target: float, *, most: int, start: int, interval: float = 0.2) -> None:
        if not math.isfinite(target) or target <= 0:
            raise InputError(f"a `bitrate` of {target} bits per second cannot be reached; give one over 0")
        self._target = target
        self._most = most
        self._qp = float(min(max(start, 0), most))
        self._interval = interval
        self._debt = 0.0
        self._last: float | None = None

    @property
    def qp(self) -> int:
        return round(self._qp)

    def may_send(self, now: float) -> bool:
        """Whether a frame may be sent now: not when the largest QP still is too fine for the target.

        Args:
            now: seconds on any clock that never goes back.
        """
        return self._qp < self._most or self._left(now) < self._target * _WINDOW

    def sent(self, size: int, now: float) -> None:
        """Learn from a frame that was sent.

        Args:
            size: bytes of its message.
            now: seconds, as in `may_send`.
        """
        bits = 8.0 * max(size, 1)
        if self._last is not None and 0 < now - self._last < _LONGEST_INTERVAL:
            self._interval += _SMOOTHING * (now - self._last - self._interval)
        left = self._left(now)
        self._debt = min(left + bits, _WINDOW * self._target + bits)
        self._last = now
        plain = self._target * self._interval
        budget = min(max((self._target - left / _WINDOW) * self._interval, plain / 2), 2 * plain)
        step = _QP_PER_OCTAVE * _GAIN * math.log2(bits / budget)
        self._qp = min(max(self._qp + min(max(step, -_LARGEST_STEP), _LARGEST_STEP), 0.0), float(self._most))

    def _left(self, now: float) -> float:
        """What is left of the debt, in bits; a credit is below 0."""
        elapsed = 0.0 if self._last is None else max(0.0, now - self._last)
        return max(self._debt - self._target * elapsed, -_LARGEST_CREDIT * self._target)
