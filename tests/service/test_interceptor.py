"""The interceptor: one frame of a source about once a second, only while a page watches, and it gives way."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from featcodec import FeatureCodec
from featcodec.service import interceptor as interceptor_module
from featcodec.service.engine import Engine
from featcodec.service.hub import Hub
from featcodec.service.interceptor import Interceptor
from featcodec.service.metrics import Metrics
from featcodec.service.settings import Settings


@pytest.fixture
def parts(codec: FeatureCodec) -> Iterator[tuple[Interceptor, Hub, Engine]]:
    """An interceptor, its hub and an engine that does not run."""
    metrics = Metrics()
    hub, engine = Hub(4, metrics), Engine(codec, Settings(workers=1), metrics)
    interceptor = Interceptor(codec, hub, engine)
    yield interceptor, hub, engine
    interceptor.stop()


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_each_source_has_its_turn(
    parts: tuple[Interceptor, Hub, Engine], codec: FeatureCodec, streams: list[bytes], monkeypatch: Any
) -> None:
    interceptor, hub, engine = parts
    clock = Clock()
    monkeypatch.setattr(interceptor_module, "time", clock)
    side_info, frame = codec.decode_frame(streams[0])
    one, other = hub.open_source("a"), hub.open_source("b")
    interceptor.see(one, 1, side_info, frame)
    assert interceptor._next() is None  # nobody watches
    page = hub.open_page()
    interceptor.see(one, 2, side_info, frame)
    assert interceptor._next() is one
    interceptor._made[one] = clock.now
    interceptor.see(other, 3, side_info, frame)
    assert interceptor._next() is other
    interceptor.forget(other)
    assert interceptor._next() is None  # less than a second since the last one
    clock.now += 1.5
    assert interceptor._next() is one
    engine.submit(streams[0])  # work waits
    assert interceptor._next() is None
    clock.now += 5
    assert interceptor._next() is one
    hub.close_page(page)
    assert interceptor._next() is None
    assert not interceptor._latest
    engine.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_its_thread_has_the_lowest_priority(parts: tuple[Interceptor, Hub, Engine]) -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert parts[0]._work.submit(priority).result(60) == 19
    assert priority() != 19


def test_without_an_attacker_there_is_no_picture(codec: FeatureCodec, streams: list[bytes], monkeypatch: Any) -> None:
    monkeypatch.setattr(interceptor_module, "find_shipped_attacker", lambda *_: None)
    metrics = Metrics()
    hub = Hub(1, metrics)
    interceptor = Interceptor(codec, hub, Engine(codec, Settings(workers=1), metrics))
    hub.open_page()
    interceptor.see(hub.open_source("a"), 1, *codec.decode_frame(streams[0]))
    assert interceptor.name is None
    assert not interceptor._latest
    assert asyncio.run(interceptor.reconstruct(*codec.decode_frame(streams[0]))) is None
    interceptor.stop()


def test_an_attack_that_fails_costs_one_picture(
    parts: tuple[Interceptor, Hub, Engine], codec: FeatureCodec, streams: list[bytes], monkeypatch: Any
) -> None:
    interceptor = parts[0]
    with monkeypatch.context() as broken:
        broken.setattr(type(interceptor._attack), "on_streams", _fail)
        assert asyncio.run(interceptor.reconstruct(*codec.decode_frame(streams[0]))) is None
    assert asyncio.run(interceptor.reconstruct(*codec.decode_frame(streams[0])))


def _fail(_attack: Any, _batch: Any) -> Any:
    raise RuntimeError("out of memory")
