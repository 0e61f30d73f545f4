"""Each error of the library has a status."""

from __future__ import annotations

import pytest

from featcodec.errors import BitstreamError, InputError, WeightsError
from featcodec.service.refusals import RefusedError, refusal_of
from featcodec.video.isolated import LostWorkerError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BitstreamError("damaged"), 400),
        (InputError("no picture"), 400),
        (LostWorkerError("died", was_late=False), 400),
        (LostWorkerError("late", was_late=True), 504),
        (WeightsError("others"), 422),
        (MemoryError(), 503),
        (RefusedError(429, "queue_full", "later"), 429),
        (KeyError("x"), 500),
    ],
)
def test_each_error_has_a_status(error: Exception, status: int) -> None:
    answer = refusal_of(error).answer(3, 4, 5)
    assert (answer.status, answer.frame, answer.captured, answer.size) == (status, 3, 4, 5)
    assert answer.reason
    assert answer.detail


def test_what_is_not_expected_tells_strangers_nothing() -> None:
    assert "secret" not in str(refusal_of(ValueError("/home/secret")))
