"""Compare the CPU time of networks on batches with their time on each image alone, in one run.

    .venv/bin/python benchmarks/one_by_one.py [--detector WEIGHTS] [--batch N] [--repeat N]

Prints the median ratio (alone / batch) for the front-end and the back-end at three image sizes, on one CPU thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from featcodec.detectors import load_detector

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default=str(ROOT.parent / "shared/weights/yolov5n.pt"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    detector = load_detector(options.detector, device="cpu")
    for side in (320, 512, 640):
        pictures = torch.rand(options.batch, 3, side, side)
        with torch.inference_mode():
            features = detector.front(pictures)
            ratios = [
                statistics.median(_ratio(networks, batch) for _ in range(options.repeat))
                for networks, batch in ((detector.front, pictures), (detector.back, features))
            ]
        print(f"{side} pixels: front-end {ratios[0]:.2f}, back-end {ratios[1]:.2f} of the time in batches")


def _ratio(networks: Callable[[Tensor], Tensor], batch: Tensor) -> float:
    together = _seconds(networks, [batch])
    return _seconds(networks, list(batch.split(1))) / together


def _seconds(networks: Callable[[Tensor], Tensor], batches: list[Tensor]) -> float:
    started = time.process_time()
    for batch in batches:
        networks(batch)
    return time.process_time() - started


if __name__ == "__main__":
    main()
