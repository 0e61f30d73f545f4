"""Where files are: the cache, the weights, and the sources of a command line."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

import platformdirs

from featcodec.errors import InputError
from featcodec.system.addresses import find_objects, is_address, path_of
from featcodec.system.elsewhere import Elsewhere
from featcodec.system.shards import SHARD_SUFFIX, is_shard, members_of

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


def cache_folder() -> Path:
    """$FEATCODEC_HOME, or the user's cache folder for featcodec. The folder may not exist yet.

    Raises:
        InputError: $FEATCODEC_HOME names the home of a user that does not exist.
    """
    home = os.environ.get("FEATCODEC_HOME")
    try:
        return Path(home).expanduser() if home else Path(platformdirs.user_cache_dir("featcodec"))
    except RuntimeError:
        raise InputError(f"FEATCODEC_HOME={home}: no such home folder; set FEATCODEC_HOME to a folder") from None


def weights_folder() -> Path:
    """The folder for weights. Weights are searched there by name and downloaded to it."""
    return cache_folder() / "weights"


def exists(path: Path) -> bool:
    """Whether there is anything under a path that a file names. See `is_file`."""
    return _mode(path) != 0


def is_file(path: Path) -> bool:
    """Whether there is a regular file under a path that a file names.

    A name that no file can have (too long, with a NUL, not in the system's encoding, a circle of links) is not a file.
    pathlib raises errors for some of them.

    Raises:
        InputError: it cannot be found out, for example without permission for the folder.
    """
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether there is a folder under a path that a file names. See `is_file`."""
    return stat.S_ISDIR(_mode(path))


def resolved(path: Path) -> Path:
    """The absolute path without links. In a circle of links it ends; `Path.resolve` fails there before Python 3.13."""
    if isinstance(path, Elsewhere):
        return path
    return Path(os.path.realpath(path))


def _mode(path: Path) -> int:
    """The kind of a file as in `os.stat_result.st_mode`; 0 if there is none."""
    try:
        return path.stat().st_mode
    except ValueError:
        return 0
    except OSError as error:
        if error.errno in _ABSENT:
            return 0
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


@dataclass(frozen=True)
class Source:
    """An input file and its name within the run.

    Attributes:
        path: the file.
        relative: its path below the folder that was searched, or only its name. Outputs have the same relative path.
    """

    path: Path
    relative: Path

    @property
    def name(self) -> Path:
        """The name of the image within the run: `relative` without ending. Only the last ending is taken off."""
        return self.relative.with_suffix("")


def expand_sources(
    arguments: Sequence[str], suffixes: frozenset[str], what: str, *, in_shards: bool = False
) -> list[Source]:
    """The files that SRC arguments name, each file once, in a fixed order.

    Args:
        arguments: files, folders (searched recursively for `suffixes`) and glob patterns; also addresses of objects
            (s3://BUCKET/KEY), for which all objects below an address are like the files below a folder.
        suffixes: lower-case file name endings that count inside folders and patterns, e.g. {".jpg"}. A file that an
            argument names directly may have any ending.
        what: the kind of the files, for messages ("images").
        in_shards: whether shards (.tar) stand for the files in them. These have the names that they have in the shard.

    Raises:
        InputError: an argument matches nothing or cannot be reached, a shard is damaged, or two sources would have the
            same output.
    """
    sources: dict[Path, Source] = {}
    for argument in arguments:
        found = list(_expand(argument, suffixes | {SHARD_SUFFIX} if in_shards else suffixes))
        if in_shards:
            found = [source for each in found for source in _in_shard(each, suffixes)]
        if not found:
            endings = " ".join(sorted(suffixes | {SHARD_SUFFIX} if in_shards else suffixes))
            raise InputError(
                f"{argument or repr(argument)}: no {what} found; give files, folders or patterns ({endings})"
            )
        for source in found:
            sources.setdefault(resolved(source.path), source)
    _refuse_collisions(sources.values())
    return list(sources.values())


def _expand(argument: str, suffixes: frozenset[str]) -> Iterator[Source]:
    if not argument:  # an unset shell variable; Path("") would be the working folder
        return
    path = path_of(argument)
    if isinstance(path, Elsewhere):
        yield from starmap(Source, find_objects(argument, suffixes))
        return
    argument = str(path) if is_address(argument) else argument  # file:///FILE
    try:
        if path.exists():
            yield from _found(path, suffixes)
        elif glob.has_magic(argument):
            for match in sorted(set(_matches(argument))):
                if is_folder(Path(match)) or Path(match).suffix.lower() in suffixes:
                    yield from _found(Path(match), suffixes)
    except OSError as error:
        raise InputError(f"{error.filename or argument}: cannot be read ({error.strerror}); check the path") from None


def _in_shard(source: Source, suffixes: frozenset[str]) -> Iterator[Source]:
    """The members of a shard; any other file is itself."""
    if is_shard(source.path):
        yield from starmap(Source, members_of(source.path, suffixes))
    else:
        yield source


def _matches(pattern: str) -> Iterator[str]:
    """What matches a pattern, as for `glob.glob` with `recursive`. "**" enters each real folder once, also by links."""
    parts = pattern.replace(os.sep, "/").split("/")
    if "**" not in parts:
        yield from glob.glob(pattern)  # noqa: PTH207  (pathlib takes no absolute one)
        return
    position = parts.index("**")
    head, tail = "/".join(parts[:position]), [part for part in parts[position + 1 :] if part != "**"]
    top = "/" if pattern.startswith("/") else "."
    for base in glob.glob(head) if head else [top]:  # noqa: PTH207
        if not tail:
            yield base
        elif is_folder(Path(base)):
            for folder, _, _ in _walk(Path(base)):
                yield from glob.glob("/".join([glob.escape(str(folder)), *tail]))  # noqa: PTH207


def _found(path: Path, suffixes: frozenset[str]) -> Iterator[Source]:
    """A file itself; for a folder, the files below it with one of the suffixes, also behind links."""
    if not is_folder(path):
        yield Source(path, Path(path.name))
        return
    for file in files_below(path):
        if file.suffix.lower() in suffixes and not file.name.startswith("."):
            yield Source(file, file.relative_to(path))


def files_below(folder: Path) -> list[Path]:
    """The files below a folder, also behind links, sorted, each file once. Hidden folders below it are left out.

    Everything that is not a folder counts, also a link that leads nowhere: whoever reads it can say what it is.

    A file is found under its own path, if that is below the folder. Else it is found behind as few links as possible,
    and of these paths under the first.

    Raises:
        OSError: the folder or a folder below it cannot be read.
        InputError: of an entry, it cannot be found out what it is.
    """
    own: dict[Path, Path] = {}
    linked: dict[Path, Path] = {}
    for _, real, files in _walk(folder):
        for file in files:
            if file.is_symlink():
                linked.setdefault(resolved(file), file)
            else:
                own[real / file.name] = file
    return sorted({**linked, **own}.values())


def _walk(folder: Path) -> Iterator[tuple[Path, Path, list[Path]]]:
    """A folder and all folders below it that are not hidden: the path, the real path and the sorted files of each.

    Each real folder is visited once. Links are followed only after everything that needs fewer links, so folders that
    are linked to each other take no longer than others.
    """
    visited: set[Path] = set()
    waiting, behind_links = [(folder, resolved(folder))], list[Path]()
    while waiting:
        here, real = waiting.pop()
        if real not in visited:
            visited.add(real)
            folders, files = list[Path](), list[Path]()
            for entry in sorted(here.iterdir()):
                (folders if is_folder(entry) else files).append(entry)
            yield here, real, files
            for entry in reversed(folders):
                if not entry.name.startswith("."):
                    if entry.is_symlink():
                        behind_links.append(entry)
                    else:
                        waiting.append((entry, real / entry.name))
        if not waiting:
            waiting, behind_links = [(link, resolved(link)) for link in sorted(behind_links, reverse=True)], []


def _refuse_collisions(sources: Iterable[Source]) -> None:
    """Refuse sources with the same output. Case does not count: on some file systems, A.266 and a.266 are one file."""
    outputs: dict[str, Path] = {}
    for source in sources:
        other = outputs.setdefault(str(source.name).casefold(), source.path)
        if other is not source.path:
            raise InputError(
                f"{other} and {source.path} would have the same output; rename one file, or use two output folders"
            )
