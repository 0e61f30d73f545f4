"""Compare sets of x265 options with VVC's profile `fast`: the search for featcodec/video/profiles.HEVC_PROFILES.

    .venv/bin/python benchmarks/hevc_profiles.py [--kind latent|bottleneck] [--set PRESET:NAME=VALUE:...] [--images N]

Measures and images are those of benchmarks/vvc_profiles.py, on COCO *train* images of ../shared: error of the
back-end's answers, and AP50 where the truth is what the uncoded detector finds. With --finalists N, N other images are
taken. Every gain is a BD-rate in percent against VVC's `fast`, with its standard error over images; negative needs
fewer bits. "QP" is by how much VVC's QP is above the QP of equal error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from profile_search import Frames
from vvc_profiles import APART, QPS, find_images, one_run, row

from featcodec import FeatureCodec
from featcodec.video import PROFILES, EncoderSettings
from featcodec.video.profiles import HEVC_PROFILES
from featcodec.video.settings import X265, parse_parameters

SHARED = Path(__file__).resolve().parents[2] / "shared"
NO_FILTERS = "no-deblock=1:sao=0"
QUICK = f"superfast:{NO_FILTERS}:ctu=16:min-cu-size=16:tu-intra-depth=3"
SETS = (
    "ultrafast",
    f"ultrafast:{NO_FILTERS}",
    "superfast",
    "superfast:sao=0",
    f"superfast:{NO_FILTERS}",
    f"superfast:{NO_FILTERS}:ctu=16",
    f"superfast:{NO_FILTERS}:ctu=16:min-cu-size=16",
    QUICK,
    f"{QUICK}:rd=1",
    f"{QUICK}:rd=5",
    f"{QUICK}:signhide=0",
    f"{QUICK}:tskip=1",
    f"{QUICK}:strong-intra-smoothing=0",
    f"{QUICK}:fast-intra=0",
    f"{QUICK}:rdoq-level=1",
    f"{QUICK}:rdoq-level=2",
    f"superfast:{NO_FILTERS}:ctu=16:rdoq-level=2",
    f"medium:{NO_FILTERS}:rdoq-level=2",
    f"slower:{NO_FILTERS}",
    "slower",
)
"""Presets, loop filters, blocks, search, transform skip, smoothing and quantization. Quality-changing options of x265
(aq-mode, psy-rd, psy-rdoq, cutree) are always off: they weigh what people see."""


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    images = find_images(options)
    chosen = images[::APART][: options.images]
    if options.finalists:
        chosen = [path for number, path in enumerate(images) if number % APART][: options.finalists]
    for kind in options.kind or QPS:
        codec = FeatureCodec.load(
            options.detector,
            bottleneck=None if kind == "latent" else options.bottleneck,
            layout=options.layout,
            restoration=None,
            device="cpu",
            precision="float32",
        )
        frames = Frames(codec, chosen, QPS[kind], options.cache, detect=True)
        anchor = PROFILES["fast"].settings(bottleneck=kind == "bottleneck")
        tests = [settings_of(text) for text in options.set or SETS]
        tests += [profile.settings(bottleneck=kind == "bottleneck") for profile in HEVC_PROFILES.values()]
        seconds = one_run(frames, [anchor, *tests])
        print(f"\n{kind}, {len(chosen)} images, QPs {QPS[kind]}, against VVC `fast` ({seconds[0]:.3f} core-seconds)\n")
        print("| options | BD-rate (error) | BD-rate (AP50 agreement) | time | core-seconds per picture | QP |")
        print("| --- | --- | --- | --- | --- | --- |")
        for settings, taken in zip(tests, seconds[1:], strict=True):
            gains = frames.by_error(anchor, settings), frames.by_agreement(anchor, settings)
            times = f"{taken / seconds[0]:.2f} | {taken:.4f}"
            print(f"| {row(settings, *gains)} | {times} | {qp_offset(frames, anchor, settings):+.1f} |", flush=True)


def qp_offset(frames: Frames, anchor: EncoderSettings, test: EncoderSettings) -> float:
    """The QP of the anchor minus the QP of the test at which the back-end's answers have the same error.

    It is found at the middle QP, between measured QPs.
    """
    errors = [
        [
            float(np.log([frames.measure(settings, qp).predictions, frames.measure(settings, qp).neck]).mean())
            for qp in frames.qps
        ]
        for settings in (anchor, test)
    ]
    middle = len(frames.qps) // 2
    return frames.qps[middle] - float(np.interp(errors[0][middle], errors[1], frames.qps))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=list(QPS))
    parser.add_argument("--set", action="append", metavar="PRESET:NAME=VALUE", help="instead of the whole list")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--finalists", type=int, default=0, metavar="N", help="N images that the search does not see")
    parser.add_argument("--folder", type=Path, help="folder of images, instead of ../shared")
    parser.add_argument("--detector", default=str(SHARED / "weights/yolov5n.pt"))
    parser.add_argument("--bottleneck", default="auto")
    parser.add_argument("--layout", default="auto")
    parser.add_argument("--cache", type=Path, default=Path("out-profiles"))
    return parser.parse_args()


def settings_of(text: str) -> EncoderSettings:
    """Settings from PRESET:NAME=VALUE:..."""
    preset, _, rest = text.partition(":")
    return EncoderSettings(preset, tools=parse_parameters([rest]), encoder=X265)


if __name__ == "__main__":
    main()
