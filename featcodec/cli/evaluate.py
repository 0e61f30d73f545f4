"""featcodec evaluate: one line with bpp, AP50 and AP, of boxes and of what else there is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from featcodec.cli.console import complain, note_all, print_json
from featcodec.cli.options import PathOrAddress, json_option

if TYPE_CHECKING:
    from featcodec.evaluation.coco import Accuracy, Kind
    from featcodec.images.annotations import Annotations
    from featcodec.system.paths import Source

_IN_WORDS: Mapping[Kind, str] = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
_JSON_PREFIX: Mapping[Kind, str] = {"bbox": "", "segm": "mask_", "keypoints": "keypoints_"}


@click.command("evaluate")
@click.argument("detections", type=PathOrAddress())
@click.option("--annotations", type=PathOrAddress(), required=True, help="COCO annotation file of the whole set.")
@click.option(
    "--streams",
    multiple=True,
    metavar="SRC",
    help="Bitstreams (files, shards, folders, patterns or addresses) to compute the bpp from. May be repeated.",
)
@click.option(
    "--task",
    type=click.Choice(["auto", "bbox", "segm", "keypoints"]),
    default="auto",
    show_default=True,
    help="What is compared: boxes, masks or keypoints. auto compares boxes, and what the detections have besides.",
)
@json_option
def command(detections: Path, annotations: Path, streams: tuple[str, ...], task: str, as_json: bool) -> int:
    """Score detections (COCO results: .json, .jsonl or .parquet) against annotations with pycocotools.

    The bpp counts every byte of the bitstream files, per pixel of the original images. Images and categories are
    matched by name if the results have names (decode writes them), otherwise by id.
    """
    from featcodec.bitstream import STREAM_SUFFIXES
    from featcodec.evaluation.coco import kinds_of, score
    from featcodec.evaluation.rate import rate_of_streams
    from featcodec.images.annotations import read_annotations
    from featcodec.images.results import matched_ids, read_results, without_results
    from featcodec.images.sizes import beyond, coded_sizes, reaching_out
    from featcodec.system.paths import expand_sources

    truth = read_annotations(annotations, complain)
    results = read_results(detections)
    wanted = kinds_of(results) if task == "auto" else (task,)
    accuracies = {kind: score(truth, results, kind) for kind in _IN_WORDS if kind in wanted}
    accuracy = next(iter(accuracies.values()))
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
                **dict.fromkeys(("ap50", "ap", "ap75")),  # of boxes; null if they are not compared
                **{key: value for kind, each in accuracies.items() for key, value in _figures(kind, each).items()},
                "unmatched": accuracy.unmatched,
            }
        )
        return 0
    bpp = "" if rate is None else f"  {rate.bpp:.4f} bpp"
    shown = ""
    for kind, each in accuracies.items():
        label = "" if wanted == ("bbox",) else f"{_IN_WORDS[kind]}: "
        shown += f"  {label}AP50 {each.ap50:.2f}  AP {each.ap:.2f}"
    click.echo(f"{accuracy.images} images{bpp}{shown}")
    return 0


def _figures(kind: Kind, accuracy: Accuracy) -> dict[str, float | None]:
    return {_JSON_PREFIX[kind] + key: _finite(getattr(accuracy, key)) for key in ("ap50", "ap", "ap75")}


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
