"""Compare the edge in ONNX Runtime, float32 and int8, with PyTorch on one core: front-end, AE and packing.

    .venv/bin/python benchmarks/export.py [DETECTOR...] [--bottleneck NAME] [--images SRC] [--rounds N]
    .venv/bin/python benchmarks/export.py --runs SRC --model DIR [--model DIR] DETECTOR [--bottleneck NAME] [--rounds N]

The ways run in turns on the same pictures, so that their ratio holds on a machine whose speed changes; times are CPU
times of this process. The samples are compared with PyTorch's, on other pictures than those that int8 was calibrated
on. Without --images, street scenes are drawn.

With --runs, whole runs of `encode_files` are compared, from image files to bitstreams: VVC and HEVC by PyTorch, and
HEVC by each exported model. Then the times are those of this process and its encoder processes.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from featcodec import FeatureCodec
from featcodec.cli.console import print_table
from featcodec.edge.encoder import EdgeEncoder, run_edge
from featcodec.edge.sessions import open_session
from featcodec.export.folder import drawn_pictures, make_edge
from featcodec.export.int8 import quantized_edge
from featcodec.export.verification import compare_samples
from featcodec.images.letterbox import Letterboxed
from featcodec.images.reading import IMAGE_SUFFIXES, read_image
from featcodec.pipeline.coding import BatchEdge
from featcodec.pipeline.encode import encode_files
from featcodec.system.paths import expand_sources

CALIBRATION, TIMED = 16, 8
QP = 38


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
    pictures = [image.pixels for image in calibration]
    files = {
        "float32": edge,
        "int8": quantized_edge(edge, pictures),
        "int8 in every layer": quantized_edge(edge, pictures, narrow=0),
    }
    sessions = {name: open_session(data, 1) for name, data in files.items()}
    shapes = {image.pixels.shape: codec.front_end([image], QP)[0][1].shape for image in measured}

    def by_onnx(name: str) -> Callable[[Letterboxed], object]:
        return lambda image: run_edge(sessions[name], image.pixels[np.newaxis], shapes[image.pixels.shape])

    ways = {"PyTorch": lambda image: codec.front_end([image], QP), **{name: by_onnx(name) for name in sessions}}
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


def whole_runs(
    detector: str, bottleneck: str, source: str, folders: Sequence[str], rounds: int
) -> list[tuple[str, ...]]:
    """One row per way to encode all images of a source: images/s and CPU time, by medians over the rounds."""
    images = expand_sources([source], IMAGE_SUFFIXES, "images")
    ways: dict[str, BatchEdge] = {
        f"{name}, PyTorch": FeatureCodec.load(
            detector, bottleneck=bottleneck, device="cpu", restoration="none", video_codec=codec
        )
        for name, codec in (("VVC", "ffmpeg"), ("HEVC", "hevc"))
    }
    for folder in folders:
        encoder = EdgeEncoder.load(folder, threads=1)
        ways[f"HEVC, exported, {encoder.model.precision}"] = encoder
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as output:
        for number in range(rounds + 1):
            for name, edge in ways.items():
                started, busy = time.perf_counter(), cpu_seconds()
                with closing(encode_files(edge, images, Path(output), QP, overwrite=True)) as outcomes:
                    failed = [outcome.error for outcome in outcomes if outcome.error]
                if failed:
                    raise SystemExit(failed[0])
                if number:  # the first round warms up
                    measured[name].append((time.perf_counter() - started, cpu_seconds() - busy))
    rows = []
    plain = next(iter(measured))
    for name, times in measured.items():
        wall, core = (statistics.median(each) for each in zip(*times, strict=True))
        faster = [
            statistics.median(one[place] / other[place] for one, other in zip(measured[plain], times, strict=True))
            for place in (0, 1)
        ]
        speed, milliseconds = f"{len(images) / wall:.1f}", f"{1000 * core / len(images):.1f}"
        rows.append((name, speed, f"{faster[0]:.2f}", milliseconds, f"{faster[1]:.2f}"))
    return rows


def cpu_seconds() -> float:
    """CPU time of this process and of the processes that it has waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", default=["scenes11"])
    parser.add_argument("--bottleneck", default="auto")
    parser.add_argument("--images", default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", default=None, metavar="SRC")
    parser.add_argument("--model", action="append", default=[], metavar="DIR")
    arguments = parser.parse_args()
    if arguments.runs is not None:
        (detector,) = arguments.detectors
        rows = whole_runs(detector, arguments.bottleneck, arguments.runs, arguments.model, arguments.rounds)
        columns = ("encode", "images/s", "times VVC's", "core-ms per image", "times fewer")
        print_table(f"QP {QP}, {arguments.rounds} rounds in turns", columns, rows)
        return
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
