"""The controller reaches its target on streams whose size halves every few QP, and stays in its range."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.edge.rate_control import RateController
from featcodec.errors import InputError

FINEST = 60_000.0
"""Bytes of a frame at QP 0 in the model."""


def size_of(qp: int, per_octave: float = 6.0, finest: float = FINEST) -> int:
    """Bytes of a frame in the model: half for every `per_octave` QP."""
    return max(1, round(finest * 2 ** (-qp / per_octave)))


def run(
    controller: RateController,
    frames: int,
    *,
    interval: float = 0.1,
    start: float = 0.0,
    per_octave: float = 6.0,
    finest: float = FINEST,
    noise: float = 0.0,
    seed: int = 0,
) -> list[tuple[int, int]]:
    """QP and size of each frame; 0 bytes where the controller let none be sent. `noise` is in octaves."""
    chance = random.Random(seed)
    seen = []
    for number in range(frames):
        now = start + number * interval
        if not controller.may_send(now):
            seen.append((controller.qp, 0))
            continue
        qp = controller.qp
        size = size_of(qp, per_octave, finest * 2 ** chance.gauss(0, noise))
        controller.sent(size, now)
        seen.append((qp, size))
    return seen


def rate(seen: list[tuple[int, int]], interval: float = 0.1) -> float:
    """Bits per second."""
    return 8 * sum(size for _, size in seen) / (len(seen) * interval)


targets = st.floats(20_000, 2_000_000)
"""Bits per second that the model reaches between QP 0 and 51 at 10 frames per second: 4.8 Mbit/s to 13 kbit/s."""


@given(targets, st.integers(0, 51), st.floats(4, 8), st.sampled_from([0.04, 0.1, 0.5]))
def test_it_converges(target: float, start: int, per_octave: float, interval: float) -> None:
    ends = [8 * size_of(qp, per_octave) / interval for qp in (0, 51)]
    target = min(max(target, 2 * ends[1]), 0.8 * ends[0])
    controller = RateController(target, most=51, start=start, interval=interval)
    run(controller, 100, interval=interval, per_octave=per_octave)
    later = run(controller, 200, interval=interval, start=100 * interval, per_octave=per_octave)
    assert rate(later, interval) == pytest.approx(target, rel=0.1)


@given(targets, st.integers(0, 51), st.floats(4, 8))
def test_on_a_still_scene_the_qp_hardly_moves(target: float, start: int, per_octave: float) -> None:
    controller = RateController(target, most=51, start=start)
    run(controller, 150, per_octave=per_octave)
    later = [qp for qp, _ in run(controller, 100, start=15.0, per_octave=per_octave)]
    assert max(later) - min(later) <= 2


@given(targets, st.floats(0, 0.6), st.integers(0, 99))
def test_sizes_that_vary_do_not_move_the_mean(target: float, noise: float, seed: int) -> None:
    controller = RateController(target, most=51, start=38)
    run(controller, 100, noise=noise, seed=seed)
    assert rate(run(controller, 600, start=10.0, noise=noise, seed=seed + 1)) == pytest.approx(target, rel=0.12)


@given(targets, st.floats(-2, 2))
def test_a_change_of_the_scene_is_followed_within_three_seconds(target: float, octaves: float) -> None:
    target = min(max(target, 60_000), 1_000_000)
    controller = RateController(target, most=51, start=38)
    run(controller, 100)
    finest = FINEST * 2**octaves
    run(controller, 30, start=10.0, finest=finest)
    reached = rate(run(controller, 20, start=13.0, finest=finest))
    possible = sorted(8 * size_of(qp, finest=finest) / 0.1 for qp in (0, 51))
    assert reached == pytest.approx(min(max(target, possible[0]), possible[1]), rel=0.3)


@given(
    st.floats(1, 1e12),
    st.sampled_from([51, 63]),
    st.integers(-5, 99),
    st.lists(st.tuples(st.integers(0, 1 << 24), st.floats(0, 1e6)), max_size=50),
)
def test_the_qp_stays_in_its_range_whatever_happens(
    target: float, most: int, start: int, frames: list[tuple[int, float]]
) -> None:
    controller = RateController(target, most=most, start=start)
    now = 0.0
    for size, pause in frames:
        before = controller.qp
        now += pause
        controller.may_send(now)
        controller.sent(size, now)
        assert 0 <= controller.qp <= most
        assert abs(controller.qp - before) <= 13


@given(st.floats(2_000, 12_000))
def test_where_the_largest_qp_is_too_fine_frames_are_left_out(target: float) -> None:
    controller = RateController(target, most=51, start=38)
    run(controller, 100)
    later = run(controller, 400, start=10.0)
    assert {qp for qp, _ in later} == {51}
    assert rate(later) == pytest.approx(target, rel=0.15)


def test_a_pause_is_not_a_slower_camera() -> None:
    controller = RateController(200_000, most=51, start=38)
    run(controller, 100)
    before = controller.qp
    assert controller.may_send(60.0)
    controller.sent(size_of(before), 60.0)
    assert abs(controller.qp - before) <= 3
    assert rate(run(controller, 100, start=60.1)) == pytest.approx(200_000, rel=0.1)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_that_is_no_rate_is_refused(target: float) -> None:
    with pytest.raises(InputError, match="`bitrate`"):
        RateController(target, most=51, start=38)
