"""`featcodec.cluster.session`, without a cluster."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from featcodec.cluster import session


def test_connecting_leaves_the_warnings_of_other_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Ray starts, a thread imports torch, which ignores a warning of its own by `warnings.catch_warnings`."""
    seen: list[Any] = []
    before = warnings.filters
    fake = SimpleNamespace(init=lambda **options: seen.append(warnings.filters is before))
    monkeypatch.setattr(session, "_silent", session.contextlib.nullcontext)
    session._connect(fake, session.LOCAL)
    assert seen == [True]
    assert warnings.filters is before


def test_advice_for_programmers_is_not_shown() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        session._ignore_warnings()
        warnings.warn_explicit("old", FutureWarning, "worker.py", 1, module="ray._private.worker")
        warnings.warn_explicit("old", FutureWarning, "session.py", 1, module="featcodec.cluster.session")
        warnings.warn("Warning only once for all operators,  other operators may also be overridden.", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(each.message) for each in shown] == ["something else"]
