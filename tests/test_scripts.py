"""The scripts in bin/, run as people run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sweep_set import make_sweep_set

from featcodec import FeatureCodec
from featcodec.bitstream import read_file, unpack
from featcodec.evaluation.coco import score
from featcodec.evaluation.curves import read_curve
from featcodec.evaluation.rate import rate_of_streams
from featcodec.images.annotations import read_annotations
from featcodec.images.results import read_results
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.scenes.video import write_drive

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


def conformance(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What bin/conformance runs once featcodec is installed."""
    script = BIN.parent / "benchmarks" / "conformance.py"
    command = [sys.executable, str(script), "--images", "0", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_conformance_holds_with_what_is_there() -> None:
    done = conformance()
    assert done.returncode == 0, done.stderr
    assert re.search(r"tests/golden, decoded by PyAV: (\d+) of \1 streams agree", done.stdout)
    assert re.search(r"^(\d+) of \1 streams decode to the same samples", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_conformance_fails_where_a_decoder_gets_other_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vvdecapp that makes a gray picture of 96x64 samples, whatever it is given."""
    (tmp_path / "vvencapp").write_text("#!/bin/sh\nexit 1\n")
    gray = """printf 'YUV4MPEG2 W96 H64 F1:1 Ip C420p10\\nFRAME\\n' >"$4"; head -c 12288 /dev/zero >>"$4\""""
    (tmp_path / "vvdecapp").write_text(f"#!/bin/sh\n{gray}\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("FEATCODEC_VVC_BIN", str(tmp_path))
    done = conformance("--keep", tmp_path / "kept")
    assert done.returncode == 1
    assert "golden-6ch-qp38: vvdecapp decodes" in done.stderr
    assert "golden-v2-20ch-qp38: vvdecapp fails: its VVC stream decodes to" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "kept" / "golden-6ch-qp38.266").is_file()


@pytest.mark.slow
def test_the_live_demo_streams_and_ends(tmp_path: Path) -> None:
    """With a short drive; without one, the script draws a long one first."""
    video = tmp_path / "street.mp4"
    list(write_drive(video, 8, 4, workers=1))
    environment = {**os.environ, "FEATCODEC": str(Path(sys.executable).with_name("featcodec"))}
    command = [str(BIN / "live-demo"), str(video), "--seconds", "8", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        lines = []
        while not (lines := [*lines, demo.stdout.readline()])[-1].startswith("== the page: "):
            assert lines[-1], demo.communicate()[1]
        url = lines[-1].split()[-1]
        assert "<title>featcodec</title>" in httpx.get(url, timeout=60).text
        answered = 0.0
        while not answered:
            assert demo.poll() is None, demo.communicate()[1]
            (line,) = re.findall(r"^featcodec_streams_total (\S+)$", httpx.get(f"{url}/metrics", timeout=60).text, re.M)
            answered = float(line)
        assert demo.communicate()[1] == ""
    assert demo.returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.slow
def test_the_live_demo_says_why_the_edge_ended(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    environment = {**os.environ, "FEATCODEC": str(Path(sys.executable).with_name("featcodec"))}
    command = [str(BIN / "live-demo"), str(tmp_path / "pictures"), "--port", "0"]
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("the edge ended by itself:\n")
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("arguments", [["--port"], ["--seconds", "x"], ["--fast"], ["a", "b"]])
def test_the_live_demo_says_how_it_is_used(arguments: list[str]) -> None:
    refused = subprocess.run([str(BIN / "live-demo"), *arguments], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("usage: bin/live-demo ")


def test_scripts_are_valid_bash() -> None:
    for script in sorted(BIN.iterdir()):
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert script.name == "common.sh" or os.access(script, os.X_OK)
