"""featcodec bd: BD-rate, BD-accuracy and BD-PSNR of two curves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import rich_click as click

from featcodec.cli.console import note_all, print_json
from featcodec.cli.option_values import conditions_of
from featcodec.cli.options import json_option, metric_option, overwrite_option

_CONDITION_HELP = "Which curve of {} to use if it has several, e.g. method=latent or fingerprint=1a2b. May be repeated."


@click.command("bd")
@click.argument("anchor", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@metric_option
@click.option(
    "--interpolation",
    type=click.Choice(["pchip", "cubic", "akima"]),
    default="pchip",
    show_default=True,
    help="How curves are interpolated. The common test conditions use pchip.",
)
@click.option("--anchor", "of_anchor", multiple=True, metavar="COLUMN=VALUE", help=_CONDITION_HELP.format("ANCHOR"))
@click.option("--test", "of_test", multiple=True, metavar="COLUMN=VALUE", help=_CONDITION_HELP.format("TEST"))
@click.option(
    "--mpeg-vcm", type=click.Path(path_type=Path), help="CSV file to write, with the table of MPEG VCM's template."
)
@overwrite_option
@json_option
def command(
    anchor: Path,
    test: Path,
    metric: str,
    interpolation: str,
    of_anchor: tuple[str, ...],
    of_test: tuple[str, ...],
    mpeg_vcm: Path | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Compare two rate-accuracy curves by Bjontegaard deltas.

    ANCHOR and TEST are CSV files from `featcodec sweep`, or other CSV files with the columns bpp and ap50 (or ap). Both
    may be the same file. If BD-rate is negative, TEST needs less rate for the same accuracy. If BD-PSNR is negative, an
    attacker sees less at the same accuracy.
    """
    from featcodec.evaluation.bd import compare
    from featcodec.evaluation.curves import read_curve
    from featcodec.system.files import check_new

    if mpeg_vcm is not None:
        check_new(mpeg_vcm, "mpeg_vcm", overwrite=overwrite, inputs=[anchor, test])
    first = read_curve(anchor, metric, conditions_of(of_anchor))
    second = read_curve(test, metric, conditions_of(of_test))
    comparison = compare(first, second, interpolation)
    note_all(comparison.warnings)
    if mpeg_vcm is not None:
        from featcodec.evaluation.mpeg_vcm import write_table

        write_table(mpeg_vcm, first, second, comparison, overwrite=overwrite)
    if as_json:
        print_json({"metric": metric, "interpolation": interpolation, **dataclasses.asdict(comparison)})
        return 0
    name = metric.upper()
    parts = [f"BD-rate {comparison.bd_rate:+.2f} %"]
    parts.append(f"BD-{name} " + ("-" if comparison.bd_accuracy is None else f"{comparison.bd_accuracy:+.2f}"))
    if comparison.bd_psnr is not None:
        parts.append(f"BD-PSNR {comparison.bd_psnr:+.2f} dB")
    over = comparison.accuracy
    click.echo(f"{'  '.join(parts)}  ({name} {over.low:.2f} to {over.high:.2f}, {100 * over.fraction:.0f} % overlap)")
    return 0
