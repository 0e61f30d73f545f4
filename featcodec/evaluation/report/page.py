"""The pages of a report: one HTML file that holds everything, and a Markdown file with its figures beside it.

jinja2 escapes all text that comes from a file, because a CSV file can be hostile like every other input.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from featcodec.evaluation.points import IDENTITY
from featcodec.evaluation.report import audit, figures, pictures, tables
from featcodec.evaluation.report.pictures import GridRow
from featcodec.evaluation.report.study import Study, label_of
from featcodec.system.files import write_atomically
from featcodec.version import __version__

_SETTINGS = tuple(name for name in IDENTITY if name not in ("method", "fingerprint"))
_MOST_COLUMNS = 5
_MARKDOWN_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~"})


@dataclass(frozen=True)
class Report:
    """The contents of a report.

    Attributes:
        title: the heading.
        study: the sweeps.
        grid: the reconstructions.
        commands: the commands that made the measurements, as text, or an empty string.
        made_by: the command that makes the report.
    """

    title: str
    study: Study
    grid: Sequence[GridRow]
    commands: str
    made_by: str


def markdown_files(markdown: Path) -> dict[str, Path]:
    """Return the files of a Markdown report by name: the report itself and its figures."""
    stem = markdown.with_suffix("")
    return {
        "markdown": markdown,
        "rate_accuracy": stem.with_name(f"{stem.name}-rate-accuracy.svg"),
        "privacy_accuracy": stem.with_name(f"{stem.name}-privacy-accuracy.svg"),
        "frontier": stem.with_name(f"{stem.name}-frontier.svg"),
        "grid": stem.with_name(f"{stem.name}-reconstructions.jpg"),
    }


def write_html(path: Path, report: Report, *, overwrite: bool = False) -> None:
    """Write the page as one HTML file that holds everything it shows. `overwrite` replaces a file that exists.

    Raises:
        OutputError: the file exists or cannot be written.
        InputError: a value in a row is not a number.
    """
    text = _environment().get_template("report.html.jinja").render(**_contents(report))
    write_atomically(path, text.encode("utf-8", "replace"), overwrite=overwrite)


def write_markdown(path: Path, report: Report, *, overwrite: bool = False) -> list[Path]:
    """Write the page as Markdown, with its figures beside it. `overwrite` replaces files that exist.

    Returns:
        the files.

    Raises:
        OutputError, InputError: the same cases as in `write_html`.
    """
    files = markdown_files(path)
    contents = _contents(report)
    written = [path]
    for name in ("rate_accuracy", "privacy_accuracy", "frontier"):
        if contents[name] is not None:
            write_atomically(files[name], contents[name].encode(), overwrite=overwrite)
            written.append(files[name])
    if report.grid:
        write_atomically(files["grid"], pictures.contact_sheet(report.grid), overwrite=overwrite)
        written.append(files["grid"])
    text = _environment().get_template("report.md.jinja").render(**contents, files=files)
    write_atomically(path, text.encode("utf-8", "replace"), overwrite=overwrite)
    return written


def _contents(report: Report) -> dict[str, Any]:
    study = report.study
    return {
        "report": report,
        "study": study,
        "version": __version__,
        "has_intervals": any(row.get("ap50_low") for row in study.rows),
        "images": study.rows[0]["images"],
        "columns": _columns(len(report.grid[0].panels) if report.grid else 1),
        "rate_accuracy": figures.rate_accuracy(study),
        "privacy_accuracy": figures.privacy_accuracy(study),
        "frontier": figures.frontier(study),
        "uncompressed": tables.uncompressed(study),
        "reconstruction": tables.reconstruction(study),
        "worst_case": audit.worst_case(study),
        "attacks": audit.attacks(study),
        "bd": tables.bd(study),
        "variants": tables.variants(study),
        "operating_points": tables.operating_points(study),
        "points": tables.points(study),
        "fingerprints": _fingerprints(study),
        "settings": _settings(study),
    }


def _columns(panels: int) -> int:
    """Return how many pictures stand in a line: all, or half of them if they would be too small to see anything."""
    return panels if panels <= _MOST_COLUMNS else -(-panels // 2)


def _fingerprints(study: Study) -> list[tuple[str, str, str]]:
    """Return (name, fingerprint, fingerprint of its RecNet) of the networks, each once."""
    found: dict[str, tuple[str, str]] = {}
    for row in study.rows:
        name = "detector" if row["method"] != "bottleneck" and not row["bottleneck"] else label_of(row)
        recnet = row.get("recnet") or found.get(row["fingerprint"], ("", ""))[1]
        found[row["fingerprint"]] = (name, recnet)
    return [(name, fingerprint, recnet) for fingerprint, (name, recnet) in found.items()]


def _settings(study: Study) -> list[tuple[str, str]]:
    """Return the other columns that identify points, each with all its values."""
    values = {name: dict.fromkeys(row[name] for row in study.rows if row[name]) for name in _SETTINGS}
    return [(name, ", ".join(found)) for name, found in values.items() if found]


def _fenced(text: str) -> str:
    """Write shell commands as a Markdown block. Its fence is so long that no line of the commands can end it."""
    fence = "~" * max(3, 1 + max(map(len, re.findall("~+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("featcodec.evaluation.report"),
        autoescape=select_autoescape(["html.jinja"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["fenced"] = _fenced
    environment.filters["row_range"] = tables.row_range
    environment.filters["markdown"] = lambda text: " ".join(str(text).split()).translate(_MARKDOWN_SPECIAL)
    return environment
