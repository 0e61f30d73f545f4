"""featcodec encode: images to bitstreams."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import rich_click as click

from featcodec.cli.console import complain, print_json, progress, with_options
from featcodec.cli.edge_options import DEFAULT_QP, exported_option, load_exported, load_networks
from featcodec.cli.option_values import device_for, join_cluster, note_photographs
from featcodec.cli.options import (
    PathOrAddress,
    bits_option,
    cluster_option,
    edge_precision_option,
    encoder_params_option,
    hardware_option,
    ignore_exif_option,
    image_size_option,
    json_option,
    model_options,
    networks_option,
    overwrite_option,
    preset_option,
    profile_option,
    sources_argument,
    square_option,
    video_codec_option,
    workers_option,
)

if TYPE_CHECKING:
    from featcodec.codec import FeatureCodec
    from featcodec.pipeline.coding import BatchEdge, Encoded
    from featcodec.system.paths import Source


@click.command("encode")
@sources_argument
@click.option(
    "-o",
    "--output",
    type=PathOrAddress(),
    required=True,
    help="Folder for the bitstreams, or an address like s3://B/F.",
)
@click.option(
    "--qp",
    type=click.IntRange(0, 63),
    default=None,
    help="Quantization parameter: 0 is finest; 63, with --codec hevc 51, gives the smallest files. "
    f"[default: that of the exported model, or {DEFAULT_QP}]",
)
@exported_option
@model_options
@edge_precision_option
@video_codec_option
@hardware_option
@profile_option
@preset_option
@encoder_params_option
@click.option(
    "--clip",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Clip range in feature units, after the layout is applied. [default: the bottleneck's own, or -0.2786 3]",
)
@bits_option
@click.option(
    "--split",
    type=click.IntRange(0),
    default=None,
    help="Last detector layer that runs at the edge (see featcodec models NAME --splits). "
    "[default: the bottleneck's own, or 4]",
)
@image_size_option
@square_option
@ignore_exif_option
@click.option(
    "--batch",
    type=click.IntRange(1, 64),
    default=None,
    help="Most images per encoder process. [default: 8, or 32 on a cluster]",
)
@click.option(
    "--shards",
    type=click.IntRange(1, 1_000_000),
    default=None,
    metavar="N",
    help="Write N tar files (WebDataset) with an index beside each, instead of a file for each image.",
)
@workers_option
@cluster_option
@networks_option
@overwrite_option
@json_option
def command(
    sources: tuple[str, ...],
    output: Path,
    qp: int | None,
    exported: Path | None,
    detector: str,
    device: str,
    ignore_exif: bool,
    batch: int | None,
    shards: int | None,
    workers: int | None,
    cluster: str | None,
    networks: int | None,
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> int:
    """Code images as feature bitstreams.

    SRC are image files, folders (searched recursively), glob patterns or addresses (s3://BUCKET/FOLDER). Each image
    becomes one .266 file (HEVC: .265) in the output folder. Files that already exist with the same settings are
    skipped. After an interruption, run the command again.

    With --model, an exported model codes the images without PyTorch, and faster on CPUs.
    """
    from featcodec.bitstream import check_qp
    from featcodec.bitstream.rate import bits_per_pixel
    from featcodec.images.reading import IMAGE_SUFFIXES
    from featcodec.system.files import check_folder
    from featcodec.system.paths import expand_sources

    if exported is not None and cluster is not None:
        raise click.UsageError("--model and --cluster exclude each other; a cluster runs the networks of --detector")
    device = device_for(cluster, device, workers, networks)
    check_folder(output)
    images = expand_sources(sources, IMAGE_SUFFIXES, "images")
    join_cluster(cluster)
    edge, default_qp = _load_edge(exported, images, **choices, detector=detector, device=device)
    qp = default_qp if qp is None else qp
    check_qp(qp, most=edge.video_codec.standard.max_qp)
    _refuse_own_outputs(images, output, edge)
    files: list[dict[str, Any]] = []
    counts = {"encoded": 0, "skipped": 0, "failed": 0}
    total_bytes = total_pixels = 0
    started = time.perf_counter()
    coding: dict[str, Any] = {"overwrite": overwrite, "ignore_exif": ignore_exif}
    if batch is not None:
        coding["batch"] = batch
    places: dict[str, Any] = {"workers": workers, "cluster": cluster, "networks": networks}
    if shards is None:
        outcomes = _outcomes(edge, images, output, qp, **places, **coding)
    else:
        outcomes = _outcomes_in_shards(edge, images, output, qp, shards, places, coding)
    with contextlib.closing(outcomes):
        for outcome in progress(outcomes, len(images), "encode"):
            status = "failed" if outcome.error else "skipped" if outcome.skipped else "encoded"
            counts[status] += 1
            total_bytes += outcome.bytes
            total_pixels += outcome.pixels
            if outcome.error:
                complain(outcome.error)
            if as_json:
                entry = {"source": str(outcome.source.path), "output": str(outcome.output), "status": status}
                files.append({**entry, "bytes": outcome.bytes, "error": outcome.error and with_options(outcome.error)})
    seconds = time.perf_counter() - started
    bpp = bits_per_pixel([(total_bytes, total_pixels, 1)]) if total_pixels else None
    if as_json:
        files.sort(key=lambda entry: entry["source"])
        print_json({**counts, "bytes": total_bytes, "bpp": bpp, "qp": qp, "seconds": round(seconds, 3), "files": files})
    else:
        rate = "" if bpp is None else f", {total_bytes} bytes, {bpp:.4f} bpp"
        speed = f" ({counts['encoded'] / seconds:.1f} images/s)" if counts["encoded"] else ""
        click.echo(
            f"{counts['encoded']} encoded, {counts['skipped']} already there, {counts['failed']} failed{rate}, "
            f"{seconds:.1f} s{speed} -> {output}"
        )
    return 1 if counts["failed"] else 0


def _load_edge(exported: Path | None, images: Sequence[Source], **choices: Any) -> tuple[BatchEdge, int]:
    """What codes the images, and its QP if none is given."""
    from featcodec.pipeline.encode import network_threads

    paths = [image.path for image in images]
    if exported is not None:
        encoder = load_exported(exported, choices, network_threads(choices["video_codec"]))
        note_photographs(encoder.model.detector, paths)
        return encoder, encoder.default_qp
    note_photographs(choices["detector"], paths)
    return load_networks(choices), DEFAULT_QP


def _outcomes(
    codec: BatchEdge,
    images: Sequence[Source],
    output: Path | None,
    qp: int,
    *,
    workers: int | None,
    cluster: str | None,
    networks: int | None,
    **coding: Any,
) -> Generator[Encoded, None, None]:
    """The outcomes of encoding on this machine, or on a cluster."""
    if cluster is None:
        from featcodec.pipeline import encode_files

        return encode_files(codec, images, output, qp, workers=workers, **coding)
    from featcodec.cluster.encode import encode_on_cluster
    from featcodec.cluster.resources import Resources

    networks_of = cast("FeatureCodec", codec)  # an exported model has been refused
    return encode_on_cluster(networks_of, images, output, qp, resources=Resources.of_cluster(networks), **coding)


def _outcomes_in_shards(
    codec: BatchEdge,
    images: Sequence[Source],
    output: Path,
    qp: int,
    count: int,
    places: Mapping[str, Any],
    coding: Mapping[str, Any],
) -> Generator[Encoded, None, None]:
    from featcodec.pipeline.sharding import encode_into_shards, plan_shards

    def encode(some: Sequence[Source]) -> Generator[Encoded, None, None]:
        if some:  # no cluster starts for nothing
            yield from _outcomes(codec, some, None, qp, **places, **coding)

    settings = {name: coding[name] for name in ("overwrite", "ignore_exif")}
    yield from encode_into_shards(
        codec, plan_shards(images, output, count, codec.video_codec.standard), qp, encode, **settings
    )


def _refuse_own_outputs(images: Sequence[Source], folder: Path, codec: BatchEdge) -> None:
    """Refuse images that their own bitstreams would replace: those whose names end like a bitstream's."""
    from featcodec.pipeline.coding import output_path
    from featcodec.system.files import check_new

    for image in images:
        if image.path.suffix.lower() == codec.video_codec.standard.suffix:
            check_new(output_path(image, folder, codec.video_codec.standard), overwrite=True, inputs=[image.path])
