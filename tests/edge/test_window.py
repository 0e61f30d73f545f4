"""The window keeps its bounds, shrinks when answers are late, and lets no frame through that cannot be in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.edge.window import Window


@given(st.integers(1, 64), st.lists(st.tuples(st.sampled_from(["sent", "answered", "lost"]), st.floats(0, 3))))
def test_the_window_keeps_its_bounds(most: int, events: list[tuple[str, float]]) -> None:
    window, now, flights = Window(most, 1.0), 0.0, []
    for event, pause in events:
        now += pause
        if event == "sent" and window.has_room:
            window.sent(now)
            flights.append(now)
        elif flights and event == "answered":
            began = flights.pop(0)
            window.answered(began, began, now)
        elif flights and event == "lost":
            flights.pop(0)
            window.lost(now)
        assert 1 <= window.size <= max(most, 1)
        assert window.in_flight == len(flights) <= most
    if not flights:
        assert window.has_room


def test_it_grows_while_answers_are_early_and_shrinks_when_they_are_late() -> None:
    window = Window(8, 1.0)
    for number in range(100):
        window.sent(number)
        window.answered(number, number, number + 0.1)
    assert window.size == 8
    for number in range(100, 120):
        window.sent(number)
        window.answered(number, number, number + 0.9)
    assert window.size == 1


def test_frames_that_were_late_together_shrink_it_once() -> None:
    window = Window(8, 1.0)
    for number in range(50):
        window.sent(number)
        window.answered(number, number, number + 0.1)
    for number in range(8):
        window.sent(100 + number / 100)
    for number in range(8):
        window.answered(100 + number / 100, 100 + number / 100, 102 + number / 100)
    assert window.size == pytest.approx(0.7 * 8)


def test_a_refusal_for_too_much_shrinks_it_and_is_no_trip() -> None:
    window = Window(8, 1.0)
    window.sent(0.0)
    window.answered(0.0, 0.0, 0.01, refused=True)
    assert window.size == pytest.approx(1.4)
    assert window.can_make_it(10.0, 10.5)


def test_a_frame_that_is_too_old_is_refused() -> None:
    window = Window(4, 1.0)
    assert window.can_make_it(0.0, 0.9)
    assert not window.can_make_it(0.0, 1.1)
    window.sent(2.0)
    window.answered(2.0, 2.0, 2.4)
    assert window.can_make_it(2.5, 2.9)
    assert not window.can_make_it(2.2, 2.9)  # even the fastest would come at 1.1


def test_where_no_frame_is_in_time_one_per_second_tries_it() -> None:
    window = Window(4, 1.0)
    window.sent(0.0)
    window.answered(0.0, 0.0, 2.0)
    tries = 0
    for step in range(100):
        now = 2.0 + step / 10
        if window.can_make_it(now, now):
            tries += 1
            window.sent(now)
            window.answered(now, now, now + 2)
    assert 8 <= tries <= 10


@given(st.integers(1, 8), st.floats(0.01, 0.2), st.floats(0.0, 0.3), st.floats(0.5, 2.0))
def test_on_a_slow_link_answers_come_to_be_in_time(most: int, transfer: float, delay: float, deadline: float) -> None:
    """A link that carries one frame after the other: with too many in flight, each waits for those before it."""
    window, now, free_at, flights, late = Window(most, deadline), 0.0, 0.0, [], []
    for _ in range(4000):
        now += 0.01
        while flights and flights[0][1] <= now:
            began, arrives = flights.pop(0)
            window.answered(began, began, arrives)
            late.append(arrives - began > deadline)
        if window.has_room and window.can_make_it(now, now):
            free_at = max(free_at, now) + transfer
            flights.append((now, free_at + 2 * delay))
            window.sent(now)
    if transfer + 2 * delay < 0.75 * deadline:
        assert sum(late[20:]) <= 0.1 * len(late)
        assert len(late) > 20
