"""featcodec evaluate: one line with bpp, AP50 and AP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from featcodec.cli.console import complain, note_all, print_json
from featcodec.cli.options import PathOrAddress, json_option

if TYPE_CHECKING:
    from featcodec.images.annotations import Annotations
    from featcodec.system.paths import Source


@click.command("evaluate")
@click.argument("detections", type=PathOrAddress())
@click.option("--annotations", type=PathOrAddress(), required=True, help="COCO annotation file of the whole set.")
@click.option(
    "--streams",
    multiple=True,
    metavar="SRC",
    help="Bitstreams (files, shards, folders, patterns or addresses) to compute the bpp from. May be repeated.",
)
@json_option
def command(detections: Path, annotations: Path, streams: tuple[str, ...], as_json: bool) -> int:
    """Score detections (COCO results: .json, .jsonl or .parquet) against annotations with pycocotools.

    The bpp counts every byte of the bitstream files, per pixel of the original images. Images and categories are
    matched by name if the results have names (decode writes them), otherwise by id.
    """
    from featcodec.bitstream import STREAM_SUFFIXES
    from featcodec.evaluation.coco import score
    from featcodec.evaluation.rate import rate_of_streams
    from featcodec.images.annotations import read_annotations
    from featcodec.images.results import matched_ids, read_results, without_results
    from featcodec.images.sizes import beyond, coded_sizes, reaching_out
    from featcodec.system.paths import expand_sources

    truth = read_annotations(annotations, complain)
    results = read_results(detections)
    accuracy = score(truth, results)
    if accuracy.unmatched:
        names, boxes = truth.in_words(list(accuracy.unmatched)), sum(accuracy.unmatched.values())
        complain(f"note: {annotations} has no category {names}, so {boxes} boxes are left out")
    image_ids = matched_ids(truth, results)
    boxes_beyond = reaching_out(truth, image_ids, results), beyond(truth, coded_sizes(image_ids, results))
    note_all(filter(None, (without_results(truth, image_ids), *boxes_beyond)))
    rate = None
    if streams:
        files = expand_sources(streams, STREAM_SUFFIXES, "bitstreams", in_shards=True)
        rate = rate_of_streams([source.path for source in files], complain)
        _check_streams(truth, dict(zip(files, rate.sizes, strict=True)))
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


def _check_streams(annotations: Annotations, coded: Mapping[Source, tuple[int, int]]) -> None:
    """Refuse bitstreams of listed images if they were coded with another size (older results do not say their size).

    Say which bitstreams count in the bpp, although they are of no listed image, or of the same one as another.
    """
    from featcodec.errors import InputError
    from featcodec.images.sizes import difference

    sizes: dict[int | str, tuple[int, int]] = {}
    unlisted, repeated = [], []
    for stream, size in coded.items():
        try:
            image_id = annotations.image_id(stream.name)
        except InputError:
            unlisted.append(stream.path)
        else:
            if image_id in sizes:
                repeated.append(stream.path)
            sizes[image_id] = size
    if (differing := difference(annotations, sizes)) is not None:
        raise InputError(differing)
    for streams, what in (
        (unlisted, f"of no image that {annotations.path} lists"),
        (repeated, "of the same images as others"),
    ):
        if streams:
            complain(
                f"note: {len(streams)} of {len(coded)} bitstreams are {what} (the first is {streams[0]}), but count in "
                "the bpp"
            )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
