"""Pauses grow, are bounded, and differ between cameras."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from featcodec.edge.backoff import FIRST, LONGEST, Backoff


@given(st.integers(0, 1 << 32), st.integers(1, 2000))
def test_pauses_double_up_to_a_bound(seed: int, tries: int) -> None:
    backoff = Backoff(random.Random(seed))
    for number in range(tries):
        whole = min(FIRST * 2.0**number, LONGEST) if number < 100 else LONGEST
        assert whole / 2 <= backoff.next() <= whole
    backoff.reset()
    assert backoff.next() <= FIRST


def test_two_cameras_do_not_knock_together() -> None:
    assert len({Backoff(random.Random(seed)).next() for seed in range(20)}) == 20
