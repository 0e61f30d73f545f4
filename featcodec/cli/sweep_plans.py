"""The curves that the options of `featcodec sweep` ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.option_values import bottleneck_label, box_filter, encoder_choices, load_codec, preset_of
from featcodec.cli.sweep_networks import Attackers, Restorations

if TYPE_CHECKING:
    from featcodec.codec import FeatureCodec
    from featcodec.evaluation.sweep import Plan


_DEFAULT = "auto"
_TAKE_SPLIT = frozenset({_DEFAULT, "latent", "uncoded"})


def plans_of(options: dict[str, Any]) -> list[Plan[Any, Any]]:
    """All curves that the options ask for."""
    methods = dict.fromkeys(options["methods"] or [_DEFAULT])
    if options["splits"] and _TAKE_SPLIT.isdisjoint(methods):
        raise click.UsageError("--split is for the methods latent and uncoded; leave it out, or add --method latent")
    attackers = Attackers(options["recnets"])
    restorations = Restorations(options["restoration"], raw=options["video_codec"] == "none")
    plans = [plan for method in methods for plan in _curves(method, options, attackers, restorations)]
    attackers.check_all_used()
    restorations.check_used()
    return plans


def _curves(
    method: str, options: dict[str, Any], attackers: Attackers, restorations: Restorations
) -> Iterator[Plan[Any, Any]]:
    """The curves of a method; "auto" means the bottleneck if there is one, else latent."""
    from featcodec.errors import InputError
    from featcodec.evaluation.anchors import InputJpegMethod, InputVvcMethod
    from featcodec.evaluation.methods import FeatureMethod, UncodedMethod
    from featcodec.evaluation.sweep import Plan

    if method == "input-jpeg":
        yield Plan(InputJpegMethod(_load(options, "none"), options["subsampling"]), options["qualities"])
        return
    if method == "uncoded":
        for name in dict.fromkeys(("none", *(options["bottlenecks"] or ["auto"]))):
            # Behind each split, attackers see something else.
            for split in (options["splits"] or [None]) if name == "none" else [None]:
                codec = _load(options, name, split=split)
                if name == "none" or codec.model.bottleneck is not None:
                    yield Plan(UncodedMethod(codec, bottleneck_label(name, codec), *attackers.of(codec)), [None])
        return
    raw = options["video_codec"] == "none"
    qps: Sequence[int | None] = [None] if raw else options["qps"]
    encoders = encoder_choices(options["profiles"], options["presets"])[: 1 if raw else None]
    if method == "input-vvc":
        for preset in dict.fromkeys(preset_of(encoder, options["video_codec"]) for encoder in encoders):
            yield Plan(InputVvcMethod(_load(options, "none", preset=preset)), qps)
        return
    bottlenecks = ["none"] if method == "latent" else options["bottlenecks"] or ["auto"]
    splits = options["splits"] if method in _TAKE_SPLIT else ()
    for name, split, clip, encoder in product(bottlenecks, splits or [None], options["clips"] or [None], encoders):
        load = partial(_load, options, name, split=split, clip=clip, layout=options["layout"], **encoder)
        codec = restorations.load(load)
        if method == "bottleneck" and codec.model.bottleneck is None:
            raise InputError(
                f"no bottleneck comes with {options['detector']}; give --bottleneck, or use --method latent"
            )
        yield Plan(FeatureMethod(codec, bottleneck_label(name, codec), *attackers.of(codec)), qps)


def _load(
    options: dict[str, Any], bottleneck: str, restoration: str = "none", layout: str = "none", **settings: Any
) -> FeatureCodec:
    from featcodec.video.settings import parse_parameters

    return load_codec(
        options["detector"],
        bottleneck,
        layout,
        options["device"],
        options["half"],
        video_codec=options["video_codec"],
        encoder_parameters=parse_parameters(options["encoder_params"]),
        bits=options["bits"],
        image_size=options["image_size"],
        square=options["square"],
        boxes=box_filter(options["conf"], options["iou"], options["max_det"]),
        restoration=restoration,
        **settings,
    )
