"""featcodec benchmark: how fast encoding and decoding are on this machine, and what limits them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from featcodec.cli.console import print_json, print_table
from featcodec.cli.option_values import edge_precision, load_codec
from featcodec.cli.options import (
    encoder_params_option,
    hardware_option,
    image_size_option,
    json_option,
    model_options,
    precision_option,
    preset_option,
    profile_option,
    restoration_option,
    square_option,
    video_codec_option,
)

if TYPE_CHECKING:
    from featcodec.evaluation.speed import Speed
    from featcodec.system.paths import Source


@click.command("benchmark")
@click.argument("sources", metavar="[SRC...]", nargs=-1)
@click.option("--qp", type=click.IntRange(0, 63), default=38, show_default=True, help="Quantization parameter.")
@click.option("-n", "count", type=click.IntRange(1), default=64, show_default=True, help="Most images to take.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="How often each way runs.")
@model_options
@precision_option
@restoration_option
@video_codec_option
@hardware_option
@profile_option
@preset_option
@encoder_params_option
@image_size_option
@square_option
@json_option
def command(
    sources: tuple[str, ...],
    qp: int,
    count: int,
    rounds: int,
    detector: str,
    bottleneck: str,
    layout: str,
    device: str,
    half: bool | None,
    precision: str,
    restoration: str,
    video_codec: str,
    hardware: str | None,
    profile: str | None,
    preset: str | None,
    encoder_params: tuple[str, ...],
    image_size: int,
    square: bool,
    as_json: bool,
) -> int:
    """Measure the speed of encoding and decoding on this machine, and what limits it.

    SRC are images: files, folders or glob patterns. Without SRC, street scenes are drawn. The pipelines run in turns
    with the plain way, one image after the other, so that their ratio holds on a machine whose speed changes. Times of
    steps are milliseconds of one core per image. Files are only written into a temporary folder.
    """
    from featcodec.bitstream import check_qp
    from featcodec.evaluation.speed import measure_speed
    from featcodec.video.settings import parse_parameters

    # As `encode` and `decode` compute.
    edge, cloud = (
        load_codec(
            detector,
            bottleneck,
            layout,
            device,
            half,
            precision=each,
            restoration=restoration,
            video_codec=video_codec,
            hardware=hardware,
            profile=profile,
            preset=preset,
            encoder_parameters=parse_parameters(encoder_params),
            image_size=image_size,
            square=square,
        )
        for each in (edge_precision(precision), precision)
    )
    check_qp(qp, most=edge.video_codec.standard.max_qp)
    with _images(sources, count) as images:
        speed = measure_speed(edge, cloud, images[:count], qp, rounds=rounds)
    if as_json:
        computed = [codec.model.precision for codec in (edge, cloud)]
        print_json({"qp": qp, "video_codec": video_codec, "precision": computed, **asdict(speed)})
    else:
        _show(speed)
    return 0


@contextlib.contextmanager
def _images(sources: tuple[str, ...], count: int) -> Iterator[list[Source]]:
    """The images that were given, or scenes."""
    from featcodec.images.reading import IMAGE_SUFFIXES
    from featcodec.scenes.dataset import IMAGES, write_scenes
    from featcodec.system.paths import expand_sources

    with tempfile.TemporaryDirectory() as folder:
        if not sources:
            for _ in write_scenes(Path(folder), count):
                pass
            sources = (str(Path(folder) / IMAGES),)
        yield expand_sources(sources, IMAGE_SUFFIXES, "images")


def _show(speed: Speed) -> None:
    rates = [
        (
            rate.direction,
            f"{rate.images_per_second:.1f}",
            f"{rate.plain:.1f}",
            f"{rate.ratio:.2f}",
            f"{rate.core_milliseconds:.1f}",
        )
        for rate in speed.rates
    ]
    title = f"{speed.images} images, {speed.cores} cores"
    print_table(title, ("", "images/s", "plain images/s", "times plain", "core-ms per image"), rates)
    steps = [(stage.direction, stage.name, f"{stage.core_milliseconds:.2f}") for stage in speed.stages]
    print_table("steps, each alone", ("", "step", "core-ms per image"), steps)
    limits = [
        (limit.direction, limit.name, f"{limit.images_per_second:.1f}", f"{limit.share:.0%}", limit.detail)
        for limit in speed.limits
    ]
    print_table("limits", ("", "if this were all", "images/s", "reached", "how it was found"), limits)
    own, children = speed.peak_memory
    click.echo(f"peak memory: {own:.0f} MiB, and {children:.0f} MiB in the largest encoder process")
