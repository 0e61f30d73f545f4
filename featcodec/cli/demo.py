"""featcodec demo: everything on drawn scenes, in a minute."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import rich_click as click

from featcodec.cli.console import print_json, print_table
from featcodec.cli.options import json_option, overwrite_option, workers_option


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("out-demo"),
    show_default=True,
    help="Folder for scenes, bitstreams, points and pictures.",
)
@click.option(
    "-n", "--count", type=click.IntRange(1, 10_000), default=24, show_default=True, help="Number of street scenes."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=2026,
    show_default=True,
    help="The same seed draws the same scenes.",
)
@click.option(
    "--qp",
    type=click.IntRange(0, 63),
    default=38,
    show_default=True,
    help="VVC quantization parameter for the bottleneck: 0 is finest, 63 is coarsest.",
)
@workers_option
@overwrite_option
@json_option
def command(output: Path, count: int, seed: int, qp: int, workers: int | None, overwrite: bool, as_json: bool) -> int:
    """Show all of featcodec on drawn street scenes: code, detect, attack, compare. Needs no internet connection.

    The detector `scenes` and its bottleneck come with featcodec. They know drawn scenes, not photographs.
    """
    from featcodec.cli.demonstration import remove_older, run_demo

    if overwrite:
        remove_older(output)
    started = time.perf_counter()
    demo = run_demo(output, count, seed, qp, workers=workers, say=lambda line: click.echo(line, err=True))
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**dataclasses.asdict(demo), "picture": str(demo.picture), "seconds": round(seconds, 3)})
        return 0
    print_table(
        f"{demo.images} scene{'' if demo.images == 1 else 's'}",
        ["what is sent", "bpp", "AP50", "attacker's PSNR, dB", "characters read on plates"],
        (
            [row.name, f"{row.bpp:.3f}", f"{row.ap50:.1f}", _text(row.psnr, ".2f"), _percent(row.plates)]
            for row in demo.rows
        ),
    )
    click.echo(
        "JPEG and latent: the measured point with the fewest bits that is as accurate as the bottleneck, or the most "
        f"accurate point if none is. Guessing reads {_percent(demo.guessing)} of the characters."
    )
    click.echo(f"{seconds:.1f} s -> {demo.picture}")
    return 0


def _text(value: float | None, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)


def _percent(share: float | None) -> str:
    return "" if share is None or math.isnan(share) else f"{100 * share:.0f} %"
