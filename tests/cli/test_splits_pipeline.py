"""A modern detector behind an early split, where one tensor crosses, and behind late ones, where several do.

All commands run on drawn scenes with the weights that ship, real VVC and HEVC.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from make_expected import featcodec

from featcodec.bitstream import read_file, unpack
from featcodec.cli.main import main

pytestmark = pytest.mark.slow

SPLITS = {4: (8,), 6: (8, 16), 10: (8, 16, 32)}
"""Pixels per sample of the tensors that cross."""
SCENES11 = ("--detector", "scenes11", "--device", "cpu")
SMALL = ("--steps", 2, "--batch-size", 2, "--crop", 96, "--mosaic", 0, "--held-out", 1, "--threads", 1)


def rows_of(points: Path) -> list[dict[str, str]]:
    with points.open() as file:
        return list(csv.DictReader(file))


def train(*arguments: object) -> None:
    try:
        main(["train", *map(str, arguments)])
    except SystemExit as stop:
        if stop.code:
            raise AssertionError(f"featcodec train {arguments[0]} ended with {stop.code}") from stop


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits") / "scenes"
    featcodec("scenes", "-o", folder, "-n", 6, "--seed", 31, "--workers", 1)
    return folder


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("standard", ["ffmpeg", "hevc"])
def test_latent_coding_keeps_what_the_detector_finds(scenes: Path, tmp_path: Path, split: int, standard: str) -> None:
    coded = ("--bottleneck", "none", "--split", split, "--codec", standard, "--qp", 36)
    featcodec("encode", scenes / "images", "-o", tmp_path / "out", *SCENES11, *coded)
    streams = sorted((tmp_path / "out").iterdir())
    for stream in streams:
        side_info, _ = unpack(read_file(stream))
        strides = tuple(side_info.letterboxed_width // width for _, _, width in side_info.tensors)
        assert (side_info.split, strides) == (split, SPLITS[split])
    found = tmp_path / "found.json"
    featcodec("decode", tmp_path / "out", "-o", found, "--bottleneck", "none", *SCENES11)
    truth = ("--annotations", scenes / "annotations.json")
    coded_score = featcodec("evaluate", found, *truth, "--streams", tmp_path / "out")
    points = tmp_path / "points.csv"
    featcodec(
        "sweep", scenes / "images", *truth, "-o", points, *SCENES11, "--bottleneck", "none", "--method", "uncoded"
    )
    (uncoded,) = rows_of(points)
    assert float(uncoded["ap50"]) > 70
    assert coded_score["ap50"] > float(uncoded["ap50"]) - 8
    assert coded_score["bpp"] < 6


def test_a_sweep_takes_all_splits(scenes: Path, tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    options = ("--bottleneck", "none", "--method", "latent", "--qp", 34, *(("--split", split) for split in SPLITS))
    flat = [each for option in options for each in (option if isinstance(option, tuple) else (option,))]
    truth = ("--annotations", scenes / "annotations.json")
    featcodec("sweep", scenes / "images", *truth, "-o", points, *SCENES11, *flat)
    rows = rows_of(points)
    assert [int(row["split"]) for row in rows] == list(SPLITS)
    assert all(float(row["ap50"]) > 60 for row in rows)


@pytest.mark.parametrize("split", SPLITS)
def test_a_bottleneck_and_attacks_are_trained_and_used(scenes: Path, tmp_path: Path, split: int) -> None:
    data = ("--annotations", scenes / "annotations.json", "--images", scenes / "images", "--detector", "scenes11")
    run = ("--split", split, "--channels", 8, "--hidden", 8)
    train("bottleneck", "-o", tmp_path / "stage-1", *data, *SMALL, *run, "--feature-weight", 1)
    bottleneck = tmp_path / "stage-1/last-bottleneck.safetensors"
    streams = tmp_path / "out"
    featcodec("encode", scenes / "images", "-o", streams, *SCENES11, "--bottleneck", bottleneck)
    side_info, _ = unpack(read_file(next(streams.iterdir())))
    assert (side_info.split, side_info.channels, side_info.further) == (split, 8, ())
    featcodec("decode", streams, "-o", tmp_path / "found.json", *SCENES11, "--bottleneck", bottleneck)
    for name, attacked in (("latent", ("none", "--split", split)), ("learned", (bottleneck,))):
        kind = ("--strong",) if name == "latent" else ()
        train("attack", "-o", tmp_path / name, *data, *SMALL, "--bottleneck", *attacked, *kind)
        recnet = tmp_path / name / "last-recnet.safetensors"
        where = ("--bottleneck", *attacked, *SCENES11, "--recnet", recnet)
        shown = featcodec("invert", scenes / "images", "-o", tmp_path / f"seen-{name}", *where)
        assert shown["psnr"] > 3
    seen = ("--bottleneck", bottleneck, *SCENES11, "--recnet", tmp_path / "learned/last-recnet.safetensors")
    featcodec("invert", streams, "-o", tmp_path / "intercepted", "--originals", scenes / "images", *seen)


def test_the_list_of_splits() -> None:
    listed = featcodec("models", "scenes11", "--splits")
    by_layer = {each["layer"]: each for each in listed["splits"]}
    assert list(by_layer) == list(range(23))
    for split, strides in SPLITS.items():
        assert [512 // width for _, _, width in by_layer[split]["tensors"]] == list(strides)
