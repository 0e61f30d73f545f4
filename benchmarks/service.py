"""What a server costs and how it bears too much: overhead, overload, and many minutes.

python benchmarks/service.py overhead   # against FeatureCodec.decode in this process, in turns
python benchmarks/service.py overload   # five times the frames that it can decode, by four cameras
python benchmarks/service.py flood      # the same by new clients, one per request, beside a camera
python benchmarks/service.py sustained --minutes 10

Each starts `featcodec serve` as a process on this machine, with street scenes as streams. The clients run on the same
cores; so of overhead, the core-milliseconds of the server alone are shown besides. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from service_clients import BATCH, flooded, watch

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A server that runs as a process."""

    process: subprocess.Popen[str]
    url: str

    def processes(self) -> list[int]:
        """The server and all processes below it."""
        parents: dict[int, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(folder.name))
        found = [self.process.pid]
        for each in found:
            found += parents.get(each, [])
        return found

    def cpu_seconds(self) -> float:
        """CPU time of all its processes until now."""
        ticks = 0
        for number in self.processes():
            with contextlib.suppress(OSError):
                ticks += sum(map(int, Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[11:15]))
        return ticks / _TICKS

    def memory(self) -> float:
        """MiB of memory of the server and all processes below it, shared pages counted in each."""
        pages = 0
        for number in self.processes():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{number}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def serving(detector: str, *options: str) -> Iterator[Server]:
    """A server that is ready."""
    command = [sys.executable, "-m", "featcodec", "serve", "--detector", detector, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz"):  # noqa: S310
                    break
                time.sleep(0.1)
            yield Server(process, url)
        finally:
            process.terminate()
            assert process.wait(60) == 0


def make_streams(detector: str, video_codec: str, count: int = 16) -> list[bytes]:
    """Streams of street scenes."""
    from featcodec import FeatureCodec
    from featcodec.scenes.dataset import IMAGES, write_scenes

    codec = FeatureCodec.load(detector, video_codec=video_codec, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        for _ in write_scenes(Path(folder), count, seed=1):
            pass
        return [codec.encode(path) for path in sorted((Path(folder) / IMAGES).iterdir())]


def overhead(detector: str, streams: list[bytes], seconds: float, rounds: int) -> None:
    """Frames per second of the server against `FeatureCodec.decode` in batches of four, one thread per core each."""
    import torch

    from featcodec import FeatureCodec
    from featcodec.detections import BoxFilter
    from featcodec.system.batching import cores

    torch.set_num_threads(1)
    codec = FeatureCodec.load(detector, boxes=BoxFilter(conf=0.25), precision="auto")
    batches = [streams[start : start + BATCH] for start in range(0, len(streams), BATCH)]

    def here() -> tuple[float, float]:
        until, used = time.monotonic() + seconds, time.process_time()
        started = time.monotonic()

        def work(thread: int) -> int:
            count = 0
            while time.monotonic() < until:
                count += len(codec.decode(batches[(thread + count) % len(batches)]))
            return count

        with ThreadPoolExecutor(cores()) as pool:
            count = sum(pool.map(work, range(cores())))
        return count / (time.monotonic() - started), 1000 * (time.process_time() - used) / count

    ratios, costs = [], []
    with serving(detector) as server:
        here(), watch(server.url, streams, 3)
        for _ in range(rounds):
            rate, cost = here()
            used = server.cpu_seconds()
            seen = watch(server.url, streams, seconds)
            served = 1000 * (server.cpu_seconds() - used) / seen.statuses[200]
            assert set(seen.statuses) == {200}
            ratios.append(seen.rate / rate)
            costs.append(served / cost)
            print(
                f"here {rate:.1f} frames/s, {cost:.1f} core-ms; server {seen.rate:.1f} frames/s, {served:.1f} core-ms; "
                f"ratios {ratios[-1]:.3f} and {costs[-1]:.3f}",
                flush=True,
            )
    print(f"median: {statistics.median(ratios):.3f} of the frames/s, {statistics.median(costs):.3f} of the core-ms")


def overload(detector: str, streams: list[bytes], seconds: float) -> None:
    """At capacity (each camera has four frames in work), and at five times as many frames per second."""
    with serving(detector) as server:
        watch(server.url, streams, 3)
        at = watch(server.url, streams, seconds)
        before = server.memory()
        over = watch(server.url, streams, seconds, 5 * at.rate)
        for what, seen in (("capacity", at), ("5 times", over)):
            print(
                f"{what}: {seen.rate:.1f} frames/s detected, statuses {dict(seen.statuses)}, "
                f"p50 {seen.percentile(0.5):.0f} ms, p95 {seen.percentile(0.95):.0f} ms"
            )
        print(
            f"p95 ratio {over.percentile(0.95) / at.percentile(0.95):.2f}; "
            f"memory {before:.0f}, then {server.memory():.0f} MiB"
        )


def flood(detector: str, streams: list[bytes], seconds: float) -> None:
    """At capacity (four cameras), and at five times as many new clients per second, beside a slow camera."""
    with serving(detector) as server:
        watch(server.url, streams, 3)
        at = watch(server.url, streams, seconds)
        before = server.memory()
        clients, beside = flooded(server.url, streams, seconds, 5 * at.rate)
        for what, seen in (("capacity", at), ("5 times", clients), ("camera", beside)):
            print(
                f"{what}: {seen.rate:.1f} frames/s detected, statuses {dict(seen.statuses)}, "
                f"p50 {seen.percentile(0.5):.0f} ms, p95 {seen.percentile(0.95):.0f} ms"
            )
        print(
            f"p95 ratio {clients.percentile(0.95) / at.percentile(0.95):.2f}, of the camera "
            f"{beside.percentile(0.95) / at.percentile(0.95):.2f}; memory {before:.0f}, then {server.memory():.0f} MiB"
        )


def sustained(detector: str, streams: list[bytes], minutes: float, rate: float) -> None:
    """Four cameras for some minutes."""
    with serving(detector) as server:
        total: Counter[int] = Counter()
        print(f"start: {server.memory():.0f} MiB", flush=True)
        until, minute = time.monotonic() + 60 * minutes, 0
        while time.monotonic() < until:
            seen = watch(server.url, streams, min(60, max(1, until - time.monotonic())), rate)
            total += seen.statuses
            minute += 1
            print(
                f"minute {minute}: {seen.rate:.1f} frames/s, statuses {dict(seen.statuses)}, "
                f"p95 {seen.percentile(0.95):.0f} ms, {server.memory():.0f} MiB",
                flush=True,
            )
        print(f"all: statuses {dict(total)}")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "overload", "flood", "sustained"])
    parser.add_argument("--detector", default="scenes11")
    parser.add_argument("--video-codec", choices=["ffmpeg", "hevc"], default="ffmpeg", help="of the streams")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of overhead")
    parser.add_argument("--minutes", type=float, default=10, help="of sustained")
    parser.add_argument("--rate", type=float, default=8, help="of sustained: frames per second of all cameras")
    arguments = parser.parse_args()
    streams = make_streams(arguments.detector, arguments.video_codec)
    if arguments.what == "overhead":
        overhead(arguments.detector, streams, arguments.seconds, arguments.rounds)
    elif arguments.what == "overload":
        overload(arguments.detector, streams, arguments.seconds)
    elif arguments.what == "flood":
        flood(arguments.detector, streams, arguments.seconds)
    else:
        sustained(arguments.detector, streams, arguments.minutes, arguments.rate)


if __name__ == "__main__":
    main()
