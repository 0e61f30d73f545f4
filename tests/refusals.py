"""How featcodec refuses: in one line that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def refusal_of(error: type[Exception], path: Path, read: Callable[[Path], object]) -> str:
    """The message with which a reader refuses a file."""
    with pytest.raises(error) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def assert_refused(outcome: tuple[int, str, str], *parts: str) -> None:
    """Of a command: exit code 1, nothing on stdout, one line on stderr with these parts."""
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("featcodec: ")
    for part in parts:
        assert part in err
