"""featcodec decode: bitstreams to detections."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import rich_click as click

from featcodec.cli.console import complain, print_json, progress
from featcodec.cli.options import (
    box_filter,
    box_options,
    json_option,
    load_codec,
    model_options,
    overwrite_option,
    sources_argument,
    workers_option,
)


@click.command("decode")
@sources_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Detections: a .json file (COCO results), a .csv file, or a folder (YOLO text).",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["coco", "csv", "yolo"]),
    default=None,
    help="Output format. [default: by the ending of -o]",
)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    default=None,
    help="COCO annotation file: image ids by file name, category ids by class name. "
    "[default: numeric file names, COCO's own ids]",
)
@model_options
@click.option(
    "--codec",
    type=click.Choice(["ffmpeg", "vvenc"]),
    default="ffmpeg",
    show_default=True,
    help="VVC decoder: embedded, or official (vvdecapp).",
)
@box_options
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Folder of the original pictures, for --draw.",
)
@click.option(
    "--draw", type=click.Path(path_type=Path), default=None, help="Folder for pictures with boxes; needs --images."
)
@click.option(
    "--draw-conf", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="Least score of a drawn box."
)
@workers_option
@overwrite_option
@json_option
def command(
    sources: tuple[str, ...],
    output: Path,
    file_format: str | None,
    annotations: Path | None,
    detector: str,
    bottleneck: Path | None,
    device: str,
    half: bool | None,
    codec: str,
    conf: float,
    iou: float,
    max_boxes: int,
    images: Path | None,
    draw: Path | None,
    draw_conf: float,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Finish the detection from feature bitstreams.

    SRC are .266 files, folders (searched recursively) or glob patterns. A stream decodes from itself and the weights
    that it was made with; other weights are refused.
    """
    from featcodec.data.annotations import read_annotations
    from featcodec.data.exports import format_of, open_export
    from featcodec.errors import FeatcodecError, OutputError
    from featcodec.paths import expand_sources
    from featcodec.pipeline import STREAM_SUFFIX, decode_files

    if draw is not None and images is None:
        raise click.UsageError("--draw needs --images, the folder of the original pictures")
    file_format = file_format or format_of(output)
    if output.exists() and not overwrite and not (output.is_dir() and not any(output.iterdir())):
        raise OutputError(f"{output}: exists; use --overwrite or another -o")
    streams = expand_sources(sources, frozenset({STREAM_SUFFIX}), "bitstreams")
    truth = None if annotations is None else read_annotations(annotations)
    feature_codec = load_codec(detector, bottleneck, device, half, codec=codec, boxes=box_filter(conf, iou, max_boxes))
    decoded = failed = boxes = 0
    started = time.perf_counter()
    outcomes = decode_files(feature_codec, streams, workers=workers)
    with contextlib.closing(outcomes), open_export(output, file_format, truth) as write:
        for outcome in progress(outcomes, len(streams), "decode"):
            try:
                if outcome.detections is None:
                    raise FeatcodecError(outcome.error)
                name = outcome.source.relative.with_suffix("")
                write(name, outcome.detections)
                decoded += 1
                boxes += len(outcome.detections)
                if draw is not None and images is not None:
                    _draw(draw, images, name, outcome.detections, draw_conf)
            except OutputError:
                raise
            except FeatcodecError as error:
                complain(" ".join(str(error).split()))
                failed += 1
        if not decoded:
            raise FeatcodecError(f"none of {len(streams)} bitstreams could be decoded, so {output} is not written")
    seconds = time.perf_counter() - started
    summary = {"decoded": decoded, "failed": failed, "boxes": boxes, "seconds": round(seconds, 3)}
    if as_json:
        print_json({**summary, "output": str(output)})
    else:
        click.echo(
            f"{decoded} decoded, {failed} failed, {boxes} boxes, "
            f"{seconds:.1f} s ({decoded / seconds:.1f} pictures/s) -> {output}"
        )
    return 1 if failed else 0


def _draw(folder: Path, images: Path, name, detections, least_score: float) -> None:  # type: ignore[no-untyped-def]
    from featcodec.data.drawing import draw_boxes, find_picture, save_jpeg
    from featcodec.data.images import read_image
    from featcodec.errors import InputError

    picture = find_picture(images, name)
    if picture is None:
        raise InputError(f"{name}: no picture of that name in {images}; it is decoded but not drawn")
    save_jpeg(folder / f"{name.as_posix()}.jpg", draw_boxes(read_image(picture), detections, least_score=least_score))
