"""Shards on the command line: the same detections and rates as from single files, and the same bytes after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import make_bad_pictures, save_texture
from toy_training import make_toy_set

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for number in range(9):
        save_texture(folder / f"{number % 2}" / f"img.{number} ä.jpg", 120, 90, seed=number)
    make_bad_pictures(folder / "1")
    return folder


def encode(run: Run, source: object, output: object, detector: Path, *more: object) -> tuple[int, Any, list[str]]:
    code, out, err = run("encode", source, "-o", output, "--detector", detector, "--image-size", 96, "--json", *more)
    return code, json.loads(out) if out else None, sorted(err.splitlines())


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shards_are_like_files(run: Run, bucket: Any, pictures: Path, tiny_yolov5: Path, tmp_path: Path) -> None:
    files = encode(run, pictures, tmp_path / "files", tiny_yolov5)
    shards = encode(run, pictures, tmp_path / "shards", tiny_yolov5, "--shards", 3, "--workers", 1, "--batch", 2)
    assert files[0] == shards[0] == 1
    assert files[2] == shards[2]
    assert files[1]["bytes"] == shards[1]["bytes"]
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [
        f"00000{number}.{ending}" for number in range(3) for ending in ("idx", "tar")
    ]
    other = encode(run, pictures, f"{bucket.address}/shards", tiny_yolov5, "--shards", 3, "--batch", 5)
    assert other[2] == shards[2]
    assert bucket.files("shards") == files_in(tmp_path / "shards")
    again = encode(run, pictures, f"{bucket.address}/shards", tiny_yolov5, "--shards", 3)
    assert (again[0], again[1]["encoded"], again[1]["skipped"], again[1]["failed"]) == (1, 0, 9, 4)

    detections = []
    for number, source in enumerate(("files", "shards", "shards/*.tar", f"{bucket.address}/shards")):
        place = source if source.startswith("s3:") else tmp_path / source
        assert run("decode", place, "-o", tmp_path / f"{number}.json", "--detector", tiny_yolov5)[0] == 0
        detections.append((tmp_path / f"{number}.json").read_bytes())
    assert detections[0].count(b"\n") > 2
    assert detections == detections[:1] * 4
    described = [json.loads(run("inspect", tmp_path / name, "--json")[1]) for name in ("files", "shards")]
    assert [{**entry, "file": ""} for entry in described[0]] == [{**entry, "file": ""} for entry in described[1]]


def test_messages_about_damaged_members_name_them(run: Run, pictures: Path, tiny_yolov5: Path, tmp_path: Path) -> None:
    encode(run, pictures, tmp_path / "out", tiny_yolov5, "--shards", 2)
    shard = tmp_path / "out" / "000001.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 0xFF  # in the first stream
    shard.write_bytes(data)
    code, out, err = run("decode", tmp_path / "out", "-o", tmp_path / "x.json", "--detector", tiny_yolov5, "--json")
    assert (code, json.loads(out)["failed"], json.loads(out)["decoded"]) == (1, 1, 8)
    assert err.startswith(f"featcodec: {shard}/")
    assert err.count("\n") == 1
    code, out, err = run("encode", pictures, "-o", tmp_path / "out", "--detector", tiny_yolov5, "--shards", 2)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "use --overwrite" in err


def test_the_rate_of_shards(run: Run, tiny_yolov5: Path, tmp_path: Path) -> None:
    made = make_toy_set(tmp_path / "set")
    assert encode(run, made / "in", tmp_path / "files", tiny_yolov5)[0] == 0
    assert encode(run, made / "in", tmp_path / "shards", tiny_yolov5, "--shards", 2)[0] == 0
    assert run("decode", tmp_path / "shards", "-o", tmp_path / "x.jsonl", "--detector", tiny_yolov5)[0] == 0
    lines = [
        run("evaluate", tmp_path / "x.jsonl", "--annotations", made / "annotations.json", "--streams", tmp_path / name)
        for name in ("files", "shards")
    ]
    assert lines[0][:2] == lines[1][:2]
    assert lines[0][0] == 0


def test_a_run_that_is_killed_goes_on(run: Run, tiny_yolov5: Path, tmp_path: Path) -> None:
    for number in range(120):
        save_texture(tmp_path / "in" / f"{number:04d}.jpg", 120, 90, seed=number)
    options = ["--detector", tiny_yolov5, "--image-size", 96, "--shards", 12]
    assert run("encode", tmp_path / "in", "-o", tmp_path / "whole", *options)[0] == 0
    program = [sys.executable, "-c", "from featcodec.cli.main import main; main()"]
    arguments = ["encode", tmp_path / "in", "-o", tmp_path / "out", *options]
    process = subprocess.Popen([*program, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*.tar")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*.tar")}
    assert 0 < len(done) < 12
    code, out, _ = run(*arguments)
    assert code == 0
    assert f"{10 * len(done)} already there" in out
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in done} == done
