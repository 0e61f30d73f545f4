"""Settings that cannot be served are refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from featcodec.errors import InputError
from featcodec.service.settings import Settings
from featcodec.system.batching import cores


def test_there_is_a_worker_per_core() -> None:
    assert Settings().workers == cores()


@pytest.mark.parametrize(
    "name", [each.name for each in fields(Settings) if each.name not in ("token", "behind_proxy", "workers")]
)
def test_what_is_too_small_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=name):
        Settings(**{name: -1})
    if name != "batch_wait_ms":
        with pytest.raises(InputError, match=name):
            Settings(**{name: 0})


@pytest.mark.parametrize("token", ["", "a b", "ä", "a,b", "x" * 201, "a\n"])
def test_a_token_that_no_browser_can_send_is_refused(token: Any) -> None:
    with pytest.raises(InputError, match="token"):
        Settings(token=token)
    assert Settings(token="aZ09-._~").token  # noqa: S106
