"""The scripts in bin/, run as people run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_set import make_sweep_set

from featcodec import FeatureCodec
from featcodec.bitstream import read_file, unpack
from featcodec.evaluation.coco import score
from featcodec.evaluation.curves import read_curve
from featcodec.evaluation.rate import rate_of_streams
from featcodec.images.annotations import read_annotations, read_results
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck

BIN = Path(__file__).resolve().parents[1] / "bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> Path:
    """Two pictures with names and categories that are not COCO's."""
    folder = make_sweep_set(tmp_path_factory.mktemp("set"), tiny_yolov5, 2)
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        picture = folder / "in" / image["file_name"]
        image["file_name"] = picture.rename(picture.with_name(f"picture-{image['id']}.png")).name
    for entry in content["annotations"]:
        entry["category_id"] += 100
    for category in content["categories"]:
        category["id"] += 100
    path.write_text(json.dumps(content))
    return folder


def run(script: str, *arguments: object, bottleneck: object = "none") -> subprocess.CompletedProcess[str]:
    """The script, with the featcodec under test in PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(BIN / script), *map(str, arguments)]
    environment = {**os.environ, "PATH": path, "BOTTLENECK": str(bottleneck)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_sweep_qp_measures_what_lacks(folder: Path, tiny_yolov5: Path, tmp_path: Path) -> None:
    """With a bottleneck of one's own, which neither encoder nor decoder could find by themselves."""
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=None)
    own = tmp_path / "own.safetensors"
    save_bottleneck(own, Bottleneck(BottleneckConfig(16, 10, 6, -3.0, 3.0, 4, codec.fingerprint.hex(), {})))
    csv, streams = tmp_path / "curve.csv", tmp_path / "curve-streams/40"
    csv.write_text("qp,bpp,ap50,ap\n30,99,12.5,6.25\n")
    arguments = [csv, folder / "in", folder / "annotations.json", tiny_yolov5, 30, 40]
    done = run("sweep-qp", *arguments, bottleneck=own)
    assert done.returncode == 0, done.stderr
    assert csv.read_text() == f"qp,bpp,ap50,ap\n30,99,12.5,6.25\n{done.stdout}"
    measured, known = read_curve(csv, "ap50").points
    assert (measured.row["qp"], known.row["qp"], known.rate) == ("40", "30", 99)
    files = sorted(streams.glob("*.266"))
    headers = [unpack(read_file(file))[0] for file in files]
    learned = FeatureCodec.load(tiny_yolov5, bottleneck=own)
    assert [(header.qp, header.fingerprint) for header in headers] == [(40, learned.fingerprint)] * 2
    accuracy = score(read_annotations(folder / "annotations.json"), read_results(streams.with_suffix(".json")))
    assert measured.rate == pytest.approx(rate_of_streams(files).bpp, abs=5e-5)
    assert [measured.accuracy, float(measured.row["ap"])] == pytest.approx([accuracy.ap50, accuracy.ap], abs=5e-3)
    before = csv.stat().st_mtime_ns
    again = run("sweep-qp", *arguments, bottleneck=own)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert csv.stat().st_mtime_ns == before


@pytest.mark.slow
def test_sweep_qp_adds_no_point_that_failed(folder: Path, tiny_yolov5: Path, tmp_path: Path) -> None:
    csv = tmp_path / "curve.csv"
    failed = run("sweep-qp", csv, folder / "none", folder / "annotations.json", tiny_yolov5, 40)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    assert csv.read_text() == "qp,bpp,ap50,ap\n"
    assert run("sweep-qp", csv).returncode != 0


def test_scripts_are_valid_bash() -> None:
    for script in sorted(BIN.iterdir()):
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert script.name == "common.sh" or os.access(script, os.X_OK)
