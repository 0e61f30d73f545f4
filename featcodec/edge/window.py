"""How many frames may be in flight, and whether a frame can still be answered within its deadline.

Frames that wait somewhere on the way make every later frame late. So the window shrinks to 0.7 of its size when an
answer comes late or nearly late, after 0.8 of the deadline. It grows by one frame per window of answers (additive
increase, multiplicative decrease, as TCP's windows do), but only while one frame more, if each frame waits for all
before it, would not be nearly late.
"""

from __future__ import annotations

from collections import deque

_SHRINK = 0.7
_NEARLY_LATE = 0.8
"""Share of the deadline from which on an answer makes the window shrink."""
_TRIPS = 20
"""Trips among which the fastest is looked for."""
_PROBE = 1.0
"""Seconds without a frame after which one is sent although it seems too late: the network may be faster now."""


class Window:
    """Frames in flight, and how fast their answers come. Times are seconds on any clock that never goes back.

    Args:
        most: frames in flight at most, from 1.
        deadline: seconds from the capture of a frame to its answer.

    Attributes:
        in_flight: frames that were sent and not answered yet.
        size: how many may be, in [1, most].
    """

    def __init__(self, most: int, deadline: float) -> None:
        self.in_flight = 0
        self.size = float(min(2, most))
        self._most = most
        self._deadline = deadline
        self._trips: deque[float] = deque(maxlen=_TRIPS)
        self._last_sent: float | None = None
        self._last_shrink = float("-inf")

    @property
    def has_room(self) -> bool:
        """Whether another frame may be sent."""
        return self.in_flight < int(self.size)

    def can_make_it(self, captured: float, now: float) -> bool:
        """Whether a frame can be answered within its deadline, if it is as fast as the fastest of the last ones.

        Args:
            captured: when it was captured.
            now: when its coding would start.
        """
        if now - captured > self._deadline:
            return False
        if not self._trips or now - captured + min(self._trips) <= self._deadline:
            return True
        return self._last_sent is None or (not self.in_flight and now - self._last_sent >= _PROBE)

    def sent(self, now: float) -> None:
        """A frame was sent."""
        self.in_flight += 1
        self._last_sent = now

    def answered(self, captured: float, started: float, now: float, *, refused: bool = False) -> None:
        """An answer came.

        Args:
            captured: when the frame was captured.
            started: when its coding started.
            now: when the answer came.
            refused: the server refused the frame because there was too much to do.
        """
        self.in_flight -= 1
        if not refused:
            self._trips.append(now - started)
        latency, most = now - captured, _NEARLY_LATE * self._deadline
        if refused or latency > most:
            self._shrink(started, now)
        elif latency * (self.size + 1) / self.size <= most:
            self.size = min(self.size + 1 / self.size, float(self._most))

    def lost(self, now: float) -> None:
        """A frame will not be answered."""
        self.in_flight -= 1
        self._shrink(now, now)

    def _shrink(self, started: float, now: float) -> None:
        """Once for all frames that were under way together."""
        if started >= self._last_shrink:
            self.size = max(1.0, _SHRINK * self.size)
            self._last_shrink = now
