"""Leaves pictures of a camera out, so that no more than some per second are left."""

from __future__ import annotations

_JITTER = 0.1
"""Share of an interval by which a picture may come early."""


class Thinning:
    """Leaves pictures out, so that no more than some per second are left.

    Args:
        fps: most pictures per second, or None for all.
    """

    def __init__(self, fps: float | None) -> None:
        self._interval = None if fps is None else 1 / fps
        self._next = 0.0

    def takes(self, seconds: float) -> bool:
        """Whether a picture is taken.

        Args:
            seconds: when it was made, since the first; never less than the time before.
        """
        if self._interval is None:
            return True
        # Times of cameras jitter; a little early is on time.
        if seconds < self._next - _JITTER * self._interval:
            return False
        self._next += self._interval
        if self._next <= seconds:  # pictures were late: there is nothing to catch up with
            self._next = seconds + self._interval
        return True
