"""Why a server does not answer with detections: a status as in HTTP, and one word for it."""

from __future__ import annotations

from featcodec.edge.messages import Answer
from featcodec.errors import BitstreamError, FeatcodecError, InputError, WeightsError
from featcodec.video.isolated import LostWorkerError

RETRY_SECONDS = 1
"""What `Retry-After` says with 429 and 503."""


class RefusedError(FeatcodecError):
    """A frame or picture that gets no detections.

    Args:
        status: as `Answer.status`.
        reason: one word, for metrics.
        detail: one line for people.
    """

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason

    def answer(self, frame: int | None = None, captured: int | None = None, size: int = 0) -> Answer:
        """The answer to a frame, or to bytes that are none."""
        return Answer(frame, captured, self.status, self.reason, str(self), size=size)


def refusal_of(error: BaseException) -> RefusedError:
    """The refusal that an error of the library means to a client."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, MemoryError):
        return RefusedError(503, "out_of_memory", "the server has too little memory for it; send smaller pictures")
    if isinstance(error, LostWorkerError) and error.was_late:
        return RefusedError(504, "decode_timeout", str(error))
    if isinstance(error, (BitstreamError, InputError)):
        return RefusedError(400, "damaged", str(error))
    if isinstance(error, WeightsError):
        return RefusedError(422, "other_networks", str(error))
    return RefusedError(500, "failed", f"the server failed on it ({type(error).__name__}); its log says why")


def ending() -> RefusedError:
    """The refusal of a server that ends."""
    return RefusedError(503, "ending", "the server ends; try again soon, or at another server")
