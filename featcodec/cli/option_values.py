"""What the values of the shared options mean: codecs, encoders, boxes, conditions, and the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.console import complain
from featcodec.video.profiles import DEFAULT_PROFILE, profiles_for

if TYPE_CHECKING:
    from featcodec.bitstream import SideInfo
    from featcodec.codec import FeatureCodec
    from featcodec.detections import BoxFilter

_MOST_TRIES = 16
"""Bitstreams of different networks after which the search for networks that can be loaded ends."""


def load_codec(
    detector: str, bottleneck: str, layout: str, device: str, half: bool | None, **settings: Any
) -> FeatureCodec:
    """The codec that the options describe."""
    from featcodec.codec import FeatureCodec

    return FeatureCodec.load(detector, bottleneck=bottleneck, layout=layout, device=device, half=half, **settings)


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

    another: FeatureCodec | None = None
    for stream in _one_of_each_kind(streams)[:_MOST_TRIES]:
        try:
            codec = load_codec(*networks, **settings, stream=stream)
        except FeatcodecError:
            # If the networks cannot be loaded at all, the user must know why.
            another = another or load_codec(*networks, **settings)
            continue
        if codec.fingerprint == stream.fingerprint:
            return codec
        another = another or codec
    return another or load_codec(*networks, **settings)


def _one_of_each_kind(streams: Iterable[SideInfo]) -> list[SideInfo]:
    """The first bitstream of each kind, which is the same networks and split; the most frequent kind comes first."""
    kinds: dict[tuple[bytes, int], list[SideInfo]] = {}
    for stream in streams:
        kinds.setdefault((stream.fingerprint, stream.split), []).append(stream)
    return [alike[0] for alike in sorted(kinds.values(), key=len, reverse=True)]


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


def edge_precision(name: str) -> str | None:
    """The precision of --precision for networks that make streams, as `FeatureCodec.load` takes it."""
    return None if name == "auto" else name


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


def box_filter(conf: float, iou: float, max_det: int) -> BoxFilter:
    """The box filter that the options describe."""
    from featcodec.detections import BoxFilter

    return BoxFilter(conf, iou, max_det)


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


def device_for(cluster: str | None, device: str, workers: int | None, networks: int | None = None) -> str:
    """The device of the networks: that of --device, or, with --cluster, the CPUs there.

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
