"""featcodec sweep: measure rate-accuracy points and write them to a CSV file."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.console import complain, note_all, note_classes, print_json, progress
from featcodec.cli.option_values import device_for, join_cluster, note_photographs
from featcodec.cli.options import (
    ALL_PRESETS,
    LocalPath,
    PathOrAddress,
    bits_option,
    box_options,
    cluster_option,
    detector_option,
    encoder_params_option,
    ignore_exif_option,
    image_size_option,
    json_option,
    layout_option,
    restoration_option,
    sources_argument,
    square_option,
    video_codec_option,
    workers_option,
)
from featcodec.cli.sweep_plans import plans_of
from featcodec.video.profiles import DEFAULT_PROFILE, PROFILES, describe

if TYPE_CHECKING:
    from featcodec.evaluation.bench import Bench
    from featcodec.evaluation.points import Row
    from featcodec.evaluation.sweep import Outcome

_METHODS = ("bottleneck", "latent", "input-vvc", "input-jpeg", "uncoded")
_USUAL_SPLIT = "4"
_RANGE = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")


def _numbers(least: int, most: int) -> Callable[[click.Context, click.Parameter, str], list[int]]:
    """A reader of whole numbers and ranges, separated by commas (34,36,38-42). It keeps each number once, in order."""

    def read(ctx: click.Context, param: click.Parameter, text: str) -> list[int]:
        numbers: list[int] = []
        for part in text.replace(" ", ",").strip(",").split(","):
            match = _RANGE.fullmatch(part)
            if not match:
                raise click.BadParameter(f"{part!r} is neither a whole number nor a range like 38-42", ctx, param)
            first, last = int(match[1]), int(match[2] or match[1])
            if not least <= first <= last <= most:
                raise click.BadParameter(f"{part!r} is not within {least} to {most}", ctx, param)
            numbers += range(first, last + 1)
        return list(dict.fromkeys(numbers))

    return read


@click.command("sweep")
@sources_argument
@click.option("--annotations", type=PathOrAddress(), required=True, help="COCO annotation file of these images.")
@click.option(
    "-o",
    "--output",
    type=LocalPath(),
    required=True,
    help="CSV file. The sweep appends one row per point that is not in the file yet.",
)
@click.option(
    "--method",
    "methods",
    type=click.Choice(_METHODS),
    multiple=True,
    help="What is coded. bottleneck: the bottleneck's tensor. latent: the features directly. input-vvc, input-jpeg: "
    "the letterboxed picture, which the whole detector then sees. uncoded: no compression; the detector alone, and "
    "with each bottleneck. May be repeated. [default: bottleneck if there is one, else latent]",
)
@click.option(
    "--qp",
    "qps",
    callback=_numbers(0, 63),
    default="34,36,38,40,41,42",
    show_default=True,
    metavar="LIST",
    help="Quantization parameters of VVC or HEVC (which ends at 51), e.g. 34,36,38-42.",
)
@click.option(
    "--quality",
    "qualities",
    callback=_numbers(1, 100),
    default="10,20,30,40,50,60,70,80,90",
    show_default=True,
    metavar="LIST",
    help="JPEG qualities for input-jpeg.",
)
@click.option(
    "--subsampling",
    type=click.Choice(["4:4:4", "4:2:2", "4:2:0"]),
    default="4:2:0",
    show_default=True,
    help="Chroma subsampling for input-jpeg.",
)
@detector_option
@click.option(
    "--bottleneck",
    "bottlenecks",
    multiple=True,
    help="Checkpoint (.safetensors), or name of a shipped bottleneck. May be repeated. [default: the bottleneck that "
    "ships for the detector]",
)
@layout_option
@click.option(
    "--split",
    "splits",
    type=click.IntRange(0),
    multiple=True,
    help="Last detector layer at the edge, for methods latent and uncoded, or without --method (see featcodec models "
    "NAME --splits). May be repeated. [default: the bottleneck's own, or 4]",
)
@click.option(
    "--clip",
    "clips",
    type=(float, float),
    multiple=True,
    metavar="LOW HIGH",
    help="Clip range in feature units. May be repeated. [default: the bottleneck's own, or -0.2786 3]",
)
@bits_option
@video_codec_option
@click.option(
    "--profile",
    "profiles",
    type=click.Choice(list(PROFILES)),
    multiple=True,
    help="Set of encoder options, see `featcodec encode --help`. May be repeated. "
    f"[default: {DEFAULT_PROFILE}, unless there is a --preset]",
)
@click.option(
    "--preset",
    "presets",
    type=click.Choice(ALL_PRESETS),
    multiple=True,
    help="The encoder's own speed preset, without the tools of a profile. May be repeated.",
)
@encoder_params_option
@image_size_option
@square_option
@ignore_exif_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--half/--no-half", default=None, help="Compute in float16. [default: on CUDA only]")
@box_options
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 100_000),
    default=0,
    show_default=True,
    help="Number of resamples of the images for a 95 % interval of AP50. 0 means no interval, 1000 is usual.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the resampling.")
@click.option(
    "--recnet",
    "recnets",
    type=click.Path(path_type=Path),
    multiple=True,
    help="RecNet checkpoint. The sweep measures its PSNR and edge-PSNR on the decoded tensors, for the bottleneck (or "
    "latent features) that it was trained on. May be repeated. auto: the RecNets that ship.",
)
@restoration_option
@workers_option
@cluster_option
@json_option
def command(
    sources: tuple[str, ...],
    annotations: Path,
    output: Path,
    bootstrap: int,
    seed: int,
    ignore_exif: bool,
    workers: int | None,
    cluster: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Code, decode and score a set of images at many points, and append one row per point to a CSV file.

    SRC are image files, folders (searched recursively), glob patterns or addresses (s3://BUCKET/FOLDER). Only these
    images count for rate and accuracy. Points that are already in the file are skipped. After an interruption, run the
    command again. Several sweeps may share one file.
    """
    from featcodec.evaluation.dataset import open_dataset
    from featcodec.evaluation.points import PointFile
    from featcodec.evaluation.sweep import sweep
    from featcodec.images.annotations import read_annotations
    from featcodec.images.reading import IMAGE_SUFFIXES
    from featcodec.system.paths import expand_sources

    options["device"] = device_for(cluster, options["device"], workers)
    file = PointFile(output)
    truth = read_annotations(annotations, complain)
    images = expand_sources(sources, IMAGE_SUFFIXES, "images")
    dataset = open_dataset(images, truth, ignore_exif=ignore_exif, note=complain)
    if len(dataset.sources) < len(truth.image_ids):
        complain(
            f"note: {len(dataset.sources)} of the {len(truth.image_ids)} annotated images are given; only they count"
        )
    note_photographs(options["detector"], (source.path for source in dataset.sources))
    join_cluster(cluster)
    plans = plans_of(options)
    note_classes(dataset.annotations, plans[0].method.codec.model.detector.names)  # all plans have one detector
    done: list[Outcome] = []
    # While it shows its bar, rich sends printed text to stderr: right on a terminal, wrong if stdout goes into a file.
    stdout = None if sys.stdout.isatty() else sys.stdout
    outcomes = sweep(plans, dataset, file, bootstrap=bootstrap, seed=seed, workers=workers, bench=_bench(cluster))
    with contextlib.closing(outcomes):
        for outcome in progress(outcomes, sum(len(plan.values) for plan in plans), "sweep"):
            done.append(outcome)
            note_all(file.take_notes())
            if outcome.error is not None:
                complain(outcome.error)
            elif not as_json:
                click.echo(_in_words(outcome), file=stdout)
    failed = sum(outcome.error is not None for outcome in done)
    skipped = sum(outcome.skipped for outcome in done)
    measured = len(done) - failed - skipped
    if as_json:
        rows = [outcome.row for outcome in done if outcome.row is not None]
        print_json({"measured": measured, "skipped": skipped, "failed": failed, "output": str(output), "points": rows})
    else:
        click.echo(f"{measured} measured, {skipped} already there, {failed} failed -> {output}")
    return 1 if failed else 0


def _bench(cluster: str | None) -> Bench | None:
    """The cluster, if one is asked for."""
    if cluster is None:
        return None
    from featcodec.cluster.sweep import ClusterBench

    return ClusterBench()


def _in_words(outcome: Outcome) -> str:
    row = outcome.row or {}
    value = _value(row)
    settings = describe(
        row["preset"],
        row["encoder_params"],
        bottleneck=row["method"] == "bottleneck",
        video_codec=row["codec"],
    )
    restored = "restored" if row["restoration"] else ""
    is_direct = row["method"] in ("latent", "uncoded") and not row["bottleneck"]
    split = f"split {row['split']}" if is_direct and row["split"] not in ("", _USUAL_SPLIT) else ""
    what = "  ".join(filter(None, [row["method"], row["bottleneck"], split, settings, restored, value]))
    psnr = f"  PSNR {float(row['psnr']):.2f}  edge-PSNR {float(row['edge_psnr'] or 'nan'):.2f}" if row["psnr"] else ""
    interval = f" [{float(row['ap50_low']):.2f}, {float(row['ap50_high']):.2f}]" if row["ap50_low"] else ""
    measured = f"{float(row['bpp']):.4f} bpp  AP50 {float(row['ap50']):.2f}{interval}  AP {float(row['ap']):.2f}{psnr}"
    return f"{what}  {measured}{'  (already there)' if outcome.skipped else ''}"


def _value(row: Row) -> str:
    if row["qp"] or row["quality"]:
        return f"QP {row['qp']}" if row["qp"] else f"quality {row['quality']}"
    return "float32" if row["method"] == "uncoded" else "no VVC"
