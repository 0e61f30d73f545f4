"""Prints the table of `bin/compare-bottlenecks` from its rows: accuracy, bits and privacy of each bottleneck.

python benchmarks/bottleneck_table.py POINTS.csv NAME...
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from featcodec.errors import InputError
from featcodec.evaluation.bd import compare
from featcodec.evaluation.curves import read_curve
from featcodec.evaluation.report.frontier import PAPER, frontier
from featcodec.evaluation.report.study import read_study


def main(points: Path, names: Sequence[str]) -> None:
    """Print a table in Markdown with one column per bottleneck."""
    study = read_study([points], "ap50")
    of_name = {point.label: point for point in frontier(study)}
    assert study.detector is not None
    uncoded = float(study.detector["ap50"])
    print("| | " + " | ".join(f"`{name}`" for name in names) + " | the paper (yolov5m) |")
    print("| --- |" + " --- |" * (len(names) + 1))

    def line(what: str, cell: Callable[[str], str], paper: str = "") -> None:
        print(f"| {what} | " + " | ".join(cell(name) for name in names) + f" | {paper} |")

    def change(score: str) -> Callable[[str], str]:
        def cell(name: str) -> str:
            value = of_name[name].scores.get(score) if name in of_name else None
            return "not attacked" if value is None else f"{value:+.2f}"

        return cell

    accuracies = {row["bottleneck"]: float(row["ap50"]) for row in study.uncompressed if row["ap50"]}
    what = f"AP50 uncompressed, against {uncoded:.2f} uncoded"
    line(what, lambda name: f"{accuracies[name] - uncoded:+.1f}", f"{PAPER.accuracy:+.1f}")
    for score, what in (("psnr", "PSNR"), ("edge_psnr", "edge-PSNR")):
        line(
            f"{what} of the strongest attack, uncompressed, dB, against direct coding",
            change(score),
            f"{PAPER.scores[score]:+.2f}",
        )

    def attacks(name: str) -> str:
        found = of_name[name].attacks if name in of_name else ()
        return ", ".join(filter(None, found)) or ("one RecNet" if found else "none")

    line("attacks, the same on both sides", attacks, "RecNet")

    def difference(anchor: dict[str, str], attribute: str) -> Callable[[str], str]:
        def cell(name: str) -> str:
            curves = (
                read_curve(points, "ap50", anchor),
                read_curve(points, "ap50", {"method": "bottleneck", "bottleneck": name}),
            )
            try:
                value = getattr(compare(*curves), attribute)
            except InputError:
                return "no common AP50"
            return "" if value is None else f"{value:+.1f} %" if attribute == "bd_rate" else f"{value:+.2f} dB"

        return cell

    # Only the defaults have a layout. As a condition, an empty layout would mean any layout.
    parameters = {bool(row["layout"]): row["encoder_params"] for row in study.rows if row["method"] == "latent"}
    plain, default = ({"method": "latent", "encoder_params": parameters[layout]} for layout in (False, True))
    line("BD-rate against direct coding as the paper does it (`faithful`)", difference(plain, "bd_rate"), "-31.3 %")
    line("BD-rate against direct coding with the defaults", difference(default, "bd_rate"))
    line("BD-rate against the picture in VVC", difference({"method": "input-vvc"}, "bd_rate"))
    line("BD-PSNR of the strong attack against direct coding with the defaults", difference(default, "bd_psnr"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
