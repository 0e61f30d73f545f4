"""`--codec hevc` in every command that takes streams, and `--precision`."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pictures import save_texture

from featcodec import bitstream
from featcodec.bitstream import HEVC, nal

SIZE = ("--image-size", 96)
SIZES = ((120, 90), (90, 120), (120, 90), (100, 100), (64, 48))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, (width, height) in enumerate(SIZES):
        save_texture(folder / f"{number}.png", width, height, seed=number)
    return folder


@pytest.fixture
def encode(run: Any, pictures: Path, tiny_yolov5: Path) -> Any:
    def call(output: Path, *options: object, qp: int = 30) -> tuple[int, str, str]:
        return run("encode", pictures, "-o", output, "--detector", tiny_yolov5, "--qp", qp, *SIZE, *options)

    return call


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_streams_are_265_files_that_every_command_takes(
    run: Any, encode: Any, pictures: Path, tmp_path: Path, tiny_yolov5: Path
) -> None:
    streams = tmp_path / "streams"
    assert encode(streams, "--codec", "hevc")[0] == 0
    assert sorted(path.name for path in streams.iterdir()) == [f"{number}.265" for number in range(5)]
    for path in streams.iterdir():
        assert nal.standard_of_stream(path.read_bytes()) is HEVC
    model = ("--detector", tiny_yolov5)
    code, out, _ = run("inspect", streams, "--json")
    assert (code, {row["qp"] for row in json.loads(out)}) == (0, {30})
    for name, options in (("a.json", ()), ("b.json", ("--isolate",)), ("c.json", ("--codec", "hevc"))):
        assert run("decode", streams, "-o", tmp_path / name, *model, *options)[0] == 0
        assert (tmp_path / name).read_bytes() == (tmp_path / "a.json").read_bytes()
    assert encode(tmp_path / "vvc")[0] == 0
    assert run("decode", tmp_path / "vvc", "-o", tmp_path / "d.json", *model, "--codec", "hevc")[0] == 0
    code, out, err = run("decode", streams, tmp_path / "vvc", "-o", tmp_path / "both.json", *model)
    assert (code, err.count("\n")) == (1, 1)
    assert "would have the same output" in err


def test_a_run_that_is_repeated_skips_what_is_there(encode: Any, tmp_path: Path) -> None:
    assert encode(tmp_path, "--codec", "hevc")[0] == 0
    before = files_in(tmp_path)
    (tmp_path / "2.265").unlink()
    code, out, _ = encode(tmp_path, "--codec", "hevc")
    assert (code, out.split(",")[:2]) == (0, ["1 encoded", " 4 already there"])
    assert files_in(tmp_path) == before
    code, _, err = encode(tmp_path, "--codec", "hevc", "--profile", "dense")
    assert (code, err.count("made from another image or with other weights or settings")) == (1, 5)
    assert files_in(tmp_path) == before
    assert encode(tmp_path, "--codec", "hevc", "--profile", "dense", "--overwrite")[0] == 0
    assert files_in(tmp_path) != before


@pytest.mark.parametrize("options", [("--workers", 1), ("--workers", 4), ("--batch", 1)])
def test_threads_and_batches_change_no_byte(encode: Any, tmp_path: Path, options: tuple[object, ...]) -> None:
    assert encode(tmp_path / "a", "--codec", "hevc")[0] == 0
    assert encode(tmp_path / "b", "--codec", "hevc", *options)[0] == 0
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b")


def test_a_bad_image_fails_alone(run: Any, pictures: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    shutil.copytree(pictures, tmp_path / "in")
    (tmp_path / "in/1.png").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/3.265").write_bytes(b"something else")
    options = ("-o", tmp_path / "out", "--detector", tiny_yolov5, "--codec", "hevc", *SIZE)
    code, out, err = run("encode", tmp_path / "in", *options)
    assert (code, out.split(",")[0], err.count("\n")) == (1, "3 encoded", 2)
    assert f"{tmp_path}/in/1.png: " in err
    assert f"{tmp_path}/out/3.265: exists and is not an intact bitstream" in err
    assert (tmp_path / "out/3.265").read_bytes() == b"something else"


def test_shards_hold_265_members(run: Any, encode: Any, tmp_path: Path, tiny_yolov5: Path) -> None:
    options = ("--codec", "hevc", "--shards", 2)
    assert encode(tmp_path / "shards", *options)[0] == 0
    before = files_in(tmp_path / "shards")
    assert encode(tmp_path / "shards", *options)[1].startswith("0 encoded, 5 already there")
    assert files_in(tmp_path / "shards") == before
    assert encode(tmp_path / "files", "--codec", "hevc")[0] == 0
    for name in ("shards", "files"):
        assert run("decode", tmp_path / name, "-o", tmp_path / f"{name}.json", "--detector", tiny_yolov5)[0] == 0
    assert (tmp_path / "shards.json").read_bytes() == (tmp_path / "files.json").read_bytes()


def test_a_sweep_has_rows_of_both_codecs(run: Any, pictures: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    images = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        for number, (width, height) in enumerate(SIZES)
    ]
    box = {"id": 1, "image_id": 0, "category_id": 5, "bbox": [10, 10, 50, 40], "area": 2000, "iscrowd": 0}
    content = {"images": images, "annotations": [box], "categories": [{"id": 5, "name": "newt"}]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    output = tmp_path / "points.csv"
    for codec in ("ffmpeg", "hevc"):
        code, _, err = run(
            *("sweep", pictures, "--annotations", tmp_path / "truth.json", "-o", output, "--detector", tiny_yolov5),
            *("--codec", codec, "--qp", "30,40", "--method", "latent", *SIZE),
        )
        assert code == 0, err
    measured = output.read_bytes()
    code, out, err = run(
        *("sweep", pictures, "--annotations", tmp_path / "truth.json", "-o", output, "--detector", tiny_yolov5),
        *("--codec", "hevc", "--qp", "35,52", "--method", "latent", *SIZE),
    )
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "QP 52 is not a whole number from 0 to 51" in err
    assert output.read_bytes() == measured  # QP 35 was not measured first
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [(row["codec"], row["qp"]) for row in rows] == [
        (name, qp) for name in ("ffmpeg", "hevc") for qp in ("30", "40")
    ]
    assert rows[2]["codec_version"].startswith("PyAV")
    assert {row["precision"] for row in rows} == {"float32"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--codec", "hevc", "--qp", 52), "QP 52 is not a whole number from 0 to 51 (HEVC ends there)"),
        (
            ("--codec", "hevc", "--profile", "faithful"),
            "unknown profile 'faithful' with --video-codec hevc; choose one of fast",
        ),
        (("--codec", "hevc", "--preset", "faster", "--profile", "fast"), "give one of the two"),
        (("--preset", "ultrafast"), "unknown preset 'ultrafast' of VVenC; choose one of faster, fast"),
        (("--codec", "hevc", "--encoder-param", "ISP=1"), "encoder parameter ISP is not allowed"),
        (("--codec", "hevc", "--encoder-param", "ctu=48"), "encoder parameter ctu=48: the value is not allowed"),
        (("--hardware", "nvenc"), "--hardware nvenc needs --video-codec hevc"),
        (("--codec", "hevc", "--hardware", "nvenc"), "hevc_nvenc does not encode these frames"),
        (("--precision", "float32", "--half"), "--precision float32 and --half contradict each other"),
    ],
)
def test_what_does_not_fit_is_one_line(encode: Any, tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    code, _, err = encode(tmp_path / "out", *options)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_precision_changes_what_is_computed_and_nothing_else(encode: Any, tmp_path: Path) -> None:
    names = ("auto", "float32", "bfloat16")
    for name in names:
        assert encode(tmp_path / name, "--codec", "hevc", "--precision", name)[0] == 0
    auto, single, half = (files_in(tmp_path / name) for name in names)
    assert auto == single, "streams do not depend on the CPU"
    assert single.keys() == half.keys()
    side_infos = [[bitstream.unpack(data)[0] for data in files.values()] for files in (single, half)]
    assert side_infos[0] == side_infos[1]
    assert single != half
