"""From what the engine found to the answers of `featcodec.edge.messages`."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from featcodec.detections import Detections
from featcodec.edge.messages import OK, Answer
from featcodec.service.engine import Outcome
from featcodec.service.refusals import RETRY_SECONDS

_JSON = "application/json"


def detections_json(detections: Detections) -> list[dict[str, Any]]:
    """Detections as `Answer.detections`."""
    results = detections.to_coco(0)
    for result in results:
        del result["image_id"], result["image_size"]
    return results


def answer_of(outcome: Outcome, size: int, frame: int | None = None, captured: int | None = None) -> Answer:
    """The answer to a frame that was decoded.

    Args:
        outcome: from the engine.
        size: bytes of the bitstream.
        frame, captured: as in the frame's message.
    """
    return Answer(
        frame,
        captured,
        OK,
        detections=detections_json(outcome.detections),
        width=outcome.detections.width,
        height=outcome.detections.height,
        size=size,
        qp=outcome.side_info.qp,
        queue_ms=round(outcome.queue_ms, 3),
        decode_ms=round(outcome.decode_ms, 3),
    )


def response_of(status: int, content: str) -> Response:
    """An HTTP response of JSON, with what its status needs besides."""
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(content, status, headers, _JSON)
