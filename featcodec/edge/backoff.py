"""How long to wait before something is tried again: exponential backoff with jitter."""

from __future__ import annotations

import random

FIRST = 0.5
LONGEST = 8.0
"""Seconds. A camera that comes back after a long time without network is back within about this time."""


class Backoff:
    """The pauses between tries, in seconds: 0.5, 1, 2, 4, 8, 8, ..., each times a random number in [0.5, 1].

    Without the random number, all cameras of a site would knock at a server that comes back in the same moment.

    Args:
        chance: random numbers.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311  (no secret depends on it)
        self._tries = 0

    def next(self) -> float:
        """The next pause."""
        pause = min(FIRST * 2.0 ** min(self._tries, 16), LONGEST)
        self._tries += 1
        return pause * self._chance.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: the next pause is short again."""
        self._tries = 0
