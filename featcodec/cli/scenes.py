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
    help="Folder for images/, annotations.json (COCO) and private.json. With --drive: a video (.mp4), or a folder for "
    "JPEG files.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="Number of scenes or, with --drive, of pictures.",
)
@click.option(
    "--drive",
    "is_drive",
    is_flag=True,
    help="Draw a drive instead: consecutive pictures from a camera that moves along a street, among things that move.",
)
@click.option(
    "--fps",
    type=click.IntRange(1, 120),
    default=None,
    help="With --drive: pictures per second of the video. [default: 10]",
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
def command(
    output: Path,
    count: int,
    is_drive: bool,
    fps: int | None,
    seed: int,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Draw street scenes of 512x512 pixels, with boxes in COCO format.

    The classes are car, truck, bus, pedestrian, bicycle, traffic sign and traffic light. Number plates, faces and
    posters are listed in a separate file, private.json. Scene number i depends only on the seed and i. An interrupted
    run leaves no annotations.json; run the command again.

    A drive (--drive) has pictures of 640x384 pixels and no annotations. If it takes 20 seconds or more, its end fits
    its beginning, so it can be shown again and again.
    """
    if fps is not None and not is_drive:
        raise click.UsageError("--fps is for --drive; add --drive, or leave out --fps")
    if is_drive:
        return _draw_drive(output, count, fps or 10, seed, workers, overwrite, as_json)
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


def _draw_drive(
    output: Path, count: int, fps: int, seed: int, workers: int | None, overwrite: bool, as_json: bool
) -> int:
    from featcodec.scenes.video import write_drive

    started = time.perf_counter()
    drawn = write_drive(output, count, fps, seed, workers=workers, overwrite=overwrite)
    with contextlib.closing(drawn):
        for _ in progress(drawn, count, "pictures"):
            pass
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"pictures": count, "fps": fps, "seed": seed, "seconds": round(seconds, 3), "output": str(output)})
    else:
        click.echo(
            f"{count:,} pictures, {count / fps:.1f} s of video, {seconds:.1f} s ({count / seconds:.1f} images/s) "
            f"-> {output}"
        )
    return 0
