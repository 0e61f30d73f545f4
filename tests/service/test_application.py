"""The addresses of a server, over real connections."""

from __future__ import annotations

import io
import re
from typing import Any

import httpx
import pytest
from pictures import texture
from PIL import Image
from running import Running

from featcodec import FeatureCodec
from featcodec.edge.messages import Answer
from featcodec.service.answers import detections_json
from featcodec.service.application import create_application
from featcodec.service.settings import Settings


def test_a_bitstream_gets_the_detections_of_the_library(
    server: Running, codec: FeatureCodec, streams: list[bytes]
) -> None:
    for stream in streams:
        answer = Answer.from_json(server.post("/v1/detections", stream).text)
        expected = codec.decode(stream)
        assert len(expected)
        assert answer.detections == detections_json(expected)
        assert (answer.status, answer.frame, answer.captured, answer.size) == (200, None, None, len(stream))
        assert (answer.width, answer.height, answer.qp) == (expected.width, expected.height, 38)
        assert answer.decode_ms > 0


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "empty"),
        (b"nonsense", 400, "damaged"),
        (bytes(1000), 400, "damaged"),
        (b"x" * ((8 << 20) + 1), 413, "too_long"),
        (iter([b"x" * (1 << 20)] * 9), 413, "too_long"),
    ],
    ids=["empty", "nonsense", "zeros", "long", "long without a length"],
)
def test_what_is_no_bitstream_is_refused(server: Running, body: Any, status: int, reason: str) -> None:
    before = server.metric(f'featcodec_refusals_total{{reason="{reason}"}}')
    response = server.post("/v1/detections", body)
    answer = Answer.from_json(response.text)
    assert (response.status_code, answer.status, answer.reason) == (status, status, reason)
    assert answer.detail
    assert "\n" not in answer.detail
    assert server.metric(f'featcodec_refusals_total{{reason="{reason}"}}') == before + 1


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/page/main.js"])
def test_what_can_be_got_has_a_head(server: Running, path: str) -> None:
    """As load balancers ask (RFC 9110, 9.1)."""
    head, got = (httpx.request(method, server.url + path, timeout=60) for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


def test_a_damaged_bitstream_is_refused(server: Running, streams: list[bytes]) -> None:
    damaged = bytearray(streams[0])
    damaged[len(damaged) // 2] ^= 1
    answer = Answer.from_json(server.post("/v1/detections", bytes(damaged)).text)
    assert (answer.status, answer.reason) == (400, "damaged")


def test_other_networks_are_refused_and_both_are_named(server: Running, codec: FeatureCodec, foreign: bytes) -> None:
    response = server.post("/v1/detections", foreign)
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert codec.fingerprint.hex() in detail
    assert codec.without_bottleneck().fingerprint.hex() in detail


def test_a_picture_runs_through_both_halves(server: Running, codec: FeatureCodec) -> None:
    file = io.BytesIO()
    Image.fromarray(texture(160, 120)).save(file, "PNG")
    found = server.post("/v1/picture?qp=30", file.getvalue()).json()
    stream = codec.encode(texture(160, 120), qp=30)
    assert found["detections"] == detections_json(codec.decode(stream))
    assert (found["width"], found["height"], found["qp"]) == (160, 120, 30)
    assert (found["bytes"], found["picture_bytes"]) == (len(stream), len(file.getvalue()))
    assert set(found["ms"]) == {"encode", "decode"}
    assert found["attacker"] is not None
    assert found["reconstruction"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(("query", "status"), [("qp=52", 400), ("qp=-1", 400), ("qp=x", 400)])
def test_a_wrong_qp_is_refused(server: Running, query: str, status: int) -> None:
    response = server.post(f"/v1/picture?{query}", b"x")
    assert (response.status_code, response.json()["reason"]) == (status, "bad_query")


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_picture_is_refused(server: Running, body: bytes) -> None:
    response = server.post("/v1/picture", body)
    assert response.status_code == 400
    assert "\n" not in response.json()["detail"]


def test_a_server_says_how_it_is(server: Running, streams: list[bytes]) -> None:
    assert server.get("/healthz").status_code == 200
    assert server.get("/readyz").status_code == 200
    before = server.metric("featcodec_streams_total")
    server.post("/v1/detections", streams[0])
    assert server.metric("featcodec_streams_total") == before + 1
    assert server.metric('featcodec_latency_seconds_count{part="total"}') == before + 1
    assert server.metric("featcodec_batch_size_count") >= 1
    assert server.metric("featcodec_queue_length") == 0
    assert server.metric("featcodec_held_bytes") == 0


def test_the_description_lists_the_addresses(server: Running) -> None:
    described = server.get("/openapi.json").json()["paths"]
    assert {"/v1/detections", "/v1/picture", "/healthz", "/readyz", "/metrics"} <= set(described)
    assert "429" in described["/v1/detections"]["post"]["responses"]
    page = server.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) >= 3
    for address in loaded:
        assert address.startswith("/"), "it loads nothing from elsewhere"
        assert server.get(address).status_code == 200


def test_the_page_is_served_where_there_is_one(server: Running) -> None:
    assert server.get("/").status_code == 200


def test_two_applications_share_nothing(codec: FeatureCodec) -> None:
    one, other = (create_application(codec, Settings(workers=1)).state.service for _ in range(2))
    one.metrics.streams.inc()
    assert b"featcodec_streams_total 1.0" in one.metrics.text()
    assert b"featcodec_streams_total 0.0" in other.metrics.text()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "Bearer secret"}, 400),
        ({"Authorization": "bearer  secret"}, 400),
    ],
)
def test_a_token_is_needed(serve: Any, header: dict[str, str], status: int) -> None:
    guarded = serve(token="secret")  # noqa: S106
    for path in ("/v1/detections", "/v1/picture"):
        response = guarded.post(path, b"nonsense", headers=header)
        assert response.status_code == status
        assert ("www-authenticate" in response.headers) == (status == 401)
    assert guarded.get("/healthz").status_code == 200


def test_a_server_that_starts_or_ends_is_not_ready(serve: Any, streams: list[bytes]) -> None:
    started: Running = serve()
    started.service.is_ready = False
    assert started.get("/readyz").json() == {"status": "starting"}
    started.service.is_ending = True
    assert started.get("/readyz").json() == {"status": "ending"}
    response = started.post("/v1/detections", streams[0])
    assert (response.status_code, response.json()["reason"]) == (503, "ending")
    assert response.headers["retry-after"] == "1"
    assert isinstance(response, httpx.Response)
    started.service.is_ending = False
