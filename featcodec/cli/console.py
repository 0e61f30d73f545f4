"""How commands print: results go to stdout, everything else goes to stderr."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from featcodec.errors import in_one_line

if TYPE_CHECKING:
    from rich.progress import Progress

    from featcodec.bitstream import SideInfo
    from featcodec.images.annotations import Annotations

T = TypeVar("T")


_PARAMETER = re.compile(r"`([a-z][a-z_]*)`")
_OPTIONS = {"output": "-o", "encoder_parameters": "--encoder-param"}
"""Options whose name differs from the name of the parameter."""


def complain(message: str) -> None:
    """Print one line on stderr, with options in place of the library's parameters."""
    click.echo(f"featcodec: {with_options(in_one_line(message))}", err=True)


def note_all(notes: Iterable[str]) -> None:
    """Print notes on stderr, each on a line."""
    for note in notes:
        complain(f"note: {note}")


def with_options(message: str) -> str:
    """A message of the library as the command line says it: "use `overwrite`" becomes "use --overwrite"."""
    return _PARAMETER.sub(lambda match: _OPTIONS.get(match[1], "--" + match[1].replace("_", "-")), message)


def note_classes(annotations: Annotations, names: Sequence[str]) -> None:
    """Note on stderr which of a detector's classes the annotations lack. Boxes of these classes do not count.

    Raises:
        InputError: as `Annotations.category_ids`.
    """
    annotations.category_ids(names)
    if unknown := annotations.without_category(names):
        complain(
            f"note: {annotations.path} has no category {annotations.in_words(unknown)}; boxes of these classes are "
            "left out"
        )


def note_sizes(annotations: Annotations, coded: Mapping[int | str, SideInfo]) -> None:
    """Note on stderr if images were coded with other sizes than the annotations list, or boxes reach out of them.

    Args:
        annotations: the annotations.
        coded: the side info of each bitstream by the id of its image.
    """
    from featcodec.images.sizes import beyond, difference

    sizes = {image_id: (each.original_width, each.original_height) for image_id, each in coded.items()}
    note_all(filter(None, (difference(annotations, sizes), beyond(annotations, sizes))))


def print_json(value: Any) -> None:
    """Print a JSON document on stdout."""
    click.echo(json.dumps(value, indent=2))


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table on stdout. It is as wide as the terminal; without a terminal, it is as wide as it needs."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Cells are plain texts: file names and messages may hold characters that rich reads as markup.
    table = Table(title=Text(title) if title else None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items and show a progress bar on stderr if stderr is a terminal."""
    if not _can_show_bars():
        yield from items
        return
    with _bar(words_first=True) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)


@contextlib.contextmanager
def training_progress(steps: int) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Yield a function that shows (step, values) on stderr: a progress bar on a terminal, else one line per call."""
    if not _can_show_bars():
        yield lambda step, values: click.echo(f"step {step}/{steps}  {_in_words(values)}", err=True)
        return
    with _bar(words_first=False) as bar:
        task = bar.add_task("", total=steps)
        yield lambda step, values: bar.update(task, completed=step, description=_in_words(values))


def _can_show_bars() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()  # None if stderr is closed


def _bar(*, words_first: bool) -> Progress:
    """A progress bar on stderr. With words first, it disappears at the end; with words last, it stays."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    words = TextColumn("{task.description}")
    columns = [BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    columns.insert(0 if words_first else len(columns), words)
    return Progress(*columns, console=Console(stderr=True), transient=words_first)


def _in_words(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
