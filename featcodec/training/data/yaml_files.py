"""Reads YAML files that may hold anything, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from featcodec.errors import InputError, reason_of
from featcodec.system.files import read_bounded

_MAX_BYTES = 4 << 20
_MAX_VALUES = 50_000
_MAX_DEPTH = 20
_MAX_CHARACTERS = 2_000
"""So a number has fewer digits than Python writes out."""
_REMEDY = "give a data YAML"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C is ten times as fast. Not every build of PyYAML has it."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as plain Python values.

    Raises:
        InputError: the file cannot be read, is over 4 MiB, is not YAML, or is more than any description of a data set:
            over 50,000 values (a value that is repeated by an alias counts every time), over 20 levels, or a value of
            over 2,000 characters.
    """
    data = read_bounded(path, _MAX_BYTES, InputError, what="data YAML", remedy=_REMEDY, unreadable=_REMEDY)
    try:
        text = data.decode("utf-8-sig")
    except ValueError:
        raise InputError(f"{path}: not UTF-8 text; {_REMEDY}") from None
    try:
        _check(path, text)
        return yaml.load(text, _LOADER)  # noqa: S506  (it is a safe loader)
    except InputError:
        raise
    except Exception as error:  # the loader makes numbers and dates of texts, which raises anything
        reason = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else reason_of(error)
        raise InputError(f"{path}: not YAML ({reason}); correct the file") from None


def _check(path: Path, text: str) -> None:
    """Refuse what would take much time or memory to build. Only the events of the parser are looked at."""
    sizes: dict[str, int] = {}  # the values below each anchor, with all aliases written out
    open_collections: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.AliasEvent):
            # An alias within its own anchor has no size yet. It would never end.
            count += sizes.get(event.anchor, _MAX_VALUES)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_collections.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_collections.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
            if len(event.value) > _MAX_CHARACTERS:
                raise InputError(
                    f"{path}: line {event.start_mark.line + 1}: a value of over {_MAX_CHARACTERS} characters; {_REMEDY}"
                )
        if count > _MAX_VALUES or len(open_collections) > _MAX_DEPTH:
            raise InputError(
                f"{path}: line {event.start_mark.line + 1}: more values or levels than any data set needs; {_REMEDY}"
            )
