"""Measure images per second of encode and decode, and compare with the plain way, in one run.

    .venv/bin/python benchmarks/throughput.py [--images DIR] [--detector WEIGHTS] [--qp QP] [--repeat N]

The plain way takes one image after the other. It starts one ffmpeg process per image to encode: once with one encoder
thread, as the pipeline does, and once with the encoder's own choice of threads. It starts one ffmpeg process per image
to decode. The networks are the same. "VVC cores" is the CPU time of encoder processes divided by cores x wall time.
"VVC workers" is the share of time in which an encoder process was running. With `--memory N`, the script prints the
peak memory of encoding and decoding 64 and N generated images instead. Each measurement runs in a separate process.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    options = parse()
    if options.memory_child:
        return memory_child(options)
    if options.memory:
        return memory(options)
    return throughput(options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=ROOT.parent / "shared/data/coco128/images/val2017")
    parser.add_argument("--detector", default=str(ROOT.parent / "shared/weights/yolov5n.pt"))
    parser.add_argument("--bottleneck", default="auto", help="as `featcodec encode` takes it")
    parser.add_argument("--codec", default="ffmpeg", help="for --memory: as `featcodec encode` takes it")
    parser.add_argument("--precision", default="auto", help="as `featcodec encode` takes it")
    parser.add_argument("--qp", type=int, default=38)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", type=int, default=0, metavar="N")
    parser.add_argument("--memory-child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def throughput(options: argparse.Namespace) -> None:
    from featcodec import FeatureCodec
    from featcodec.images.reading import IMAGE_SUFFIXES
    from featcodec.pipeline import decode_files, encode_files
    from featcodec.system.paths import expand_sources

    codec = FeatureCodec.load(options.detector, bottleneck=options.bottleneck, precision=options.precision)
    images = expand_sources([str(options.images)], IMAGE_SUFFIXES, "images")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        occupied: list[float] = []

        def pipeline_encode() -> None:
            outcomes = list(encode_files(codec, images, output, options.qp, overwrite=True))
            assert not any(outcome.error for outcome in outcomes)
            occupied.append(sum(outcome.coding_seconds for outcome in outcomes))

        def pipeline_decode() -> None:
            streams = expand_sources([str(output)], frozenset({".266"}), "bitstreams")
            assert not any(outcome.error for outcome in decode_files(codec, streams))

        ways: dict[str, Callable[[], None]] = {
            "encode, plain, 1 encoder thread": lambda: plain_encode(codec, images, options.qp, 1),
            "encode, plain, encoder's own threads": lambda: plain_encode(codec, images, options.qp, 0),
            "encode, featcodec": pipeline_encode,
            "decode, plain": lambda: plain_decode(codec, output),
            "decode, featcodec": pipeline_decode,
        }
        pipeline_encode()
        pipeline_decode()
        occupied.clear()
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.repeat):
            for name, way in ways.items():
                runs[name].append(timed(way))
    report(runs, occupied, len(images), options)
    milliseconds = [1000 * front_end_seconds(options.detector, images, fuse=fuse) for fuse in (True, False)]
    print("front-end alone, one thread: {:.1f} ms per image ({:.1f} ms with separate BatchNorm)".format(*milliseconds))


def front_end_seconds(detector, images, *, fuse: bool) -> float:  # type: ignore[no-untyped-def]
    """Core-seconds of the front-end alone per image."""
    import torch

    from featcodec.detectors import load_detector
    from featcodec.images.letterbox import Letterbox
    from featcodec.images.reading import read_image

    front = load_detector(detector, fuse=fuse).front
    tensors = []
    for source in images:
        image = read_image(source.path)
        pixels = Letterbox.fit(image.shape[1], image.shape[0], 512).apply(image)
        tensors.append(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        front(tensors[0])
        started = time.perf_counter()
        for tensor in tensors:
            front(tensor)
    torch.set_num_threads(threads)
    return (time.perf_counter() - started) / len(tensors)


def timed(way: Callable[[], None]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of child processes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    way()
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def plain_encode(codec, images, qp: int, threads: int) -> None:  # type: ignore[no-untyped-def]
    from featcodec import bitstream
    from featcodec.images.reading import read_image

    for source in images:
        ((side_info, frame),) = codec.front_end([codec.letterbox(read_image(source.path))], qp)
        (stream,) = codec.video_codec.encode([frame], qp, threads=threads)
        bitstream.pack(side_info, stream)


def plain_decode(codec, folder: Path) -> None:  # type: ignore[no-untyped-def]
    from featcodec import bitstream
    from featcodec.video.base import from_10_bits

    for path in sorted(folder.rglob("*.266")):
        side_info, _ = bitstream.unpack(path.read_bytes())
        height, width = side_info.frame_shape
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        luma = np.frombuffer(raw, "<u2", count=height * width).reshape(height, width)
        codec.back_end([(side_info, from_10_bits(luma, (height, width)))])


def report(
    runs: dict[str, list[tuple[float, float]]], occupied: list[float], count: int, options: argparse.Namespace
) -> None:
    cores = os.cpu_count() or 1
    median = {name: statistics.median(wall for wall, _ in values) for name, values in runs.items()}
    print(f"{count} images of {options.images}, QP {options.qp}, {cores} cores, median of {options.repeat} runs")
    print("| way | images/s | against plain | VVC cores | VVC workers |")
    print("| --- | --- | --- | --- | --- |")
    for name, seconds in median.items():
        kind = name.split(",")[0]
        base = median["decode, plain"] if kind == "decode" else median["encode, plain, 1 encoder thread"]
        busy = workers = "-"
        if kind == "encode":
            busy = f"{statistics.median(cpu / wall for wall, cpu in runs[name]) / cores:.0%}"
        if name == "encode, featcodec":
            share = (held / wall for held, (wall, _) in zip(occupied, runs[name], strict=True))
            workers = f"{statistics.median(share) / cores:.0%}"
        print(f"| {name} | {count / seconds:.1f} | {base / seconds:.2f} x | {busy} | {workers} |")


def memory(options: argparse.Namespace) -> None:
    print("| images | encode, peak MiB | decode, peak MiB |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        made = 0
        for count in (64, options.memory):
            for number in range(made, count):
                make_image(source / f"{number:06d}.jpg", number)
            made = count
            peaks = [memory_of(options, f"{kind}:{folder}") for kind in ("encode", "decode")]
            print(f"| {count} | {peaks[0]:.0f} | {peaks[1]:.0f} |", flush=True)


def memory_of(options: argparse.Namespace, task: str) -> float:
    command = [
        sys.executable,
        __file__,
        "--memory-child",
        task,
        "--detector",
        options.detector,
        "--qp",
        str(options.qp),
        "--codec",
        options.codec,
    ]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def memory_child(options: argparse.Namespace) -> None:
    """Run one command line in this process and print its peak memory in MiB."""
    from featcodec.cli.main import main as featcodec

    kind, _, folder = options.memory_child.partition(":")
    model, coding = ["--detector", options.detector], ["--qp", str(options.qp), "--codec", options.codec]
    arguments = {
        "encode": ["encode", f"{folder}/in", "-o", f"{folder}/out", *coding, *model],
        "decode": ["decode", f"{folder}/out", "-o", f"{folder}/d.json", "--overwrite", *model],
    }[kind]
    try:
        featcodec(arguments)
    except SystemExit as stop:
        assert not stop.code, stop.code
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def make_image(path: Path, seed: int) -> None:
    """A generated image in one of COCO's usual sizes: blurred noise with rectangles."""
    rng = np.random.default_rng(seed)
    width, height = [(640, 480), (640, 427), (480, 640), (640, 640), (500, 375)][seed % 5]
    image = Image.fromarray(rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8))
    canvas = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).copy()
    for _ in range(12):
        x, y = rng.integers(0, width - 40), rng.integers(0, height - 40)
        canvas[y : y + rng.integers(10, 200), x : x + rng.integers(10, 200)] = rng.integers(0, 256, 3)
    Image.fromarray(canvas).save(path, quality=85)


if __name__ == "__main__":
    main()
