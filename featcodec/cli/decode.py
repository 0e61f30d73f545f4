"""featcodec decode: bitstreams to detections."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import rich_click as click

from featcodec.cli.console import complain, note_classes, note_sizes, print_json, progress
from featcodec.cli.option_values import box_filter, device_for, join_cluster, load_codec_for, read_side_infos
from featcodec.cli.options import (
    LocalPath,
    PathOrAddress,
    box_options,
    cluster_option,
    ignore_exif_option,
    json_option,
    model_options,
    networks_option,
    overwrite_option,
    precision_option,
    restoration_option,
    sources_argument,
    workers_option,
)

if TYPE_CHECKING:
    from featcodec.codec import FeatureCodec
    from featcodec.detections import Detections
    from featcodec.detections.exports import Write
    from featcodec.images.annotations import Annotations
    from featcodec.pipeline.decode import Decoded
    from featcodec.system.paths import Source


@click.command("decode")
@sources_argument
@click.option(
    "-o",
    "--output",
    type=PathOrAddress(),
    required=True,
    help="Where to write the detections: COCO results (.json; .jsonl with one result per line; .parquet), a .csv file, "
    "or a folder (YOLO text). Masks need COCO results, keypoints COCO results or YOLO text.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["coco", "jsonl", "parquet", "csv", "yolo"]),
    default=None,
    help="Output format. [default: by the ending of -o]",
)
@click.option(
    "--annotations",
    type=PathOrAddress(),
    default=None,
    help="COCO annotation file. It gives the image id for a file name, and the category id for a class name. "
    "[default: the image id is the file name if it is a number, else the path; COCO's own ids or the class ids are "
    "the category ids]",
)
@model_options
@precision_option
@restoration_option
@click.option(
    "--video-codec",
    "--codec",
    "video_codec",
    type=click.Choice(["ffmpeg", "vvenc", "hevc"]),
    default="ffmpeg",
    show_default=True,
    help="VVC decoder. ffmpeg is embedded; vvenc uses the official decoder (vvdecapp). HEVC streams always go to the "
    "embedded decoder.",
)
@click.option(
    "--isolate",
    is_flag=True,
    help="Decode video in worker processes, for bitstreams from strangers: one that crashes the decoder, takes over "
    "120 s or takes over 6 GiB fails alone.",
)
@box_options
@click.option(
    "--nms/--no-nms",
    default=True,
    show_default=True,
    help="Choose boxes by non-maximum suppression. --no-nms takes the branch of YOLOv10 and YOLO26 that needs none.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Folder of the original images, for --draw.",
)
@click.option(
    "--draw",
    type=LocalPath(),
    default=None,
    help="Folder for images with boxes, and with masks or keypoints. Needs --images.",
)
@click.option(
    "--draw-conf", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="Lowest score of a drawn box."
)
@ignore_exif_option
@workers_option
@cluster_option
@networks_option
@overwrite_option
@json_option
def command(
    sources: tuple[str, ...],
    output: Path,
    file_format: str | None,
    annotations: Path | None,
    detector: str,
    bottleneck: str,
    layout: str,
    device: str,
    half: bool | None,
    precision: str,
    restoration: str,
    video_codec: str,
    isolate: bool,
    conf: float,
    iou: float,
    max_det: int,
    nms: bool,
    images: Path | None,
    draw: Path | None,
    draw_conf: float,
    ignore_exif: bool,
    workers: int | None,
    cluster: str | None,
    networks: int | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Decode feature bitstreams and finish the detection.

    SRC are .266 or .265 files, shards (.tar), folders (searched recursively), glob patterns or addresses (s3://BUCKET/FOLDER).
    Decoding needs only the bitstream and the weights that it was made with. Other weights are refused.
    """
    from featcodec.bitstream import STREAM_SUFFIXES
    from featcodec.detections.drawing import open_drawing
    from featcodec.detections.exports import COCO_FORMATS, check_output, format_of, image_ids_of, open_export
    from featcodec.errors import FeatcodecError
    from featcodec.images.annotations import read_annotations
    from featcodec.system.paths import expand_sources

    device = device_for(cluster, device, workers, networks)
    if (draw is None) != (images is None):
        raise click.UsageError("--draw and --images belong together: the folder to draw into, and the images")
    file_format = file_format or format_of(output)
    streams = expand_sources(sources, STREAM_SUFFIXES, "bitstreams", in_shards=True)
    read = (*(stream.path for stream in streams), *filter(None, [annotations]))
    check_output(output, file_format, overwrite=overwrite, inputs=read)
    truth = None if annotations is None else read_annotations(annotations, complain)
    if not (known := [stream for stream in streams if truth is None or _is_annotated(stream, truth)]):
        raise FeatcodecError(f"{annotations}: lists none of {len(streams)} bitstreams, so {output} is not written")
    image_ids = image_ids_of([stream.name for stream in known], truth)
    drawing = None
    if draw is not None and images is not None:
        drawing = open_drawing(images, draw, draw_conf, image_ids, overwrite=overwrite, ignore_exif=ignore_exif)
    counts = {"decoded": 0, "failed": len(streams) - len(known), "not_drawn": 0, "boxes": 0}
    side_infos = read_side_infos(stream.path for stream in known)
    join_cluster(cluster)
    feature_codec = load_codec_for(
        side_infos.values(),
        detector,
        bottleneck,
        layout,
        device,
        half,
        precision=precision,
        video_codec=video_codec,
        isolate=isolate,
        restoration=restoration,
        boxes=box_filter(conf, iou, max_det),
        nms=nms,
    )
    if truth is not None:
        coded = {image_ids[stream.name]: side_infos[stream.path] for stream in known if stream.path in side_infos}
        note_sizes(truth, coded)
        if file_format in COCO_FORMATS:
            note_classes(truth, feature_codec.model.detector.names)
    started = time.perf_counter()
    outcomes = _outcomes(feature_codec, known, workers, cluster, networks)
    export = open_export(output, file_format, truth, image_ids, overwrite=overwrite)
    with contextlib.closing(outcomes), export as write:
        for outcome in progress(outcomes, len(known), "decode"):
            if outcome.detections is None:
                complain(str(outcome.error))
                counts["failed"] += 1
                continue
            name = outcome.source.name
            write(name, outcome.detections)
            counts["decoded"] += 1
            counts["boxes"] += len(outcome.detections)
            counts["not_drawn"] += drawing is not None and not _drawn(drawing, name, outcome.detections)
        if not counts["decoded"]:
            raise FeatcodecError(f"none of {len(streams)} bitstreams could be decoded, so {output} is not written")
    _report(counts, time.perf_counter() - started, output, as_json=as_json)
    return 1 if counts["failed"] or counts["not_drawn"] else 0


def _outcomes(
    codec: FeatureCodec, streams: Sequence[Source], workers: int | None, cluster: str | None, networks: int | None
) -> Generator[Decoded, None, None]:
    """The outcomes of decoding on this machine, or on a cluster, in the order of the streams."""
    if cluster is None:
        from featcodec.pipeline import decode_files

        return decode_files(codec, streams, workers=workers)
    from featcodec.cluster.decode import decode_on_cluster
    from featcodec.cluster.resources import Resources

    return decode_on_cluster(codec, streams, resources=Resources.of_cluster(networks))


def _drawn(drawing: Write, name: PurePath, detections: Detections) -> bool:
    """Draw boxes. If that fails, say why."""
    from featcodec.errors import FeatcodecError

    try:
        drawing(name, detections)
    except (FeatcodecError, OSError) as error:  # for example a path that is too long
        complain(str(error))
        return False
    return True


def _is_annotated(stream: Source, annotations: Annotations) -> bool:
    """Whether the annotations list the image. If not, say so before any time is spent on the stream."""
    from featcodec.errors import InputError

    try:
        annotations.image_id(stream.name, stream.path)
    except InputError as error:
        complain(str(error))
        return False
    return True


def _report(counts: dict[str, int], seconds: float, output: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**counts, "seconds": round(seconds, 3), "output": str(output)})
        return
    not_drawn = f", {counts['not_drawn']} not drawn" if counts["not_drawn"] else ""
    click.echo(
        f"{counts['decoded']} decoded, {counts['failed']} failed{not_drawn}, {counts['boxes']} boxes, "
        f"{seconds:.1f} s ({counts['decoded'] / seconds:.1f} images/s) -> {output}"
    )
