"""Options that several commands share, and the types of their values; `option_values` says what these mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from featcodec.video.profiles import DEFAULT_PROFILE, HEVC_PROFILES, PROFILES, summaries
from featcodec.video.settings import PRESETS, X265

F = TypeVar("F", bound=Callable[..., Any])


class PathOrAddress(click.Path):
    """A path, or the address of an object, as `addresses.path_of` reads it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from featcodec.system.addresses import is_address, path_of

        if isinstance(value, str) and is_address(value):
            return path_of(value)
        return Path(str(super().convert(value, param, ctx)))


class LocalPath(PathOrAddress):
    """A path on this machine, also as file:///FOLDER/FILE. Other addresses are refused: they would become folders."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from featcodec.system.elsewhere import Elsewhere

        path = super().convert(value, param, ctx)
        if isinstance(path, Elsewhere):
            raise click.BadParameter(f"{path} is not on this machine; give a path", ctx, param)
        return path


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Options as one decorator. --help lists them in this order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


sources_argument = click.argument("sources", metavar="SRC...", nargs=-1, required=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace output that already exists.")
detector_option = click.option(
    "--detector",
    default="yolov5n",
    show_default=True,
    help="Name (see `featcodec models`), or path of a YOLO checkpoint (.pt, or .safetensors from `train detector`).",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=None,
    help="Encoder processes or threads at a time. [default: one per core]",
)

ignore_exif_option = click.option(
    "--ignore-exif",
    is_flag=True,
    help="Take the pixels of images as they are stored, without the rotation in EXIF data: for annotations that were "
    "drawn on the stored pixels.",
)

ALL_PRESETS = tuple(dict.fromkeys((*X265.presets, *PRESETS)))
"""The presets of both encoders; which encoder has which, the library says."""


def encoder_option(default: str) -> Callable[[F], F]:
    """--codec with a default."""
    return click.option(
        "--codec",
        "--video-codec",
        "video_codec",
        type=click.Choice(["ffmpeg", "vvenc", "hevc", "none"]),
        default=default,
        show_default=True,
        help="Video codec. ffmpeg is embedded VVC; vvenc uses the official VVC encoder (vvencapp); hevc is embedded "
        "HEVC (x265), several times as fast: the same QP gives about the same accuracy, for more bits; none stores raw "
        "8-bit samples.",
    )


video_codec_option = encoder_option("ffmpeg")
hardware_option = click.option(
    "--hardware",
    type=click.Choice(["nvenc", "v4l2m2m", "qsv"]),
    default=None,
    help="With --codec hevc: the hardware encoder of that name, if this machine has it (see `featcodec doctor`).",
)
profile_option = click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default=None,
    help=f"Set of encoder options: {summaries()}. With --codec hevc: {', '.join(HEVC_PROFILES)}. "
    f"[default: {DEFAULT_PROFILE}]",
)
preset_option = click.option(
    "--preset",
    type=click.Choice(ALL_PRESETS),
    default=None,
    help=f"The encoder's own speed preset, instead of a profile. VVC: {PRESETS[0]} to {PRESETS[-1]}; HEVC: "
    f"{X265.presets[0]} to {X265.presets[-1]}.",
)
encoder_params_option = click.option(
    "--encoder-param",
    "encoder_params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another option of VVenC or x265 that shapes the picture, by its vvencFFapp or x265 name, like ISP=1 or "
    "rdoq-level=2. May be repeated. "
    "The message about a wrong name lists all names.",
)
metric_option = click.option(
    "--metric", type=click.Choice(["ap50", "ap"]), default="ap50", show_default=True, help="Which accuracy to use."
)
bits_option = click.option("--bits", type=click.IntRange(1, 8), default=8, show_default=True, help="Bits per sample.")
image_size_option = click.option(
    "--image-size",
    type=int,
    default=512,
    show_default=True,
    help="Longer side of the letterboxed image in pixels, a multiple of 32.",
)
square_option = click.option("--square", is_flag=True, help="Letterbox to a square instead of the minimum rectangle.")
layout_option = click.option(
    "--layout",
    default="auto",
    show_default=True,
    help="Order and scale of the channels in the frame: a checkpoint (.safetensors) from `train layout`, none, or "
    "auto: the layout of most bitstreams; without bitstreams, the layout that ships for these networks, if any.",
)
restoration_option = click.option(
    "--restoration",
    default="auto",
    show_default=True,
    help="Network that undoes coding noise in the decoder: a checkpoint (.safetensors) from `train restoration`, none, "
    "or auto: the restoration that ships for these bitstreams, if any.",
)


_PRECISIONS = ["auto", "float32", "bfloat16", "float16"]
edge_precision_option = click.option(
    "--precision",
    type=click.Choice(_PRECISIONS),
    default="auto",
    show_default=True,
    help="In what the networks compute. auto: float16 on CUDA, else float32, so that streams do not depend on the CPU. "
    "bfloat16 is faster on CPUs with AVX512-BF16.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice([*_PRECISIONS, "int8"]),
    default="auto",
    show_default=True,
    help="In what the networks compute. auto: float16 on CUDA, bfloat16 on CPUs that compute it fast (AVX512-BF16), "
    "else float32. int8: as auto on a CPU, but AD in int8 (AVX512-VNNI); auto takes it beside bfloat16.",
)


model_options = together(
    detector_option,
    click.option(
        "--bottleneck",
        default="auto",
        show_default=True,
        help="Checkpoint (.safetensors), name of a shipped bottleneck (see `featcodec models`), none (code the "
        "features directly), or auto: the bottleneck of most bitstreams; without bitstreams, the "
        "bottleneck that ships for the detector.",
    ),
    layout_option,
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option("--half/--no-half", default=None, help="Compute in float16, or not. [default: on CUDA only]"),
)
"""The options that choose the networks: --detector, --bottleneck, --layout, --device, --half."""


box_options = together(
    click.option(
        "--conf", type=click.FloatRange(0, 1), default=0.001, show_default=True, help="Lowest score of a box."
    ),
    click.option(
        "--iou",
        type=click.FloatRange(0, 1),
        default=0.6,
        show_default=True,
        help="IoU threshold of NMS: boxes of a class that overlap more than this are one.",
    ),
    click.option("--max-det", type=click.IntRange(1), default=300, show_default=True, help="Most boxes per image."),
)
"""The options that choose which boxes count: --conf, --iou, --max-det."""


cluster_option = click.option(
    "--cluster",
    metavar="ADDRESS",
    default=None,
    help="Run on a Ray cluster: auto, local or ray://HOST:10001. [default: this machine alone]",
)
networks_option = click.option(
    "--networks",
    type=click.IntRange(1, 65536),
    default=None,
    help="With --cluster: processes that hold the networks. [default: encode: one for four cores, at least one per "
    "node; others: one per core]",
)
