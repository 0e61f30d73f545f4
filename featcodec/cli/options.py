"""Options that several commands share, and the codec that they describe."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from featcodec.cli.console import complain
from featcodec.video.profiles import DEFAULT_PROFILE, HEVC_PROFILES, PROFILES, profiles_for, summaries
from featcodec.video.settings import PRESETS, X265

if TYPE_CHECKING:
    from featcodec.bitstream import SideInfo
    from featcodec.codec import FeatureCodec
    from featcodec.detections import BoxFilter

_MOST_TRIES = 16
"""Bitstreams of different networks after which the search for networks that can be loaded ends."""


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


F = TypeVar("F", bound=Callable[..., Any])

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


def edge_precision(name: str) -> str | None:
    """The precision of --precision for networks that make streams, as `FeatureCodec.load` takes it."""
    return None if name == "auto" else name


def model_options(function: F) -> F:
    """Add the options that choose the networks: --detector, --bottleneck, --layout, --device, --half."""
    for option in reversed(
        (
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
    ):
        function = option(function)
    return function


def box_options(function: F) -> F:
    """Add the options that choose which boxes count: --conf, --iou, --max-det."""
    for option in reversed(
        (
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
            click.option(
                "--max-det", type=click.IntRange(1), default=300, show_default=True, help="Most boxes per image."
            ),
        )
    ):
        function = option(function)
    return function


def load_codec(
    detector: str, bottleneck: str, layout: str, device: str, half: bool | None, **settings: Any
) -> FeatureCodec:
    """The codec that the options describe."""
    from featcodec.codec import FeatureCodec

    return FeatureCodec.load(detector, bottleneck=bottleneck, layout=layout, device=device, half=half, **settings)


def encoder_choices(profiles: Sequence[str], presets: Sequence[str]) -> list[dict[str, str]]:
    """The encoders that --profile and --preset name, each encoder once, as keywords of `FeatureCodec.load`."""
    names = profiles or ([] if presets else [DEFAULT_PROFILE])
    return [
        *({"profile": name} for name in dict.fromkeys(names)),
        *({"preset": name} for name in dict.fromkeys(presets)),
    ]


def preset_of(encoder: Mapping[str, str], video_codec: str) -> str:
    """The plain preset of an encoder from `encoder_choices`."""
    return encoder.get("preset") or profiles_for(video_codec)[encoder["profile"]].latent.preset


def note_photographs(detector: str, images: Iterable[Path]) -> None:
    """Note on stderr if a detector knows drawn scenes only, but an image is not a PNG file as drawn scenes are."""
    from featcodec.networks.catalogue import SHIPPED_DETECTORS

    other = next((path for path in images if path.suffix.lower() != ".png"), None)
    if detector in SHIPPED_DETECTORS and other is not None:
        complain(
            f"note: {other} looks like a photograph; the detector {detector} knows only what `featcodec scenes` draws: "
            "use --detector yolov5n (README, Which networks)"
        )


def conditions_of(texts: Iterable[str]) -> dict[str, str]:
    """The values by column, from options of the form COLUMN=VALUE."""
    conditions: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{text!r} is not of the form COLUMN=VALUE")
        if (other := conditions.setdefault(name, value)) != value:
            raise click.UsageError(f"{name}={other} and {text} exclude each other; give one of them")
    return conditions


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


def check_cluster(cluster: str | None, device: str, workers: int | None, networks: int | None = None) -> str:
    """Refuse options that do not belong together. Returns the device: networks run on CPUs of a cluster.

    Raises:
        click.UsageError: an option for a cluster without one, or one for this machine with a cluster.
    """
    if cluster is None:
        if networks is not None:
            raise click.UsageError("--networks is for a cluster; give --cluster too")
        return device
    if workers is not None:
        raise click.UsageError("--workers is for this machine alone; leave it out with --cluster")
    if device not in {"auto", "cpu"}:
        raise click.UsageError(f"--device {device} is for this machine alone; with --cluster, networks run on CPUs")
    return "cpu"


def join_cluster(cluster: str | None) -> None:
    """Be connected to the cluster of --cluster, if any, until the command ends.

    Raises:
        FeatcodecError: there is no such cluster, or Ray is not installed.
    """
    if cluster is not None:
        from featcodec.cluster.session import connected

        context = click.get_current_context()
        assert context is not None  # noqa: S101  (a command runs)
        context.with_resource(connected(cluster))


def bottleneck_label(name: str, codec: FeatureCodec) -> str:
    """The name that people use for a codec's bottleneck, or an empty string without a bottleneck.

    Args:
        name: the value of --bottleneck.
        codec: the codec that was loaded with it.
    """
    from featcodec.fingerprints import joined_fingerprint
    from featcodec.networks.bottleneck import load_bottleneck
    from featcodec.networks.catalogue import AUTO, SHIPPED_BOTTLENECKS, shipped_for

    if codec.model.bottleneck is None:
        return ""
    if name != AUTO:
        return Path(name).stem
    detector = codec.model.detector.fingerprint
    names = {
        joined_fingerprint(detector, load_bottleneck(shipped.path).fingerprint()): shipped.name
        for shipped in shipped_for(SHIPPED_BOTTLENECKS, detector)
    }
    return names.get(codec.model.fingerprint, "")


def load_codec_for(streams: Iterable[SideInfo], *networks: Any, **settings: Any) -> FeatureCodec:
    """The codec that the options describe, for most of these bitstreams; the others fail when they are decoded.

    Args:
        streams: the side info of all intact bitstreams.
        networks: as for `load_codec`.
        settings: as for `load_codec`.

    Raises:
        FeatcodecError: the networks cannot be loaded for any bitstream.
    """
    from featcodec.errors import FeatcodecError

    kinds = Counter[tuple[bytes, int]]()
    examples: dict[tuple[bytes, int], SideInfo] = {}
    for stream in streams:
        kind = stream.fingerprint, stream.split
        kinds[kind] += 1
        examples.setdefault(kind, stream)
    another: FeatureCodec | None = None
    for kind, _ in kinds.most_common(_MOST_TRIES):
        try:
            codec = load_codec(*networks, **settings, stream=examples[kind])
        except FeatcodecError:
            # If the networks cannot be loaded at all, the user must know why.
            another = another or load_codec(*networks, **settings)
            continue
        if codec.fingerprint == kind[0]:
            return codec
        another = another or codec
    return another or load_codec(*networks, **settings)


def read_side_infos(streams: Iterable[Path]) -> dict[Path, SideInfo]:
    """The side info of each intact bitstream. Damaged bitstreams are reported when they are decoded."""
    from featcodec.bitstream import read_file, unpack
    from featcodec.errors import FeatcodecError
    from featcodec.system.batching import map_reading

    def side_info_of(stream: Path) -> SideInfo | None:
        with contextlib.suppress(FeatcodecError):
            return unpack(read_file(stream))[0]
        return None

    paths = list(streams)
    read = zip(paths, map_reading(side_info_of, paths), strict=True)
    return {path: side_info for path, side_info in read if side_info is not None}


def box_filter(conf: float, iou: float, max_det: int) -> BoxFilter:
    """The box filter that the options describe."""
    from featcodec.detections import BoxFilter

    return BoxFilter(conf, iou, max_det)
