"""Compare encoding on a Ray cluster with encoding without one, and two nodes with one, in one run.

    .venv/bin/python benchmarks/cluster.py [--images DIR] [--detector WEIGHTS] [--count N]

Prints seconds and images per second of: the command without a cluster; with `--cluster local`; one node, pinned to one
core; two nodes, each pinned to a core of its own. The program that starts a run is pinned to the core of the first
node. "steady" is from the first file to the last, without the start. The files must be the same (`diff -r`). Needs
Linux, two cores at least, and nothing else running.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENTRY = [sys.executable, "-m", "featcodec"]
RAY = [str(Path(sys.executable).parent / "ray")]
PORT = 6390


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=ROOT.parent / "shared/data/unlabeled1000")
    parser.add_argument("--detector", default=str(ROOT.parent / "shared/weights/yolov5n.pt"))
    parser.add_argument("--count", type=int, default=2000, help="images; each file is taken as often as needed")
    options = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    with tempfile.TemporaryDirectory() as folder:
        images = several(options.images, Path(folder) / "in", options.count)
        few = several(options.images, Path(folder) / "few", options.count // 4)
        plain = encode(images, Path(folder) / "plain", options.detector)
        report("without a cluster", options.count, *plain)
        local = encode(images, Path(folder) / "local", options.detector, "--cluster", "local")
        report("--cluster local", options.count, *local)
        same(Path(folder) / "plain", Path(folder) / "local")
        print(f"overhead: {100 * (local[0] / plain[0] - 1):.1f} %")
        rates = []
        for nodes in (1, 2):
            found = on_nodes(nodes, few, Path(folder) / f"nodes{nodes}", options.detector)
            report(f"{nodes} pinned node(s)", options.count // 4, *found)
            rates.append(found[1])
        same(Path(folder) / "nodes1", Path(folder) / "nodes2")
        print(f"two nodes against one: {rates[0] / rates[1]:.2f} times, steady")


def several(source: Path, folder: Path, count: int) -> Path:
    """A folder of copies of images. Links to one file would count as one image."""
    folder.mkdir()
    files = sorted(path for path in source.iterdir() if path.is_file())
    for number in range(count):
        file = files[number % len(files)]
        (folder / f"{number:06d}{file.suffix}").write_bytes(file.read_bytes())
    return folder


def encode(images: Path, output: Path, detector: str, *more: str, pinned: str = "") -> tuple[float, float]:
    """Seconds of the whole command, and from the first file to the last."""
    command = [*(["taskset", "-c", pinned] if pinned else []), *ENTRY, "encode", str(images), "-o", str(output)]
    started = time.monotonic()
    subprocess.run([*command, "--qp", "40", "--detector", detector, *more], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    times = [path.stat().st_mtime for path in output.iterdir()]
    return seconds, max(times) - min(times)


def on_nodes(nodes: int, images: Path, output: Path, detector: str) -> tuple[float, float]:
    start = [*RAY, "start", "--num-cpus", "1", "--object-store-memory", str(1 << 30), "--disable-usage-stats"]
    try:
        for node in range(nodes):
            where = ["--address", f"127.0.0.1:{PORT}"] if node else ["--head", "--port", str(PORT)]
            subprocess.run(["taskset", "-c", str(node), *start, *where], check=True, stdout=subprocess.DEVNULL)
        return encode(images, output, detector, "--cluster", f"127.0.0.1:{PORT}", pinned="0")
    finally:
        subprocess.run([*RAY, "stop", "--force"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def report(name: str, count: int, seconds: float, steady: float) -> None:
    print(f"{name}: {seconds:.1f} s, {count / seconds:.1f} images/s; steady {count / steady:.1f} images/s", flush=True)


def same(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert filecmp.cmpfiles(one, other, names, shallow=False) == (names, [], [])


if __name__ == "__main__":
    main()
