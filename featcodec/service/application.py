"""The application (ASGI): the addresses of a server.

| address | what |
| --- | --- |
| POST /v1/detections | a bitstream in, detections out |
| WebSocket /v1/stream | frames of a source in, answers out |
| WebSocket /v1/live | what the sources do, for pages |
| POST /v1/picture | a picture in, what both halves make of it out |
| GET / and /page | the page |
| GET /healthz, /readyz, /metrics | alive, ready, counters for Prometheus |
| GET /docs, /openapi.json | the description of the above |
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from featcodec.codec import DEFAULT_QP, FeatureCodec
from featcodec.edge.messages import DETECT_PATH, STREAM_PATH
from featcodec.errors import reason_of
from featcodec.service.access import address_of, check_request
from featcodec.service.answers import answer_of, response_of
from featcodec.service.bodies import read_body
from featcodec.service.cameras import serve_source
from featcodec.service.fair_queue import Client
from featcodec.service.live import serve_page
from featcodec.service.page_files import add_page
from featcodec.service.pictures import Pictures
from featcodec.service.refusals import RefusedError
from featcodec.service.service import Service
from featcodec.service.settings import Settings
from featcodec.version import __version__

log = logging.getLogger("featcodec.service")
LIVE_PATH = "/v1/live"
PICTURE_PATH = "/v1/picture"
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def create_application(
    codec: FeatureCodec, settings: Settings | None = None, *, detector: str = "", is_ready_first: bool = False
) -> FastAPI:
    """The application of one codec.

    Args:
        codec: the networks that decode, and the video codec.
        settings: the bounds.
        detector: the name that pages show.
        is_ready_first: start up only when networks and decoders work, instead of answering /healthz meanwhile.

    Returns:
        the application; `application.state.service` is its `Service`.
    """
    service = Service(codec, settings or Settings(), detector)
    pictures = Pictures(service)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        if is_ready_first:
            await service.ready()
        try:
            yield
        finally:
            await service.stop()
            pictures.stop()

    # Its page of the API loads nothing from elsewhere.
    application = FastAPIOffline(title="featcodec", version=__version__, lifespan=lifespan, redoc_url=None)
    application.state.service = service
    _add_work(application, service, pictures)
    _add_sockets(application, service)
    _add_state(application, service)
    add_page(application)
    _add_errors(application, service)
    application.add_middleware(_Heads)
    return application


class _Heads:
    """Answers HEAD as GET; uvicorn leaves the content out. FastAPI would refuse it, and load balancers ask so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send)


def _add_work(application: FastAPI, service: Service, pictures: Pictures) -> None:
    settings = service.settings
    quality: Any = Query(DEFAULT_QP, ge=0, le=service.codec.video_codec.standard.max_qp)

    @application.post(DETECT_PATH, **_takes("application/octet-stream"))
    async def detections(request: Request) -> Response:
        """The detections of one bitstream."""
        check_request(request, settings.token)
        service.check_open()
        with service.room.part() as part:
            stream = await read_body(request, settings.max_body, settings.body_seconds, part)
            service.metrics.received.inc(len(stream))
            outcome = await service.decode(stream, Client(address_of(request, settings)))
            answer = answer_of(outcome, len(stream))
        return response_of(answer.status, answer.to_json())

    @application.post(PICTURE_PATH, **_takes("image/*"))
    async def picture(request: Request, qp: int = quality) -> Response:
        """What both halves make of one picture, and what an attacker sees of it."""
        check_request(request, settings.token)
        service.check_open()
        with service.room.part() as part:
            body = await read_body(request, settings.max_body, settings.body_seconds, part)
            service.metrics.received.inc(len(body))
            return response_of(200, await pictures.run(body, qp, Client(address_of(request, settings))))


def _takes(kind: str) -> dict[str, Any]:
    """What the description says of an address that takes bytes."""
    refusals = {
        400: "damaged",
        401: "the token is missing or wrong",
        408: "the body came too slowly",
        413: "too long, or too many pixels",
        422: "made with other networks",
        429: "too much at once",
        503: "the server ends",
        504: "decoding took too long",
    }
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": {kind: _BINARY}}},
        "responses": {status: {"description": text} for status, text in refusals.items()},
    }


def _add_sockets(application: FastAPI, service: Service) -> None:
    @application.websocket(STREAM_PATH)
    async def stream(socket: WebSocket) -> None:
        await serve_source(service, socket)

    @application.websocket(LIVE_PATH)
    async def live(socket: WebSocket) -> None:
        await serve_page(service, socket)


def _add_state(application: FastAPI, service: Service) -> None:
    @application.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server is alive."""
        return {"status": "alive"}

    @application.get("/readyz")
    async def readyz() -> Response:
        """Whether the server takes work."""
        if service.is_ready:
            return JSONResponse({"status": "ready"})
        status = "ending" if service.is_ending else "starting"
        return JSONResponse({"status": status}, 503, {"Retry-After": "1"})

    @application.get("/metrics")
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_errors(application: FastAPI, service: Service) -> None:
    @application.exception_handler(RefusedError)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101
        service.metrics.refused(error.reason)
        return response_of(error.status, error.answer().to_json())

    @application.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        said = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        service.metrics.refused("bad_query")
        return response_of(400, RefusedError(400, "bad_query", said).answer().to_json())

    @application.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.error("%s failed: %s: %s", request.url.path, type(error).__name__, reason_of(error))
        return response_of(500, RefusedError(500, "failed", "the server failed; its log says why").answer().to_json())
