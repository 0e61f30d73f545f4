"""Compare the edge in ONNX Runtime, float32 and int8, with PyTorch on one core: front-end, AE and packing.

    .venv/bin/python benchmarks/export.py [DETECTOR...] [--bottleneck NAME] [--images SRC] [--rounds N]

The ways run in turns on the same pictures, so that their ratio holds on a machine whose speed changes; times are CPU
times of this process. The samples are compared with PyTorch's, on other pictures than those that int8 was calibrated
on. Without --images, street scenes are drawn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from featcodec import FeatureCodec
from featcodec.cli.console import print_table
from featcodec.edge.encoder import run_edge
from featcodec.edge.sessions import open_session
from featcodec.export.folder import drawn_pictures, make_edge
from featcodec.export.int8 import quantized_edge
from featcodec.export.verification import compare_samples
from featcodec.images.letterbox import Letterboxed
from featcodec.images.reading import IMAGE_SUFFIXES, read_image
from featcodec.system.paths import expand_sources

CALIBRATION, TIMED = 16, 8


def letterboxed(codec: FeatureCodec, source: str | None) -> list[Letterboxed]:
    """Pictures to calibrate on, and then those to measure on."""
    if source is None:
        return [codec.letterbox(picture) for picture in drawn_pictures(CALIBRATION + TIMED)]
    files = expand_sources([source], IMAGE_SUFFIXES, "images")[: CALIBRATION + TIMED]
    return [codec.letterbox(read_image(file.path)) for file in files]


def seconds_in_turns(ways: dict[str, Callable[[Letterboxed], object]], images: Sequence[Letterboxed], rounds: int):
    """The times of each way, in order of rounds and images."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for image in images:
            for name, run in ways.items():
                started = time.process_time()
                run(image)
                if number:  # the first round warms up
                    times[name].append(time.process_time() - started)
    return times


def rows_of(detector: str, bottleneck: str, source: str | None, rounds: int) -> list[tuple[str, ...]]:
    """One row per way."""
    codec = FeatureCodec.load(detector, bottleneck=bottleneck, device="cpu")
    images = letterboxed(codec, source)
    calibration, measured = images[:-TIMED], images[-TIMED:]
    edge = make_edge(codec)
    files = {"float32": edge, "int8": quantized_edge(edge, [image.pixels for image in calibration])}
    sessions = {name: open_session(data, 1) for name, data in files.items()}
    shapes = {image.pixels.shape: codec.front_end([image], 38)[0][1].shape for image in measured}

    def by_onnx(name: str) -> Callable[[Letterboxed], object]:
        return lambda image: run_edge(sessions[name], image.pixels[np.newaxis], shapes[image.pixels.shape])

    ways = {"PyTorch": lambda image: codec.front_end([image], 38), **{name: by_onnx(name) for name in sessions}}
    times = seconds_in_turns(ways, measured, rounds)
    rows = []
    for name, found in times.items():
        ratio = statistics.median(one / other for one, other in zip(times["PyTorch"], found, strict=True))
        apart = ("", "") if name == "PyTorch" else differences(codec, sessions[name], measured)
        rows.append((detector, name, f"{1000 * statistics.median(found):.1f}", f"{ratio:.2f}", *apart))
    return rows


def differences(codec: FeatureCodec, session: object, images: Sequence[Letterboxed]) -> tuple[str, str]:
    """The share of samples that differ from PyTorch's, and by how much samples differ in the mean."""
    agreement = compare_samples(codec, session, [[image] for image in images])
    return f"{agreement.share:.4%}", f"{agreement.mean:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", default=["scenes11"])
    parser.add_argument("--bottleneck", default="auto")
    parser.add_argument("--images", default=None)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        row
        for detector in arguments.detectors
        for row in rows_of(detector, arguments.bottleneck, arguments.images, arguments.rounds)
    ]
    columns = ("detector", "edge", "core-ms per image", "times PyTorch", "samples that differ", "in the mean by")
    print_table(f"{TIMED} images, {arguments.rounds} rounds, one core", columns, rows)


if __name__ == "__main__":
    main()
