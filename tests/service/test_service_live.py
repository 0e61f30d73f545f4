"""What pages see."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running import PATIENCE, Running, frame, next_answer
from websockets.exceptions import ConnectionClosed

from featcodec import FeatureCodec
from featcodec.privacy.attack import Attack
from featcodec.privacy.attackers import find_shipped_attacker
from featcodec.privacy.strong_recnet import KIND as STRONG_RECNET
from featcodec.service.answers import detections_json


def next_message(socket: Any, kind: str) -> dict[str, Any]:
    """The next message of that type."""
    while True:
        message: dict[str, Any] = json.loads(socket.recv(timeout=PATIENCE))
        if message["type"] == kind:
            return message


def test_a_page_sees_frames_the_interceptor_and_the_end(
    server: Running, codec: FeatureCodec, streams: list[bytes]
) -> None:
    with server.open("/v1/live") as page:
        hello = json.loads(page.recv(timeout=PATIENCE))
        assert hello == {
            "type": "hello",
            "detector": "scenes",
            "names": list(codec.model.detector.names),
            "attacker": server.service.interceptor.name,
            "token": False,
        }
        assert hello["attacker"]
        with server.open("/v1/stream?source=gate") as camera:
            camera.send(frame(5, streams[0]))
            assert next_answer(camera).status == 200
            shown = next_message(page, "frame")
            assert (shown["source"], shown["frame"], shown["bytes"]) == ("gate", 5, len(streams[0]))
            assert (shown["width"], shown["height"], shown["qp"]) == (160, 120, 38)
            assert shown["detections"] == detections_json(codec.decode(streams[0]))
            assert shown["latency_ms"] > 0
            seen = next_message(page, "interceptor")
            assert (seen["source"], seen["frame"]) == ("gate", 5)
            with Image.open(io.BytesIO(base64.b64decode(seen["jpeg"]))) as jpeg:
                picture = np.asarray(jpeg, np.float32) / 255
            strongest = find_shipped_attacker(codec.model, STRONG_RECNET)
            assert strongest is not None
            assert hello["attacker"] == strongest.stem
            (expected,) = Attack.load(codec, strongest).on_streams([codec.decode_frame(streams[0])])
            assert picture.shape == expected.shape
            assert np.abs(picture - expected).mean() < 0.03
        assert next_message(page, "gone")["source"] == "gate"


def test_there_are_not_more_pages_than_allowed(serve: Any) -> None:
    started: Running = serve(max_pages=1)
    with started.open("/v1/live") as first:
        first.recv(timeout=PATIENCE)
        with started.open("/v1/live") as second, pytest.raises(ConnectionClosed, match="1013"):
            second.recv(timeout=PATIENCE)
        assert started.metric('featcodec_refusals_total{reason="pages_full"}') == 1
    assert started.get("/healthz").status_code == 200


def test_what_a_page_sends_is_forgotten(server: Running, streams: list[bytes]) -> None:
    with server.open("/v1/live") as page, server.open("/v1/stream?source=other") as camera:
        for _ in range(100):
            page.send("x" * 1000)
            page.send(b"y" * 1000)
        camera.send(frame(0, streams[0]))
        assert next_answer(camera).status == 200
        assert next_message(page, "frame")["source"] == "other"
