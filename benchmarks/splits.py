"""What a split costs and hides: bits, accuracy, attackers and work at the edge, as one table and one figure.

    python benchmarks/splits.py DETECTOR POINTS.csv... [--bottleneck FILE ...] --figure FILE.svg

POINTS.csv come from `featcodec sweep` with `--recnet`: methods uncoded, and latent or bottleneck, of one data set.
`bin/compare-splits` runs all of it.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter
from torch.utils.flop_counter import FlopCounterMode

from featcodec.detectors import load_detector
from featcodec.detectors.split import Split
from featcodec.networks.bottleneck import load_bottleneck

SIDE = 512
LOST = 1.0
"""The rate is read off the curve where AP50 is so many points below that of the detector without coding."""


@dataclass
class Side:
    """Latent coding behind a split, or a bottleneck."""

    split: int
    bottleneck: str
    bpp: list[float] = field(default_factory=list)
    ap50: list[float] = field(default_factory=list)
    qps: list[str] = field(default_factory=list)
    psnr: float = float("nan")
    edge_psnr: float = float("nan")
    uncompressed: float = float("nan")

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.split}, {self.bottleneck.removeprefix('scenes11-') or 'latent'}"

    def bits_at(self, ap50: float) -> float:
        """Bits per pixel at an accuracy, between the points of the upper envelope; NaN where the curve does not go."""
        points: list[tuple[float, float]] = []
        for bpp, accuracy in sorted(zip(self.bpp, self.ap50, strict=True)):
            if not points or accuracy > points[-1][1]:
                points.append((bpp, accuracy))
        accuracies = [accuracy for _, accuracy in points]
        if not points or not accuracies[0] <= ap50 <= accuracies[-1]:
            return float("nan")
        return float(np.exp(np.interp(ap50, accuracies, np.log([bpp for bpp, _ in points]))))


def read(paths: list[Path]) -> tuple[dict[tuple[int, str], Side], float]:
    """The sides, and the detector's own AP50."""
    sides: dict[tuple[int, str], Side] = {}
    own: dict[str, list[float]] = defaultdict(list)
    for path in paths:
        with path.open() as file:
            for row in csv.DictReader(file):
                key = int(row["split"]), row["bottleneck"]
                side = sides.setdefault(key, Side(*key))
                if row["method"] == "uncoded":
                    own[row["bottleneck"]].append(float(row["ap50"]))
                    side.uncompressed = float(row["ap50"])
                    if row["psnr"]:
                        side.psnr, side.edge_psnr = float(row["psnr"]), float(row["edge_psnr"])
                else:
                    side.bpp.append(float(row["bpp"]))
                    side.ap50.append(float(row["ap50"]))
                    side.qps.append(row["qp"])
    return sides, own[""][0]


def at_the_edge(side: Side, split: Split, bottlenecks: dict[str, Path]) -> tuple[int, int, float]:
    """For one square image: the tensors that cross the wire, their samples, and the GFLOP of front-end and AE."""
    if not side.bottleneck:
        return len(split.shapes), split.samples, split.flops / 1e9
    encoder = load_bottleneck(bottlenecks[side.bottleneck])
    levels = tuple(torch.zeros(1, *shape) for shape in split.shapes)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        tensor = encoder.encode(levels if len(levels) > 1 else levels[0])
    return 1, tensor.numel(), (split.flops + int(counter.get_total_flops())) / 1e9


def point_at(side: Side, qp: str) -> str:
    """Rate and accuracy at a QP, for people."""
    if qp not in side.qps:
        return "not measured"
    place = side.qps.index(qp)
    return f"{side.bpp[place]:.3f}, {side.ap50[place]:.2f}"


def main() -> None:
    """Print the table, and draw the figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("detector")
    parser.add_argument("points", nargs="+", type=Path)
    parser.add_argument("--bottleneck", action="append", default=[], type=Path)
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--qp", default="38", help="rate and accuracy at this QP stand in the table")
    options = parser.parse_args()
    sides, own = read(options.points)
    bottlenecks = {path.stem: path for path in options.bottleneck}
    splits = {each.layer: each for each in load_detector(options.detector, device="cpu").splits(SIDE, SIDE)}
    wanted = own - LOST
    print(f"AP50 without coding: {own:.2f}; rate at AP50 {wanted:.2f}\n")
    at_qp = f"QP {options.qp}: bpp, AP50"
    columns = ("split, coding", "tensors", "samples", "GFLOP at the edge", "bpp", at_qp, "AP50 uncompressed")
    print("| " + " | ".join((*columns, "attacker, PSNR / edge-PSNR, dB")) + " |")
    print("| --- " * (len(columns) + 1) + "|")
    figure, (rates, seen) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for _, side in sorted(sides.items()):
        split = splits[side.split]
        tensors, samples, work = at_the_edge(side, split, bottlenecks)
        bits = side.bits_at(wanted)
        shown = "not reached" if np.isnan(bits) else f"{bits:.3f}"
        attacked = "no attacker" if np.isnan(side.psnr) else f"{side.psnr:.2f} / {side.edge_psnr:.2f}"
        print(
            f"| {side.name} | {tensors} | {samples:,} | {work:.2f} | {shown} | {point_at(side, options.qp)} | "
            f"{side.uncompressed:.2f} | {attacked} |"
        )
        style = "-" if side.bottleneck else "--"
        order = np.argsort(side.bpp)
        rates.plot(np.array(side.bpp)[order], np.array(side.ap50)[order], style, marker="o", label=side.name)
        seen.scatter(work, side.psnr, marker="o" if side.bottleneck else "s")
        seen.annotate(side.name, (work, side.psnr), xytext=(5, 4), textcoords="offset points", fontsize=8)
    rates.axhline(own, color="gray", linewidth=0.8)
    rates.set(xscale="log", xlabel="bits per pixel", ylabel="AP50", title="Rate and accuracy by split")
    rates.xaxis.set(
        major_locator=LogLocator(10, (1, 2, 5)), major_formatter=ScalarFormatter(), minor_locator=NullLocator()
    )
    rates.legend(fontsize=8)
    seen.margins(0.2)
    seen.set(
        xlabel="GFLOP at the edge, 512x512 pixels",
        ylabel="attacker's PSNR, dB",
        title="Work at the edge, and the attacker",
    )
    for axes in (rates, seen):
        axes.grid(alpha=0.3)
    figure.savefig(options.figure)


if __name__ == "__main__":
    main()
