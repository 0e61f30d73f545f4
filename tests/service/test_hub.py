"""The hub: bounded, and nothing waits for a slow page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from featcodec.edge.messages import Answer
from featcodec.service import hub as hub_module
from featcodec.service.hub import Hub, Page
from featcodec.service.metrics import Metrics
from featcodec.service.refusals import RefusedError


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(hub_module, "time", clock)
    return clock


def waiting(page: Page) -> list[dict[str, Any]]:
    return [json.loads(page.messages.get_nowait()) for _ in range(page.messages.qsize())]


def answer(number: int, size: int = 1000) -> Answer:
    return Answer(number, 0, 200, width=8, height=6, size=size, qp=30, queue_ms=1.5, decode_ms=2.0)


def test_at_most_ten_frames_per_second_of_a_source_are_shown(clock: Clock) -> None:
    hub = Hub(4, Metrics())
    page = hub.open_page()
    sources = [hub.open_source(name) for name in "ab"]
    shown = []
    for number in range(60):
        for source in sources:
            hub.show(source, answer(number))
        shown += waiting(page)
        clock.now += 1 / 30
    assert len([each for each in shown if each["source"] == "a"]) in (20, 21)
    assert len(shown) in (40, 42)


def test_rates_are_those_of_the_last_seconds(clock: Clock) -> None:
    hub = Hub(4, Metrics())
    page, source = hub.open_page(), hub.open_source("a")
    for number in range(100):
        clock.now += 0.25
        hub.show(source, answer(number, size=500))
    last = waiting(page)[-1]
    assert last["frames_per_second"] == pytest.approx(4, rel=0.01)
    assert last["bits_per_second"] == pytest.approx(4 * 8 * 500, rel=0.01)
    assert last["latency_ms"] == 3.5
    assert len(source.recent) < 30


def test_a_slow_page_loses_the_oldest_messages_and_others_none(clock: Clock) -> None:
    metrics = Metrics()
    hub = Hub(4, metrics)
    slow, fast = hub.open_page(), hub.open_page()
    got = []
    for number in range(100):
        hub.publish({"type": "gone", "source": str(number)})
        got += waiting(fast)
    assert [each["source"] for each in got] == [str(number) for number in range(100)]
    assert [each["source"] for each in waiting(slow)] == [str(number) for number in range(68, 100)]
    assert b"featcodec_page_messages_dropped_total 68.0" in metrics.text()


def test_a_source_is_gone_with_its_last_connection() -> None:
    hub = Hub(4, Metrics())
    page = hub.open_page()
    one, other = hub.open_source("a"), hub.open_source("a")
    assert one is other
    hub.close_source(one)
    assert waiting(page) == []
    hub.close_source(other)
    assert waiting(page) == [{"type": "gone", "source": "a"}]
    assert hub.sources == {}


def test_pages_are_limited() -> None:
    hub = Hub(1, Metrics())
    page = hub.open_page()
    with pytest.raises(RefusedError, match="1 pages watch already"):
        hub.open_page()
    hub.close_page(page)
    hub.open_page()
