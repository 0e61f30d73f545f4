"""Search for the sets of VVenC options in featcodec/video/profiles.py.

    .venv/bin/python benchmarks/vvc_profiles.py [tools] [combine] [profiles] [--quick] [--kind latent|bottleneck]

The search has three stages. tools: measure preset `faster` with one option more or less. combine: from the options that
gained there, grow a set and prune it, within a limit of time. profiles: measure the profiles that ship on other images,
with AP50 and with the time of one run.

If ../shared is there, the search uses yolov5n on COCO *train* images; otherwise it uses drawn scenes. Every measurement
is kept in --cache, so that a search goes on where it was stopped. Every gain is a BD-rate in percent, with its standard
error over images.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from profile_search import Frames, Gain, encode_timed, text_of

from featcodec import FeatureCodec
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.scenes.dataset import IMAGES, write_scenes
from featcodec.system.paths import expand_sources
from featcodec.video import PROFILES, EncoderSettings
from featcodec.video.settings import parse_parameters

SHARED = Path(__file__).resolve().parents[2] / "shared"
QPS: Mapping[str, tuple[int, ...]] = {"latent": (37, 40, 43), "bottleneck": (40, 43, 46)}
"""QPs where the measures mean something. Above, the detector no longer answers, and errors have no meaning. Below, a
bottleneck loses more than VVC does."""

FASTER = EncoderSettings("faster")
TOOLS = (
    "LoopFilterDisable=1:SAO=0",
    "SAO=0",
    "ALF=1",
    "MinQTLumaISlice=8",
    "MaxMTTDepthI=1",
    "MaxMTTDepthI=2",
    "CTUSize=128",
    "ISP=3",
    "ISP=1",
    "MTS=1",
    "MIP=1",
    "MRL=1",
    "LFNST=1",
    "DepQuant=1:SignHideFlag=0",
    "TransformSkip=1:TransformSkipLog2MaxSize=5",
    "TransformSkip=1:TransformSkipLog2MaxSize=5:BDPCM=1",
    "IBC=1",
    "RDOQ=1",
    "SelectiveRDOQ=0",
    "DualITree=0",
    "IntraEstDecBit=1",
)
"""Options that are tried alone: loop filters, partitioning, prediction, transforms, quantization, and shortcuts."""
CHEAPER = 0.97
"""Below this multiple of the time, a tool is worth having if it loses no accuracy: it saves time for other tools."""
APART = 5
"""The search uses every fifth image."""
TIMED = 6
"""Number of pictures of one shape on which the time of one run is measured."""
QUICK = ("LoopFilterDisable=1:SAO=0", "MinQTLumaISlice=8", "ISP=3", "MTS=1", "DepQuant=1:SignHideFlag=0")
STAGES = ("tools", "combine", "profiles")


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    tried = QUICK if options.quick else TOOLS
    detector, bottleneck, images = options.detector, options.bottleneck, find_images(options)
    # No picture is in both lists: what is found on one list is confirmed on the other.
    searched = images[::APART][: options.images]
    confirmed = [path for number, path in enumerate(images) if number % APART][: options.finalists]
    for kind in options.kind or QPS:
        learned = None if kind == "latent" else bottleneck
        codec = FeatureCodec.load(
            detector,
            bottleneck=learned,
            layout=None,
            restoration=None,
            device="cpu",
            precision="float32",
            preset=FASTER.preset,
            image_size=options.image_size,
        )
        search = Frames(codec, searched, QPS[kind], options.cache)
        if "tools" in options.stages:
            print_tools(search, [set_of(tool) for tool in tried])
        if "combine" in options.stages:
            print_combination(search, tried, options.limit)
        if "profiles" in options.stages:
            finalists = Frames(codec, confirmed, QPS[kind], options.cache, detect=True)
            print_profiles(finalists, options.profile or list(PROFILES))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"any of {', '.join(STAGES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few images and tools: minutes instead of hours")
    parser.add_argument("--kind", action="append", choices=list(QPS))
    parser.add_argument("--images", type=int, help="number of images to search on; 24, or 4 with --quick")
    parser.add_argument("--finalists", type=int, help="number of images to measure AP50 on; 64, or 8 with --quick")
    parser.add_argument(
        "--profile", action="append", choices=list(PROFILES), help="for stage profiles; may be repeated"
    )
    parser.add_argument("--limit", type=float, default=1.2, help="for stage combine: time as a multiple of `faster`'s")
    parser.add_argument("--folder", type=Path, help="folder of images, instead of ../shared or drawn scenes")
    parser.add_argument("--detector")
    parser.add_argument("--bottleneck", help="by default the one that ships for the detector")
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--cache", type=Path, default=Path("out-profiles"))
    options = parser.parse_args()
    options.stages = options.stages or STAGES
    for stage in options.stages:
        if stage not in STAGES:
            parser.error(f"unknown stage {stage}; choose from {', '.join(STAGES)}")
    photographs = SHARED.exists()
    if not photographs and options.folder is None:
        print(f"{SHARED} is not there: using drawn scenes, detector scenes and bottleneck street")
    options.detector = options.detector or (str(SHARED / "weights/yolov5n.pt") if photographs else "scenes")
    options.bottleneck = options.bottleneck or ("compact" if photographs else "street")
    options.images = options.images or (4 if options.quick else 24)
    options.finalists = options.finalists or (8 if options.quick else 64)
    return options


def find_images(options: argparse.Namespace) -> list[Path]:
    """The images of --folder, those of ../shared, or drawn scenes."""
    folder = options.folder or SHARED / "data/coco128/images/train2017"
    if not folder.exists():
        folder = options.cache / "scenes"
        for _ in write_scenes(folder, max(APART * options.images, 2 * options.finalists), seed=1, overwrite=True):
            pass
        folder = folder / IMAGES
    return [source.path for source in expand_sources([str(folder)], IMAGE_SUFFIXES, "images")]


def set_of(*tools: str, preset: str = FASTER.preset) -> EncoderSettings:
    """Settings of a preset with tools. If an option is there twice, the last one counts."""
    return EncoderSettings(preset, tools=parse_parameters(tools))


def print_tools(search: Frames, variants: Sequence[EncoderSettings]) -> None:
    """Print each variant against `faster`, the best first."""
    gains = [(search.by_error(FASTER, settings), settings) for settings in variants]
    print(f"\n{search.kind}, {len(search.pictures)} images, QPs {search.qps}: against `faster`\n")
    print("| options | BD-rate (error) | predictions | neck | time | core-seconds per picture |")
    print("| --- | --- | --- | --- | --- | --- |")
    for gain, settings in sorted(gains, key=lambda pair: pair[0].rate):
        parts = [search.by_error(FASTER, settings, [part]) for part in ("predictions", "neck")]
        print(f"| {row(settings, gain, *parts)} | {gain.time:.2f} | {gain.seconds:.3f} |", flush=True)


def row(settings: EncoderSettings, *gains: Gain) -> str:
    """The first cells of a table's row."""
    return " | ".join([text_of(settings), *(f"{gain.rate:+.1f} +- {gain.error:.1f}" for gain in gains)])


def print_combination(search: Frames, tools: Sequence[str], limit: float) -> None:
    """Grow a set of tools and print it. Add tools that make it better beyond the noise, or faster and not worse.

    Then drop tools that the set does not need. Tools are tried in the order of their gain alone. Tools that save time
    come first: they make room for the others.
    """
    alone = {tool: search.by_error(FASTER, set_of(tool)) for tool in tools}
    chosen: list[str] = []
    print(f"\n{search.kind}: a set within {limit} times the time of `faster`\n")
    for tool in sorted(tools, key=lambda tool: (alone[tool].time > 1, alone[tool].rate)):
        if is_better(search, chosen, [*chosen, tool], limit):
            chosen = [*chosen, tool]
            print(f"+ {tool}", flush=True)
    for tool in list(chosen):
        rest = [other for other in chosen if other != tool]
        if is_better(search, chosen, rest, limit):
            chosen = rest
            print(f"- {tool}", flush=True)
    found = set_of(*chosen)
    gain = search.by_error(FASTER, found)
    print(f"= {row(found, gain)}, {gain.time:.2f} times the time")


def is_better(search: Frames, now: Sequence[str], then: Sequence[str], limit: float) -> bool:
    """Whether a new set is within the limit, and gains beyond the standard error or saves time without a loss."""
    step = search.by_error(set_of(*now), set_of(*then))
    within = search.by_error(FASTER, set_of(*then)).time <= limit
    return within and (step.sure or (step.time < CHEAPER and step.rate < step.error))


def print_profiles(finalists: Frames, names: Sequence[str]) -> None:
    """Print the profiles that ship, against `faster`: error, agreement, and the time of one run."""
    sets = {name: PROFILES[name].settings(bottleneck=finalists.kind == "bottleneck") for name in names}
    seconds = one_run(finalists, [FASTER, *sets.values()])
    print(f"\n{finalists.kind}, {len(finalists.pictures)} other images, QPs {finalists.qps}: profiles against `faster`")
    print(f"({seconds[0]:.3f} core-seconds per picture)\n")
    print("| profile: options | BD-rate (error) | BD-rate (AP50 agreement) | time | core-seconds per picture |")
    print("| --- | --- | --- | --- | --- |")
    for (name, settings), taken in zip(sets.items(), seconds[1:], strict=True):
        gains = finalists.by_error(FASTER, settings), finalists.by_agreement(FASTER, settings)
        print(f"| {name}: {row(settings, *gains)} | {taken / seconds[0]:.2f} | {taken:.3f} |", flush=True)


def one_run(frames: Frames, settings: Sequence[EncoderSettings]) -> list[float]:
    """Core-seconds per picture of each setting, measured in turns, so that all settings meet the same load."""
    batch = [picture.frame for picture in max(frames.batches(), key=len)[:TIMED]]
    total = [0.0] * len(settings)
    for qp in frames.qps:
        for number, each in enumerate(settings):
            total[number] += encode_timed(each, batch, qp)[1]
    return [seconds / len(batch) / len(frames.qps) for seconds in total]


if __name__ == "__main__":
    main()
