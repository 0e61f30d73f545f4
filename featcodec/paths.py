"""Where files lie: the cache, the weights, and the sources and outputs of a command line."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from featcodec.errors import InputError


def cache_folder() -> Path:
    """$FEATCODEC_HOME, or the user's cache folder for featcodec. It may not exist yet."""
    home = os.environ.get("FEATCODEC_HOME")
    return Path(home).expanduser() if home else Path(platformdirs.user_cache_dir("featcodec"))


def weights_folder() -> Path:
    """The folder in which weights are looked for by name and into which they are downloaded."""
    return cache_folder() / "weights"


@dataclass(frozen=True)
class Source:
    """An input file and its name within the run.

    Attributes:
        path: the file.
        relative: its path below the folder it was found in, or its bare name; outputs mirror it.
    """

    path: Path
    relative: Path


def expand_sources(arguments: Sequence[str], suffixes: frozenset[str], what: str) -> list[Source]:
    """The files that SRC arguments name, each once, in a fixed order.

    Args:
        arguments: files, folders (searched recursively for `suffixes`) and glob patterns.
        suffixes: lower-case file name endings that count inside folders and patterns, e.g. {".jpg"}. A file that is
            named itself counts whatever it is called.
        what: what is looked for, for messages ("images").

    Raises:
        InputError: an argument matches nothing, or two sources would have the same output.
    """
    sources: dict[Path, Source] = {}
    for argument in arguments:
        found = list(_expand(argument, suffixes))
        if not found:
            endings = " ".join(sorted(suffixes))
            raise InputError(
                f"{argument or repr(argument)}: no {what} found; give files, folders or patterns ({endings})"
            )
        for source in found:
            sources.setdefault(source.path.resolve(), source)
    _refuse_collisions(sources.values())
    return list(sources.values())


def _expand(argument: str, suffixes: frozenset[str]) -> Iterable[Source]:
    path = Path(argument)
    if not argument:  # an unset shell variable; Path("") would be the working folder
        return
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith("."):
                yield Source(file, file.relative_to(path))
    elif path.is_file():
        yield Source(path, Path(path.name))
    elif glob.has_magic(argument):
        for match in sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207  (pathlib globs no absolute pattern)
            file = Path(match)
            if file.suffix.lower() in suffixes and file.is_file():
                yield Source(file, Path(file.name))
    elif path.exists():
        yield Source(path, Path(path.name))


def _refuse_collisions(sources: Iterable[Source]) -> None:
    outputs: dict[Path, Path] = {}
    for source in sources:
        other = outputs.setdefault(source.relative.with_suffix(""), source.path)
        if other is not source.path:
            raise InputError(f"{other} and {source.path} would have the same output; rename one, or run them apart")
