"""featcodec evaluate: one line with bpp, AP50 and AP."""

from __future__ import annotations

import math
from pathlib import Path

import rich_click as click

from featcodec.cli.console import complain, print_json
from featcodec.cli.options import json_option


@click.command("evaluate")
@click.argument("detections", type=click.Path(path_type=Path))
@click.option(
    "--annotations", type=click.Path(path_type=Path), required=True, help="COCO annotation file of the whole set."
)
@click.option(
    "--streams",
    multiple=True,
    metavar="SRC",
    help="Bitstreams (files, folders or patterns) to compute the bpp from. May be repeated.",
)
@json_option
def command(detections: Path, annotations: Path, streams: tuple[str, ...], as_json: bool) -> int:
    """Score detections (a COCO results file) against annotations with pycocotools.

    The bpp counts every byte of the bitstream files, per pixel of the original images. Categories are matched by name
    if the results have names (decode writes them), otherwise by id.
    """
    from featcodec.bitstream import STREAM_SUFFIX
    from featcodec.evaluation.coco import score
    from featcodec.evaluation.rate import rate_of_streams
    from featcodec.images.annotations import read_annotations, read_results
    from featcodec.system.paths import expand_sources

    truth = read_annotations(annotations, complain)
    accuracy = score(truth, read_results(detections))
    if accuracy.unmatched:
        names, boxes = truth.in_words(list(accuracy.unmatched)), sum(accuracy.unmatched.values())
        complain(f"note: {annotations} has no category {names}, so {boxes} boxes are left out")
    rate = None
    if streams:
        files = expand_sources(streams, frozenset({STREAM_SUFFIX}), "bitstreams")
        rate = rate_of_streams([source.path for source in files])
        if rate.streams != accuracy.images:
            complain(f"note: bpp is over {rate.streams} bitstreams, but AP over the {accuracy.images} annotated images")
    if as_json:
        print_json(
            {
                "images": accuracy.images,
                "bpp": None if rate is None else rate.bpp,
                "bytes": None if rate is None else rate.bytes,
                **{key: _finite(getattr(accuracy, key)) for key in ("ap50", "ap", "ap75")},
                "unmatched": accuracy.unmatched,
            }
        )
        return 0
    bpp = "" if rate is None else f"  {rate.bpp:.4f} bpp"
    click.echo(f"{accuracy.images} images{bpp}  AP50 {accuracy.ap50:.2f}  AP {accuracy.ap:.2f}")
    return 0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
