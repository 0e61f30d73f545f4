"""No more pictures per second than asked, and none to catch up with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from featcodec.edge.thinning import Thinning


@given(st.floats(1, 60), st.floats(1, 60))
def test_thinning_never_takes_more_than_asked(fps: float, rate: float) -> None:
    thin = Thinning(fps)
    taken = sum(thin.takes(number / rate) for number in range(200))
    expected = min(fps, rate) * 200 / rate
    assert 0.5 * expected - 1 <= taken <= expected + 2


def test_thinning_does_not_catch_up_after_a_pause() -> None:
    thin = Thinning(10)
    assert [thin.takes(at) for at in (0, 0.05, 0.1, 9, 9.02, 9.04, 9.1)] == [
        True,
        False,
        True,
        True,
        False,
        False,
        True,
    ]
