"""What `featcodec invert --private` prints about the number plates that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featcodec.privacy.attack_files import Attacked
    from featcodec.privacy.plates import ReadPlate

_PICTURES = ("original", "latent", "reconstruction")


def plate_summary(done: Sequence[Attacked], alphabets: Sequence[str]) -> dict[str, Any]:
    """How many plates there are, and which shares of them are read, for JSON.

    Args:
        done: the files that were inverted.
        alphabets: the reader's alphabets, for the share that guessing reads.

    Returns:
        numbers of images and readable plates; shares of `characters` and `whole` plates read, by the name of the
        picture; and the share that `guessing` reads.
    """
    from featcodec.privacy.plate_text import characters_guessed, characters_read, plates_read

    audited = [outcome.plates for outcome in done if outcome.plates is not None]
    plates = [plate for found in audited for plate in found]
    readings = {
        name: [(plate.text, plate.found[name]) for plate in plates]
        for name in _PICTURES
        if plates and name in plates[0].found
    }
    return {
        "images": len(audited),
        "readable": len(plates),
        "characters": {name: characters_read(pairs) for name, pairs in readings.items()},
        "whole": {name: plates_read(pairs) for name, pairs in readings.items()},
        "guessing": characters_guessed(alphabets),
    }


def plate_line(summary: dict[str, Any], attacked: str) -> str:
    """The summary in one line.

    Args:
        summary: result of `plate_summary`.
        attacked: what the reconstructions were made from: "bottleneck", or "features" without one.
    """
    plates, images = (
        f"{summary[count]} {what}{'' if summary[count] == 1 else 's'}"
        for count, what in (("readable", "readable plate"), ("images", "image"))
    )
    line = f"plates: {plates} on {images}"
    if not summary["readable"]:
        return line
    shares = ", ".join(
        f"{attacked if name == 'reconstruction' else name} {share:.1%}".replace("%", " %")
        for name, share in summary["characters"].items()
    )
    return f"{line}; characters read: {shares} (guessing {summary['guessing']:.0%})".replace("%)", " %)")


def plates_json(plates: Sequence[ReadPlate]) -> list[dict[str, str]]:
    """What was read on one image."""
    return [{"text": plate.text, **plate.found} for plate in plates]
