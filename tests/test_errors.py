"""What an exception says, in one line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from featcodec.errors import BitstreamError, InputError, in_one_line, reason_of


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


@given(st.text(max_size=4000))
def test_a_message_is_one_line_that_a_terminal_shows_as_it_is(text: str) -> None:
    line = in_one_line(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= 1500
    assert not set(line) & set("\x1b\r\x07\x00\u202e\u2066")
    assert in_one_line(line) == line


def test_what_a_hostile_file_says_cannot_make_a_message_of_its_own() -> None:
    error = InputError("x.csv: rows of 'a\nfeatcodec: all is well\x1b[2K\u202e'; make it again")
    assert str(error) == "x.csv: rows of 'a featcodec: all is well\\x1b[2K\\u202e'; make it again"


def test_a_long_message_keeps_its_cause_and_its_remedy() -> None:
    text = str(BitstreamError("x.json: the name " + "y" * 100_000 + " is unknown; make it again"))
    assert text.startswith("x.json: the name yyy")
    assert text.endswith("yyy is unknown; make it again")


def test_blanks_in_a_hostile_file_cost_no_time() -> None:
    assert in_one_line("a" + " " * 10_000_000 + "b").startswith("a ")  # a pattern needed minutes for a hundredth of it


def test_line_breaks_with_blanks_around_them_become_one_space() -> None:
    assert in_one_line(" a \r\n\t \u2028 b\x85c\n\n") == "a b c"


def test_a_name_keeps_its_spaces() -> None:
    assert str(InputError("a  b.png: empty file")) == "a  b.png: empty file"
