"""`encode --model`: an exported model codes files as the networks in PyTorch do, without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exported_model import QP, small_codec
from pictures import save_texture
from refusals import assert_refused

from featcodec import bitstream
from featcodec.edge import EdgeEncoder

SIZES = ((120, 90), (90, 120), (120, 90), (64, 48))
HEVC = ("--codec", "hevc")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, (width, height) in enumerate(SIZES):
        save_texture(folder / f"{number}.png", width, height, seed=number)
    return folder


def streams_in(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


def test_the_streams_are_those_of_the_encoder_in_python(
    run: Any, pictures: Path, exported_model: Path, tmp_path: Path
) -> None:
    code, out, err = run("encode", pictures, "-o", tmp_path / "out", "--model", exported_model, *HEVC)
    assert (code, err) == (0, "")
    assert out.startswith("4 encoded, ")
    encoder = EdgeEncoder.load(exported_model, threads=1)
    assert encoder.default_qp == QP
    assert streams_in(tmp_path / "out") == {path.stem: encoder.encode(path) for path in pictures.iterdir()}
    code, out, err = run("encode", pictures, "-o", tmp_path / "out", "--model", exported_model, *HEVC)
    assert (code, err) == (0, "")
    assert out.startswith("0 encoded, 4 already there, ")


@pytest.mark.parametrize(("codec", "suffix"), [("hevc", ".265"), ("ffmpeg", ".266")])
def test_the_side_info_is_that_of_the_networks_in_pytorch(
    run: Any, pictures: Path, exported_model: Path, tmp_path: Path, codec: str, suffix: str
) -> None:
    options = ("--codec", codec, "--preset", "medium" if codec == "hevc" else "faster", "--qp", 33)
    assert run("encode", pictures, "-o", tmp_path / "out", "--model", exported_model, *options)[0] == 0
    ours = small_codec(video_codec=codec, preset=options[3])
    for path in pictures.iterdir():
        made, _ = bitstream.unpack((tmp_path / f"out/{path.stem}{suffix}").read_bytes())
        assert made == bitstream.unpack(ours.encode(path, 33))[0]
    results = tmp_path / "found.json"
    decoded = run("decode", tmp_path / "out", "-o", results, "--detector", "scenes", "--bottleneck", "street")
    assert decoded[0] == 0
    assert json.loads(results.read_text()) is not None


def test_shards_and_bad_images(run: Any, pictures: Path, exported_model: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "in")
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG\r\n")
    model = ("--model", exported_model, *HEVC)
    code, out, err = run("encode", tmp_path / "in", "-o", tmp_path / "shards", *model, "--shards", 2)
    assert (code, err.count("\n")) == (1, 1)
    assert "broken.png" in err
    assert out.startswith("4 encoded, 0 already there, 1 failed")
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 2


@pytest.mark.parametrize(
    "option",
    [
        *(("--detector", "yolov5n"), ("--bottleneck", "none"), ("--split", "4"), ("--clip", "0", "1"), ("--bits", "6")),
        *(("--image-size", "96"), ("--square",), ("--precision", "float32"), ("--device", "cpu"), ("--layout", "none")),
    ],
)
def test_what_the_model_has_decided_is_left_out(
    run: Any, pictures: Path, exported_model: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    code, _, err = run("encode", pictures, "-o", tmp_path / "out", "--model", exported_model, *option)
    assert code == 2
    assert f"{option[0]} is decided by the exported model" in err
    assert not (tmp_path / "out").exists()


def test_a_cluster_runs_no_exported_model(run: Any, pictures: Path, exported_model: Path, tmp_path: Path) -> None:
    code, _, err = run("encode", pictures, "-o", tmp_path, "--model", exported_model, "--cluster", "local")
    assert code == 2
    assert "--model and --cluster exclude each other" in err


def test_a_folder_without_a_model_is_one_line(run: Any, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run("encode", pictures, "-o", tmp_path / "out", "--model", tmp_path / "empty")
    assert_refused(outcome, "model.json")


def test_a_network_that_fails_on_an_image_is_a_failure_of_that_image(
    run: Any, pictures: Path, exported_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(exported_model, tmp_path / "model"))
    content = json.loads((model / "model.json").read_text())
    content["tensors"] = [[20, 16]]  # half as large as what the network makes
    (model / "model.json").write_text(json.dumps(content))
    code, out, err = run("encode", pictures, "-o", tmp_path / "out", "--model", model, *HEVC)
    assert code == 1
    assert out.startswith("0 encoded, 0 already there, 4 failed")
    assert err.count("\n") == 4
    assert err.count("model.json says") == 4


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["ultralytics"] = None  # an import raises ImportError
from featcodec.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("codec", ["hevc", "ffmpeg"])
def test_it_works_without_torch(pictures: Path, exported_model: Path, tmp_path: Path, codec: str) -> None:
    arguments = ["encode", pictures, "-o", tmp_path / "out", "--model", exported_model, "--codec", codec, "--qp", "40"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("4 encoded, ")
    assert len(streams_in(tmp_path / "out")) == 4
