"""Private text as a measure of privacy: how much of the plates is read, against what guessing reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def characters_read(readings: Iterable[tuple[str, str]]) -> float:
    """The share of all characters that are read correctly, each at its position.

    Args:
        readings: what each readable plate says, and what was read.

    Returns:
        in [0, 1]; every character counts the same, those of which nothing was read as wrong. NaN where there are none.
    """
    right = total = 0
    for text, found in readings:
        total += len(text)
        right += sum(one == other for one, other in zip(text, found, strict=False))
    return right / total if total else float("nan")


def plates_read(readings: Iterable[tuple[str, str]]) -> float:
    """The share of plates of which every character is read correctly; in [0, 1], or NaN where there are none."""
    exact = [text == found for text, found in readings]
    return sum(exact) / len(exact) if exact else float("nan")


def characters_guessed(alphabets: Sequence[str]) -> float:
    """What a reader that sees nothing may expect: it guesses one of the characters that the format allows.

    Args:
        alphabets: the characters possible at each position, equally likely; none of them empty.

    Returns:
        the expected share of characters read, in [0, 1]; 6 % for two letters of 23, two digits and three letters.
    """
    return sum(1 / len(set(alphabet)) for alphabet in alphabets) / len(alphabets)
