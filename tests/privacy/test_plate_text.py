"""The share of private text that is read."""

from __future__ import annotations

import math

import pytest

from featcodec.privacy.plate_text import characters_guessed, characters_read, plates_read
from featcodec.privacy.text_head import PLATE_FORMAT


def test_every_character_counts_the_same_at_its_own_position() -> None:
    readings = [("AB12CDE", "AB12CDE"), ("AB12CDE", "BA12CDX"), ("XY", "XZ")]
    assert characters_read(readings) == pytest.approx((7 + 4 + 1) / 16)
    assert characters_read([("ABC", "BCA")]) == 0


def test_what_is_not_read_is_wrong_and_what_is_too_much_does_not_count() -> None:
    assert characters_read([("ABCD", "AB")]) == 0.5
    assert characters_read([("AB", "ABCD")]) == 1
    assert characters_read([("ABCD", "")]) == 0


def test_a_plate_counts_as_read_when_all_of_it_is() -> None:
    assert plates_read([("AB", "AB"), ("AB", "AC"), ("AB", "ABC"), ("AB", "AB")]) == 0.5


def test_nothing_to_read_has_no_share() -> None:
    assert math.isnan(characters_read([]))
    assert math.isnan(plates_read(iter([])))


def test_guessing_reads_what_the_format_gives_away() -> None:
    assert characters_guessed(PLATE_FORMAT) == pytest.approx((5 / 23 + 2 / 10) / 7)
    assert characters_guessed(["A", "AB", "AAB"]) == pytest.approx((1 + 0.5 + 0.5) / 3)
