"""Options that several commands share, and the codec that they describe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

if TYPE_CHECKING:
    from featcodec.codec import FeatureCodec
    from featcodec.detections import BoxFilter

F = TypeVar("F", bound=Callable[..., Any])

sources_argument = click.argument("sources", metavar="SRC...", nargs=-1, required=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace output that exists.")
workers_option = click.option(
    "--workers", type=click.IntRange(1, 256), default=None, help="VVC processes or threads at a time. [default: cores]"
)

encoder_params_option = click.option(
    "--encoder-param",
    "encoder_params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Further VVenC option, by its vvencFFapp name; may be repeated.",
)
bits_option = click.option("--bits", type=click.IntRange(1, 8), default=8, show_default=True, help="Sample bit depth.")
image_size_option = click.option(
    "--image-size",
    type=int,
    default=512,
    show_default=True,
    help="Letterboxed longer side in pixels, a multiple of 32.",
)
square_option = click.option("--square", is_flag=True, help="Letterbox to a square instead of the minimum rectangle.")


def model_options(function: F) -> F:
    """Which networks: --detector, --bottleneck, --device, --half."""
    for option in reversed(
        (
            click.option(
                "--detector",
                default="yolov5n",
                show_default=True,
                help="Name (see `featcodec models`) or path of a YOLOv5 checkpoint (.pt).",
            ),
            click.option(
                "--bottleneck",
                default="auto",
                show_default=True,
                help="Checkpoint (.safetensors), name of a shipped bottleneck (see `featcodec models`), none (code the "
                "features directly), or auto: what the first bitstream was made with, else the detector's shipped one.",
            ),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
            click.option("--half/--no-half", default=None, help="Compute in float16. [default: on CUDA only]"),
        )
    ):
        function = option(function)
    return function


def box_options(function: F) -> F:
    """Which boxes count: --conf, --iou, --max-det."""
    for option in reversed(
        (
            click.option(
                "--conf", type=click.FloatRange(0, 1), default=0.001, show_default=True, help="Least score of a box."
            ),
            click.option(
                "--iou", type=click.FloatRange(0, 1), default=0.6, show_default=True, help="NMS IoU threshold."
            ),
            click.option(
                "--max-det", type=click.IntRange(1), default=300, show_default=True, help="Most boxes an image."
            ),
        )
    ):
        function = option(function)
    return function


def load_codec(detector: str, bottleneck: str, device: str, half: bool | None, **settings: Any) -> FeatureCodec:
    """The codec that the options describe."""
    from featcodec.codec import FeatureCodec

    return FeatureCodec.load(detector, bottleneck=bottleneck, device=device, half=half, **settings)


def first_fingerprint(streams: Iterable[Path]) -> bytes | None:
    """The fingerprint in the first intact bitstream; what is wrong with others shows when they are decoded."""
    from featcodec.bitstream import read_file, unpack
    from featcodec.errors import FeatcodecError

    for stream in streams:
        with contextlib.suppress(FeatcodecError):
            return unpack(read_file(stream))[0].fingerprint
    return None


def box_filter(conf: float, iou: float, max_det: int) -> BoxFilter:
    """The box filter that the options describe."""
    from featcodec.detections import BoxFilter

    return BoxFilter(conf, iou, max_det)
