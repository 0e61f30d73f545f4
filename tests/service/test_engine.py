"""The engine: batches across clients, bounds, and streams that end their decoder."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from featcodec import FeatureCodec
from featcodec.service.engine import Engine
from featcodec.service.fair_queue import Client
from featcodec.service.metrics import Metrics
from featcodec.service.refusals import RefusedError
from featcodec.service.settings import Settings
from featcodec.video.isolated import IsolatedCodec

PATIENCE = 60


@pytest.fixture
def start(codec: FeatureCodec) -> Iterator[Callable[..., Engine]]:
    """Makes an engine with these settings, which runs until the test ends."""
    with ExitStack() as stack:

        def call(is_running: bool = True, **settings: Any) -> Engine:
            chosen = replace(Settings(workers=1), **settings)
            isolated = IsolatedCodec(codec.video_codec, seconds=chosen.decode_seconds)
            engine = Engine(replace(codec, video_codec=isolated), chosen, Metrics())
            stack.callback(engine.stop)
            if is_running:
                engine.start()
            return engine

        yield call


def refusal(outcome: Future[Any]) -> RefusedError:
    """Why a stream got no detections."""
    error = outcome.exception(PATIENCE)
    assert isinstance(error, RefusedError)
    return error


def test_outcomes_are_those_of_the_codec(start: Any, codec: FeatureCodec, streams: list[bytes]) -> None:
    engine = start(workers=2)
    outcomes = [engine.submit(stream).result(PATIENCE) for stream in streams]
    for stream, outcome in zip(streams, outcomes, strict=True):
        side_info, frame = codec.decode_frame(stream)
        assert outcome.side_info == side_info
        assert (outcome.frame == frame).all()
        assert outcome.detections.to_coco(0) == codec.decode(stream).to_coco(0)


def test_frames_of_one_shape_are_one_batch(start: Any, streams: list[bytes]) -> None:
    """All are there before the engine starts; a batch waits until it is full."""
    engine = start(is_running=False, max_batch=3, batch_wait_ms=1000 * PATIENCE)
    pending = [engine.submit(streams[number // 3]) for number in range(6)]
    engine.start()
    wait(pending, PATIENCE)
    assert {one.result().detections.width for one in pending} == {160, 96}
    text = engine.metrics.text().decode()
    assert 'featcodec_batch_size_bucket{le="2.0"} 0.0' in text
    assert "featcodec_batch_size_count 2.0" in text
    assert "featcodec_batch_size_sum 6.0" in text


def test_a_batch_that_is_not_full_leaves_after_its_wait(start: Any, streams: list[bytes]) -> None:
    engine = start(max_batch=8, batch_wait_ms=1)
    assert len(engine.submit(streams[0]).result(PATIENCE).detections)


def test_a_full_queue_refuses_at_once(start: Any, streams: list[bytes]) -> None:
    engine = start(is_running=False, max_queue=2)
    pending = [engine.submit(streams[0]) for _ in range(2)]
    with pytest.raises(RefusedError, match="2 frames wait already") as refused:
        engine.submit(streams[0])
    assert (refused.value.status, refused.value.reason) == (429, "queue_full")
    assert b"featcodec_queue_length 2.0" in engine.metrics.text()
    engine.start()
    wait(pending, PATIENCE)
    assert engine.submit(streams[0]).result(PATIENCE)


def test_the_greediest_client_loses_its_surplus(start: Any, streams: list[bytes]) -> None:
    engine = start(is_running=False, max_queue=3)
    greedy = [engine.submit(streams[0], Client("greedy")) for _ in range(3)]
    camera = engine.submit(streams[0], Client("camera"))
    assert (refusal(greedy[2]).status, refusal(greedy[2]).reason) == (429, "queue_full")
    assert not any(each.done() for each in (*greedy[:2], camera))
    done: list[str] = []
    for name, each in (("greedy", greedy[0]), ("camera", camera), ("greedy", greedy[1])):
        each.add_done_callback(lambda _, name=name: done.append(name))
    engine.start()
    wait([*greedy, camera], PATIENCE)
    assert engine.drain(PATIENCE)
    assert done == ["greedy", "camera", "greedy"]


def test_bad_streams_fail_alone(start: Any, streams: list[bytes], foreign: bytes) -> None:
    engine = start()
    pending = [engine.submit(each) for each in (streams[0], b"nonsense", foreign, streams[0])]
    assert [refusal(one).status for one in pending[1:3]] == [400, 422]
    assert pending[0].result(PATIENCE).detections.to_coco(0) == pending[3].result(PATIENCE).detections.to_coco(0)


def test_a_picture_that_is_too_large_is_refused(start: Any, streams: list[bytes]) -> None:
    engine = start(max_pixels=160 * 120 - 1)
    assert refusal(engine.submit(streams[0])).status == 413
    assert engine.submit(streams[1]).result(PATIENCE)


def test_who_has_gone_costs_no_work(start: Any, streams: list[bytes]) -> None:
    engine = start(is_running=False)
    gone, waits = engine.submit(streams[0]), engine.submit(streams[0])
    assert gone.cancel()
    engine.start()
    assert waits.result(PATIENCE)
    assert b"featcodec_streams_total 1.0" in engine.metrics.text()


def test_a_decoder_that_takes_too_long_is_replaced(start: Any, streams: list[bytes]) -> None:
    engine: Engine = start(decode_seconds=3)
    assert engine.submit(streams[0]).result(PATIENCE)
    isolated: Any = engine.codec.video_codec
    (worker,) = isolated._workers._all
    os.kill(worker.process.pid, signal.SIGSTOP)
    error = refusal(engine.submit(streams[0]))
    assert (error.status, error.reason) == (504, "decode_timeout")
    assert b"featcodec_decoders_replaced_total 1.0" in engine.metrics.text()
    assert engine.submit(streams[0]).result(PATIENCE)


def test_a_decoder_that_dies_is_replaced(start: Any, streams: list[bytes], monkeypatch: Any) -> None:
    engine: Engine = start()
    assert engine.submit(streams[0]).result(PATIENCE)
    isolated: Any = engine.codec.video_codec
    (worker,) = isolated._workers._all
    monkeypatch.setattr(worker, "is_alive", lambda: True)  # as if it died while it decodes
    worker.process.kill()
    worker.process.wait()
    error = refusal(engine.submit(streams[0]))
    assert error.status == 400
    assert "ends the decoder" in str(error)
    assert b"featcodec_decoders_replaced_total 1.0" in engine.metrics.text()
    assert engine.submit(streams[0]).result(PATIENCE)


def test_networks_that_fail_refuse_their_batch_and_go_on(start: Any, streams: list[bytes], monkeypatch: Any) -> None:
    engine: Engine = start()
    with monkeypatch.context() as broken:
        broken.setattr(FeatureCodec, "back_end", lambda self, batch: 1 / 0)
        assert refusal(engine.submit(streams[0])).status == 500
    assert engine.submit(streams[0]).result(PATIENCE)


def test_draining_finishes_what_was_taken(start: Any, streams: list[bytes]) -> None:
    engine = start(is_running=False)
    pending = [engine.submit(stream) for stream in streams]
    threading.Timer(0.01, engine.start).start()
    assert engine.drain(PATIENCE)
    assert all(one.done() and one.exception() is None for one in pending)
    with pytest.raises(RefusedError, match="ends"):
        engine.submit(streams[0])


def test_who_drains_can_be_told_to_wait_no_longer(start: Any, streams: list[bytes]) -> None:
    engine = start(is_running=False)
    engine.submit(streams[0])
    threading.Timer(0.01, engine.abandon).start()
    assert not engine.drain(1000 * PATIENCE)


def test_stopping_refuses_what_waits(start: Any, streams: list[bytes]) -> None:
    engine = start(is_running=False)
    pending = [engine.submit(stream) for stream in streams]
    assert not engine.drain(0)
    engine.stop()
    assert {refusal(one).reason for one in pending} == {"ending"}
