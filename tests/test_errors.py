"""What an exception says, in one line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from featcodec.errors import reason_of


@given(st.text(max_size=1000))
def test_a_reason_is_one_short_line(text: str) -> None:
    reason = reason_of(ValueError(text))
    assert 1 <= len(reason) <= 200
    assert len(reason.splitlines()) == 1
    assert reason == "ValueError" or text.lstrip().startswith(reason)


def test_what_torch_puts_behind_its_message_is_left_out() -> None:
    assert reason_of(RuntimeError("\n can't allocate memory\nframe #0: ...")) == "can't allocate memory"


def test_an_error_that_says_nothing_has_its_name_or_what_it_stands_for() -> None:
    assert reason_of(ValueError()) == reason_of(ValueError(" \n ")) == "ValueError"
    assert reason_of(MemoryError(), "out of memory") == "out of memory"
    assert reason_of(MemoryError("8 GiB"), "out of memory") == "8 GiB"
