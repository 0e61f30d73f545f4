"""Measure `featcodec stream` against `featcodec serve`: latency from capture to answer, frames and bits a second.

    .venv/bin/python benchmarks/stream.py [--detector scenes11] [--model DIR] [--fps 10] [--seconds 20] [--quick]

Both programs run on this machine, as processes of their own. Between them there is loopback alone, or the proxy of
tests/slow_link.py: 1 Mbit/s and 100 ms each way. Each row is one run. The baseline of the slow link is the row of
loopback with the same settings; that of `--bitrate` is its target. Pictures are drawn scenes, played in a loop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from slow_link import slow_link  # noqa: E402

ENTRY = [sys.executable, "-m", "featcodec"]
SLOW = {"bits_per_second": 1e6, "delay": 0.1}
CUT_SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="scenes11")
    parser.add_argument("--model", help="folder of an exported model: the edge without PyTorch")
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--scenes", type=int, default=24, help="pictures that are drawn")
    parser.add_argument("--quick", action="store_true", help="without the run whose network is cut for 30 s")
    options = parser.parse_args()
    edge = ["--model", options.model] if options.model else ["--detector", options.detector]
    with tempfile.TemporaryDirectory() as folder, serving(options.detector) as url:
        images = draw(Path(folder), options.scenes)
        common = [str(images), "--loop", "--fps", str(options.fps), *edge, "--seconds", str(options.seconds)]
        print("| link | options | frames/s | p50 ms | p95 ms | kbit/s | frames | dropped | late | lost |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        stream(Path(folder), url, common, "loopback")
        stream(Path(folder), url, common, "loopback", "--in-flight", "1")
        with slow_link(urlsplit(url).port, **SLOW) as link:
            slow = f"http://127.0.0.1:{link.port}"
            stream(Path(folder), slow, common, "1 Mbit/s, 100 ms")
            stream(Path(folder), slow, common, "1 Mbit/s, 100 ms", "--qp", "20")
            for target in ("50k", "100k", "200k", "400k"):
                stream(Path(folder), slow, common, "1 Mbit/s, 100 ms", "--bitrate", target)
            if not options.quick:
                timers = [threading.Timer(15, link.cut), threading.Timer(15 + CUT_SECONDS, link.mend)]
                for timer in timers:
                    timer.start()
                longer = [*common, "--seconds", str(CUT_SECONDS + 45)]
                stream(Path(folder), slow, longer, f"the same, {CUT_SECONDS} s without network")


@contextlib.contextmanager
def serving(detector: str) -> Iterator[str]:
    """The address of a server that is ready."""
    command = [*ENTRY, "serve", "--port", "0", "--detector", detector]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait(60)


def draw(folder: Path, count: int) -> Path:
    """A folder of drawn scenes."""
    from featcodec.scenes.dataset import IMAGES, write_scenes

    for _ in write_scenes(folder / "scenes", count):
        pass
    return folder / "scenes" / IMAGES


def stream(folder: Path, url: str, common: list[str], link: str, *options: str) -> dict[str, Any]:
    """One run, and its row of the table."""
    arguments = ["stream", *common, *options, "--to", url, "-o", str(folder / "lines.jsonl"), "--overwrite", "--json"]
    done = subprocess.run([*ENTRY, *arguments], stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    row: dict[str, Any] = json.loads(done.stdout)
    latency = row["latency_ms"]
    cells = (
        link,
        " ".join(options),
        f"{row['frames_per_second']:.1f}",
        latency["p50"],
        latency["p95"],
        f"{row['bits_per_second'] / 1e3:.1f}",
        *(row[name] for name in ("frames", "dropped", "late", "lost")),
    )
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return row


if __name__ == "__main__":
    main()
