"""Private text as a measure of privacy: how much of the plates is read, compared with guessing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from featcodec.privacy.readers import Score


def characters_read(readings: Iterable[tuple[str, str]]) -> float:
    """Compute the share of all characters that are read correctly: in [0, 1], or NaN if there are no characters."""
    return score_of_characters(readings).mean


def score_of_characters(readings: Iterable[tuple[str, str]]) -> Score:
    """Count the characters that are read correctly, each at its position.

    Args:
        readings: for each readable plate, its true text and the text that was read.

    Returns:
        the number of characters read, of all characters. Every character counts the same. A character that was not
        read counts as wrong.
    """
    right = count = 0
    for text, found in readings:
        count += len(text)
        right += sum(one == other for one, other in zip(text, found, strict=False))
    return Score(right, count)


def plates_read(readings: Iterable[tuple[str, str]]) -> float:
    """Compute the share of plates whose characters are all read correctly: in [0, 1], or NaN if there are no plates."""
    exact = [text == found for text, found in readings]
    return sum(exact) / len(exact) if exact else float("nan")


def characters_guessed(alphabets: Sequence[str]) -> float:
    """Compute the expected result of a reader that sees nothing and guesses among the allowed characters.

    Args:
        alphabets: the possible characters at each position, all equally likely. No alphabet is empty.

    Returns:
        the expected share of characters read, in [0, 1]; 6 % for two letters (of 23), two digits and three letters.
    """
    return sum(1 / len(set(alphabet)) for alphabet in alphabets) / len(alphabets)
