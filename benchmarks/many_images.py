"""Encode very many tiny images on a Ray cluster of this machine: does the memory of the driver stay flat?

    .venv/bin/python benchmarks/many_images.py [--folder DIR] [--detector WEIGHTS] [--counts 20000 200000]

Makes the images (32x32 pixels, PPM, 1,000 per folder) unless DIR has them. For each count it prints: seconds that the
list of sources takes; seconds and images per second of the whole command; the most memory (RSS) that the driver had
from its first file on; and its CPU time per image. Raw samples (--video-codec none), so that the time of VVC does not
hide what the driver costs. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIDE = 32
PER_FOLDER = 1000
LIST = """
import sys, time
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.system.paths import expand_sources
started = time.perf_counter()
count = len(expand_sources(sys.argv[1:], IMAGE_SUFFIXES, "images"))
print(f"{count} images listed in {time.perf_counter() - started:.1f} s", flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "featcodec-many-images")
    parser.add_argument("--detector", default=str(ROOT.parent / "shared/weights/yolov5n.pt"))
    parser.add_argument("--counts", type=int, nargs="+", default=[20_000, 200_000], help="multiples of 1000")
    options = parser.parse_args()
    for count in options.counts:
        folders = [str(folder) for folder in folders_of(options.folder, count)]
        subprocess.run([sys.executable, "-c", LIST, *folders], check=True)
        encode(folders, count, options.detector)


def folders_of(folder: Path, count: int) -> Iterator[Path]:
    header = f"P6 {SIDE} {SIDE} 255\n".encode()
    for start in range(0, count, PER_FOLDER):
        part = folder / f"{start // PER_FOLDER:06d}"
        if not part.exists():
            part.mkdir(parents=True)
            for number in range(start, start + PER_FOLDER):
                row = number.to_bytes(3, "big") * SIDE
                (part / f"{number:09d}.ppm").write_bytes(header + row * SIDE)
        yield part


def encode(folders: list[str], count: int, detector: str) -> None:
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "featcodec", "encode", *folders, "-o", f"{output}/out", "--detector", detector]
        command += ["--bottleneck", "none", "--video-codec", "none", "--image-size", str(SIDE), "--cluster", "local"]
        started = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
            most = cpu = 0.0
            while driver.poll() is None:
                if Path(f"{output}/out").exists():
                    most, cpu = max(most, resident(driver.pid)), cpu_seconds(driver.pid) or cpu
                time.sleep(0.2)
        seconds = time.monotonic() - started
        made = sum(len(names) for _, _, names in os.walk(f"{output}/out"))
        print(
            f"{made} of {count} encoded in {seconds:.0f} s ({count / seconds:.0f} images/s); driver: at most "
            f"{most / 1e6:.0f} MB, {1000 * cpu / count:.2f} ms of CPU per image",
            flush=True,
        )
        shutil.rmtree(f"{output}/out", ignore_errors=True)


def resident(pid: int) -> int:
    """The memory of a process in bytes, without what it shares (Ray's object store)."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, IndexError):
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else 0.0


if __name__ == "__main__":
    main()
