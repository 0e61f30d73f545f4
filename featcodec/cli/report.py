"""featcodec report: sweeps and attacks as one page."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import rich_click as click

from featcodec.cli.console import note_all, print_json
from featcodec.cli.option_values import conditions_of
from featcodec.cli.options import json_option, metric_option, overwrite_option

_MAX_COMMANDS = 1 << 20


@click.command("report")
@click.argument("tables", metavar="CSV...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File for the page (.html).")
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    default=None,
    help="Also write the page as Markdown (.md). Its figures are named after this file and go beside it.",
)
@click.option(
    "--attack",
    "attacks",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Output folder of `featcodec invert` or `featcodec audit`: columns of the grid of reconstructions. May be "
    "repeated.",
)
@click.option(
    "--originals",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder of the original images of --attack, which the page shows. May be repeated.",
)
@click.option("--pictures", type=click.IntRange(1, 100), default=6, show_default=True, help="Most images in the grid.")
@click.option("--title", default="Rate, accuracy and privacy", show_default=True, help="Heading of the page.")
@click.option(
    "--commands",
    type=click.Path(path_type=Path),
    default=None,
    help="Text file with the commands that made the measurements. The page shows them.",
)
@metric_option
@click.option(
    "--where",
    "where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Use only rows with this value. May be repeated. For fingerprint, dataset, recnet and restoration, the first "
    "characters are enough.",
)
@overwrite_option
@json_option
def command(
    tables: tuple[Path, ...],
    output: Path,
    markdown: Path | None,
    attacks: tuple[Path, ...],
    originals: tuple[Path, ...],
    pictures: int,
    title: str,
    commands: Path | None,
    metric: str,
    where: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> int:
    """Show sweeps and attacks as one self-contained page: curves, BD table, reconstructions, operating points.

    CSV are files from `featcodec sweep`, all for one detector and one data set. The tables without compression need a
    sweep with --method uncoded. The privacy curve needs a sweep with --recnet.
    """
    from featcodec.errors import OutputError
    from featcodec.evaluation.report.page import Report, markdown_files, write_html, write_markdown
    from featcodec.evaluation.report.pictures import read_grid
    from featcodec.evaluation.report.study import read_study
    from featcodec.evaluation.report.tables import bd
    from featcodec.privacy.attack_results import FILE_NAME as ATTACK_TABLE
    from featcodec.privacy.audit_results import FILE_NAME as AUDIT_TABLE

    for path in (output, markdown):
        if path is not None and path.is_dir():
            raise OutputError(f"{path}: is a folder; choose another name")
    planned = [output, *(markdown_files(markdown).values() if markdown is not None else ())]
    results = [folder / name for folder in attacks for name in (ATTACK_TABLE, AUDIT_TABLE)]
    inputs = [*tables, *results, *([commands] if commands else [])]
    _check_outputs(planned, inputs, overwrite=overwrite)
    report = Report(
        title=title,
        study=read_study(tables, metric, conditions_of(where)),
        grid=read_grid(attacks, pictures, originals),
        commands="" if commands is None else _read_commands(commands),
        made_by=shlex.join(["featcodec", *sys.argv[1:]]),
    )
    note_all(report.study.notes)
    write_html(output, report, overwrite=overwrite)
    more = [] if markdown is None else write_markdown(markdown, report, overwrite=overwrite)
    written = [output, *more]
    compared = [[cell.text for cell in row] for row in bd(report.study).rows]
    counts = {"points": len(report.study.rows), "curves": len(report.study.series), "attacks": len(attacks)}
    if as_json:
        print_json({**counts, "bd": compared, "output": [str(path) for path in written]})
        return 0
    for name, rate, accuracy, psnr, over, overlap in compared:
        click.echo(
            f"{name}: BD-rate {rate}, BD-{metric.upper()} {accuracy}, BD-PSNR {psnr} ({over}, {overlap} overlap)"
        )
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    click.echo(f"{said} -> {', '.join(str(path) for path in written)}")
    return 0


def _check_outputs(planned: list[Path], inputs: list[Path], *, overwrite: bool) -> None:
    from featcodec.errors import OutputError
    from featcodec.system.files import check_new
    from featcodec.system.paths import resolved

    protected = {resolved(path) for path in inputs}
    for number, path in enumerate(planned):
        if resolved(path) in protected:
            raise OutputError(f"{path}: is read by this command; choose another name")
        if resolved(path) in {resolved(other) for other in planned[:number]}:
            raise OutputError(f"{path}: would be written twice; choose another name for one of the two")
        check_new(path, overwrite=overwrite)


def _read_commands(path: Path) -> str:
    from featcodec.errors import InputError
    from featcodec.system.files import read_bounded

    remedy = "give a text file to --commands"
    data = read_bounded(path, _MAX_COMMANDS, InputError, what="list of commands", remedy=remedy)
    return io.TextIOWrapper(io.BytesIO(data), "utf-8", "replace").read().strip()
