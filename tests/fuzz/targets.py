"""What a fuzz target is, and how one case is judged."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from featcodec.errors import FeatcodecError

REFUSED = "refused"
SAME = "same"
READ = "read"

T = TypeVar("T")


class WrongError(Exception):
    """A reader broke its promise, though no foreign exception came out of it."""


class Target(Protocol):
    """One kind of file, with originals to damage and the readers that must stand it."""

    def run(self, rng: random.Random) -> str:
        """Damage an original, read it, and say how that went.

        Args:
            rng: decides everything about the case.

        Returns:
            REFUSED (a FeatcodecError of one line), SAME (read as if nothing had happened), or READ (read as something
            else, where the damage allows that).

        Raises:
            Exception: anything else is a fault of the reader.
        """


def refused_or(read: Callable[[], T]) -> T | None:
    """What a reader returns, or None if it refuses in the way that featcodec promises.

    Raises:
        WrongError: the refusal is not one line of text.
    """
    try:
        return read()
    except FeatcodecError as error:
        text = str(error)
        if not text.strip() or len(text.splitlines()) != 1 or len(text) > 2000:
            raise WrongError(f"not one line: {text[:200]!r}") from error
        return None


def rng_of(kind: str, seed: int, number: int) -> random.Random:
    """The random numbers of one case. They depend on nothing else."""
    return random.Random(hashlib.sha256(f"{kind} {seed} {number}".encode()).digest())


def open_target(kind: str, folder: Path) -> Target:
    """The target of that name.

    Args:
        kind: one of KINDS.
        folder: an empty folder for its files.
    """
    if kind == "streams":
        from fuzz_streams import Streams

        return Streams()
    if kind == "checkpoints":
        from fuzz_checkpoints import Checkpoints

        return Checkpoints(folder)
    if kind == "texts":
        from fuzz_texts import Texts

        return Texts(folder)
    from fuzz_images import Images

    return Images(folder)


KINDS = ("streams", "checkpoints", "texts", "images")
