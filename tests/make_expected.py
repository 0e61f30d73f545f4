"""The whole pipeline on a few drawn scenes, with the weights that ship and real VVC, by its commands: its figures.

    python tests/make_expected.py      # writes tests/expected/scenes.json; takes half a minute

To be run after other weights ship, or after a change that is meant to move the figures; their diff then shows by how
much. tests/test_scenes_pipeline.py measures the same again and compares.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from plate_set import SEED

from featcodec import FeatureCodec
from featcodec.cli.main import main
from featcodec.evaluation.points import PointFile
from featcodec.networks.checkpoints import fingerprint
from featcodec.privacy.attackers import shipped_attacker
from featcodec.privacy.plate_reader import shipped_plate_reader

EXPECTED = Path(__file__).parent / "expected" / "scenes.json"
COUNT = 16
# Where accuracy falls: above, curves are flat, and on a few scenes not monotone.
QPS = {"bottleneck": "38,42,44,46", "latent": "40,43,45,47"}
QUALITIES = "10,30,80"
# Not auto: on a GPU networks compute in half precision, which is not what was stored.
MODEL = ("--detector", "scenes", "--device", "cpu")
CURVES = ("--anchor", "method=latent", "--test", "method=bottleneck")


def featcodec(*arguments: object) -> Any:
    """What a command prints with --json."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            main([*map(str, arguments), "--json"])
        except SystemExit as stop:
            if stop.code:
                raise AssertionError(f"featcodec {arguments[0]} ended with {stop.code}") from stop
    return json.loads(printed.getvalue())


def names_of_weights() -> dict[str, str]:
    """Fingerprints of everything that the figures depend on."""
    alley, latent = (FeatureCodec.load("scenes", bottleneck=name, device="cpu") for name in ("alley", "none"))
    networks = {
        "alley RecNet": shipped_attacker(alley.model),
        "latent RecNet": shipped_attacker(latent.model),
        "plate reader": shipped_plate_reader(),
    }
    names = {name: fingerprint(network.state_dict()) for name, network in networks.items()}
    codecs = {"scenes": latent.fingerprint, "alley": alley.fingerprint}
    return {name: digest.hex() for name, digest in {**codecs, **names}.items()}


def run_pipeline(folder: Path) -> dict[str, Any]:
    """Everything, into a new folder: scenes/, streams/, detections.json, points.csv, attack/ and report.html.

    Returns:
        the figures, by command; as they stand in the expected file.
    """
    scenes, streams, points = folder / "scenes", folder / "streams", folder / "points.csv"
    images, truth = scenes / "images", ("--annotations", scenes / "annotations.json")
    drawn = featcodec("scenes", "-o", scenes, "-n", COUNT, "--seed", SEED, "--workers", 1)
    encoded = featcodec("encode", images, "-o", streams, *MODEL)
    decoded = featcodec("decode", streams, "-o", folder / "detections.json", *truth, *MODEL)
    evaluated = featcodec("evaluate", folder / "detections.json", *truth, "--streams", streams)
    sweep = ("sweep", images, *truth, "-o", points, *MODEL, "--quality", QUALITIES, "--recnet", "auto")
    featcodec(*sweep, "--method", "uncoded", "--method", "input-jpeg")
    for method, qps in QPS.items():
        featcodec(*sweep, "--method", method, "--qp", qps)
    compared = {metric: featcodec("bd", points, points, *CURVES, "--metric", metric) for metric in ("ap50", "ap")}
    private = ("--latent-recnet", "auto", "--private", scenes / "private.json")
    inverted = featcodec("invert", images, "-o", folder / "attack", *MODEL, *private)
    shown = ("--attack", folder / "attack", "--originals", images, "--markdown", folder / "report.md")
    reported = featcodec("report", points, "-o", folder / "report.html", *shown)
    plates = inverted["plates"]
    figures = {
        "scenes": {"objects": drawn["objects"], "readable plates": drawn["readable"]["plate"]},
        "encode": {name: encoded[name] for name in ("encoded", "failed", "bytes", "bpp")},
        "decode": {name: decoded[name] for name in ("decoded", "failed")},
        "evaluate": {name: evaluated[name] for name in ("images", "bpp", "bytes", "ap50", "ap")},
        "sweep": _sweep(points),
        "bd": {metric: {name: bd[name] for name in ("bd_rate", "bd_psnr")} for metric, bd in compared.items()},
        "invert": {name: inverted[name] for name in ("psnr", "edge_psnr", "latent_psnr", "latent_edge_psnr")},
        "plates": {"readable": plates["readable"], "characters": plates["characters"]},
        "report": {name: reported[name] for name in ("points", "curves", "attacks")},
    }
    rounded: dict[str, Any] = json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 5))
    return rounded


def _sweep(points: Path) -> dict[str, dict[str, float]]:
    """What was measured at each point, by a name for people."""
    measured = {}
    for row in PointFile(points).rows():
        name = " ".join(part for part in (row["method"], row["bottleneck"], row["qp"] or row["quality"]) if part)
        figures = {"bytes": int(row["bytes"])}
        columns = ("bpp", "ap50", "ap", "psnr", "edge_psnr")
        measured[name] = {**figures, **{column: float(row[column]) for column in columns if row[column]}}
    return measured


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        content = {"weights": names_of_weights(), **run_pipeline(Path(temporary))}
    EXPECTED.parent.mkdir(exist_ok=True)
    EXPECTED.write_text(json.dumps(content, indent=2) + "\n")
    sys.stderr.write(f"{EXPECTED}\n")
