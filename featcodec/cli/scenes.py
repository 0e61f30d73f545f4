"""featcodec scenes: draw street scenes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from pathlib import Path

import rich_click as click

from featcodec.cli.console import print_json, progress
from featcodec.cli.options import json_option, overwrite_option


@click.command("scenes")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for images/, annotations.json (COCO) and private.json.",
)
@click.option(
    "-n", "--count", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Number of scenes."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="The same seed draws the same pixels. Use different seeds for training and validation.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), default=None, help="Drawing processes at a time. [default: one per core]"
)
@overwrite_option
@json_option
def command(output: Path, count: int, seed: int, workers: int | None, overwrite: bool, as_json: bool) -> int:
    """Draw street scenes of 512x512 pixels, with boxes in COCO format.

    The classes are car, truck, bus, pedestrian, bicycle, traffic sign and traffic light. Number plates, faces and
    posters are listed in a separate file, private.json. Scene number i depends only on the seed and i. An interrupted
    run leaves no annotations.json; run the command again.
    """
    from featcodec.scenes.dataset import write_scenes

    classes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    readable: Counter[str] = Counter()
    started = time.perf_counter()
    truths = write_scenes(output, count, seed, workers=workers, overwrite=overwrite)
    with contextlib.closing(truths):
        for truth in progress(truths, count, "scenes"):
            classes.update(found.class_name for found in truth.objects)
            kinds.update(detail.kind for detail in truth.details)
            readable.update(detail.kind for detail in truth.details if detail.readable)
    seconds = time.perf_counter() - started
    if as_json:
        summary = {"scenes": count, "objects": classes.total(), "private": kinds.total(), "seed": seed}
        parts = {"classes": classes, "kinds": kinds, "readable": readable}
        print_json({**summary, **parts, "seconds": round(seconds, 3), "output": str(output)})
    else:
        click.echo(
            f"{count:,} scenes, {classes.total():,} objects, {kinds.total():,} private details, "
            f"{seconds:.1f} s ({count / seconds:.1f} images/s) -> {output}"
        )
    return 0
