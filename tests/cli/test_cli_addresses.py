"""Commands with addresses: objects on a real S3 server, the same bytes and messages as with files."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import make_bad_pictures, save_texture
from s3_server import free_port, serving, settings
from toy_training import make_toy_set

pytestmark = [pytest.mark.slow]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for number in range(5):
        save_texture(folder / f"{number % 2}" / f"{number:04d}.{('jpg', 'png')[number % 2]}", 120, 90, seed=number)
    save_texture(folder / "plain.ä [1].png", 90, 120)
    make_bad_pictures(folder / "bad")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"no picture")
    return folder


def encode(run: Run, source: object, output: object, detector: Path, *more: object) -> tuple[int, Any, list[str]]:
    options = ["--detector", detector, "--image-size", 96, "--json"]
    code, out, err = run("encode", source, "-o", output, *options, *more)
    return code, json.loads(out) if out else None, sorted(err.splitlines())


def decode(run: Run, source: object, output: object, detector: Path, *more: object) -> tuple[int, Any, list[str]]:
    code, out, err = run("decode", source, "-o", output, "--detector", detector, "--json", *more)
    return code, json.loads(out) if out else None, sorted(err.splitlines())


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_objects_are_like_files(
    run: Run, bucket: Any, pictures: Path, tiny_yolov5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.fill(pictures, "in")
    local = encode(run, pictures, tmp_path / "out", tiny_yolov5)
    remote = encode(run, f"{bucket.address}/in", f"{bucket.address}/out", tiny_yolov5)
    assert local[0] == remote[0] == 1
    assert bucket.files("out") == files_in(tmp_path / "out")
    assert len(bucket.files("out")) == 6
    assert remote[2] == sorted(line.replace(str(pictures), f"{bucket.address}/in") for line in local[2])
    assert [entry["status"] for entry in remote[1]["files"]] == [entry["status"] for entry in local[1]["files"]]
    assert remote[1]["bytes"] == local[1]["bytes"]

    # From one to the other; what is there is not made again.
    assert encode(run, f"{bucket.address}/in/", tmp_path / "mixed", tiny_yolov5)[0] == 1
    assert files_in(tmp_path / "mixed") == files_in(tmp_path / "out")
    again = encode(run, f"file://{pictures}", f"{bucket.address}/out", tiny_yolov5)
    assert (again[1]["encoded"], again[1]["skipped"], again[1]["failed"]) == (0, 6, 4)
    other = encode(run, f"{bucket.address}/in/0/*.jpg", f"{bucket.address}/out/0", tiny_yolov5, "--qp", 20)
    assert other[1]["failed"] == 3
    assert all("use --overwrite" in line and f"{bucket.address}/out/0/" in line for line in other[2])
    assert bucket.files("out") == files_in(tmp_path / "out")
    one = encode(run, f"{bucket.address}/in/0/0000.jpg", f"{bucket.address}/out/0", tiny_yolov5, "--overwrite")
    assert (one[0], one[1]["encoded"]) == (0, 1)

    (tmp_path / "out" / "0" / "0000.266").write_bytes(b"damaged")
    (tmp_path / "out" / "0" / "0002.266").write_bytes(b"")
    bucket.put("out/0/0000.266", b"damaged")
    bucket.put("out/0/0002.266", b"")
    monkeypatch.chdir(tmp_path)
    local = decode(run, "out", "local.json", tiny_yolov5)
    remote = decode(run, f"{bucket.address}/out", f"{bucket.address}/results/all.json", tiny_yolov5)
    assert local[0] == remote[0] == 1
    assert bucket.get("results/all.json") == (tmp_path / "local.json").read_bytes()
    assert remote[2] == [line.replace("out/", f"{bucket.address}/out/") for line in local[2]]
    code, _, lines = decode(run, f"{bucket.address}/out", f"{bucket.address}/results/all.json", tiny_yolov5)
    assert (code, len(lines)) == (1, 1)
    assert f"{bucket.address}/results/all.json: exists" in lines[0]
    assert run("inspect", f"{bucket.address}/out/**")[0] == 1


def test_a_whole_evaluation(run: Run, bucket: Any, tiny_yolov5: Path, tmp_path: Path) -> None:
    made = make_toy_set(tmp_path / "set")
    bucket.fill(made, "set")
    assert encode(run, f"{bucket.address}/set/in", f"{bucket.address}/out", tiny_yolov5)[0] == 0
    truth = f"{bucket.address}/set/annotations.json"
    assert decode(run, f"{bucket.address}/out", f"{bucket.address}/x.json", tiny_yolov5, "--annotations", truth)[0] == 0
    code, out, _ = run("evaluate", f"{bucket.address}/x.json", "--annotations", truth, "--streams", bucket.address)
    assert (code, out.split()[:2]) == (0, ["5", "images"])
    options = ["--detector", tiny_yolov5, "--qp", 40, "--image-size", 96, "--method", "latent"]
    points = []
    for source, listed in ((f"{bucket.address}/set/in", truth), (made / "in", made / "annotations.json")):
        output = tmp_path / f"{len(points)}.csv"
        assert run("sweep", source, "--annotations", listed, "-o", output, *options)[0] == 0
        (row,) = csv.DictReader(output.read_text().splitlines())
        points.append({name: value for name, value in row.items() if "seconds" not in name})
    assert points[0] == points[1]
    code, _, err = run("sweep", made / "in", "--annotations", truth, "-o", f"{bucket.address}/x.csv", *options)
    assert code == 2
    assert f"{bucket.address}/x.csv is not on this machine" in err


def test_sizes_need_only_the_heads_of_images(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featcodec.images.sizes import read_size
    from featcodec.system.addresses import Address, path_of

    path = save_texture(tmp_path / "large.jpg", 2500, 1500)
    assert path.stat().st_size > 300_000
    bucket.put("large.jpg", path.read_bytes())
    read: list[int] = []
    whole = Address.read_range
    monkeypatch.setattr(
        Address, "read_range", lambda self, start, end: (read.append(end - start), whole(self, start, end))[1]
    )
    assert read_size(path_of(f"{bucket.address}/large.jpg")) == read_size(path)
    assert 0 < sum(read) < path.stat().st_size / 2


def command(*arguments: object, **variables: str | None) -> tuple[int, list[str], float]:
    environment = {**os.environ, **variables}
    program = [sys.executable, "-c", "from featcodec.cli.main import main; main()", *map(str, arguments)]
    started = time.monotonic()
    done = subprocess.run(
        program,
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    return done.returncode, done.stderr.splitlines(), time.monotonic() - started


@pytest.mark.parametrize("side", ["source", "output"])
@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("bucket", "bucket"),
        ("credentials", "credentials"),
        ("server", "onnect"),
    ],
)
def test_what_cannot_be_reached_is_one_line(
    bucket: Any, tiny_yolov5: Path, tmp_path: Path, what: str, cause: str, side: str
) -> None:
    save_texture(tmp_path / "a.png")
    address, variables = f"{bucket.address}/x", dict[str, Any]()
    if what == "bucket":
        address = f"s3://no-{bucket.name}/x"
    elif what == "credentials":
        variables = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    elif what == "server":
        variables = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    source, output = (address, tmp_path / "out") if side == "source" else (tmp_path / "a.png", address)
    code, lines, seconds = command("encode", source, "-o", output, "--detector", tiny_yolov5, **variables)
    assert (code, len(lines)) == (1, 1), lines
    assert address.removesuffix("/x") in lines[0]
    assert cause in lines[0].removeprefix(f"featcodec: {address}")
    assert ";" in lines[0]
    assert seconds < 90
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("side", ["source", "output"])
def test_who_may_not_enter_is_told_so_in_one_line(tiny_yolov5: Path, tmp_path: Path, side: str) -> None:
    save_texture(tmp_path / "a.png")
    source, output = (
        ("s3://bucket/in", tmp_path / "out") if side == "source" else (tmp_path / "a.png", "s3://bucket/out")
    )
    port = free_port()
    with serving(port, INITIAL_NO_AUTH_ACTION_COUNT="0"):
        code, lines, _ = command("encode", source, "-o", output, "--detector", tiny_yolov5, **settings(port))
    assert (code, len(lines)) == (1, 1), lines
    assert "s3://bucket" in lines[0]
    assert "access denied (" in lines[0]
    assert "; check the credentials" in lines[0]


def test_a_server_that_never_answers_is_one_line(bucket: Any, tiny_yolov5: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = ["-o", tmp_path / "out", "--detector", tiny_yolov5]
        code, lines, seconds = command("encode", bucket.address, *options, AWS_ENDPOINT_URL=endpoint)
    assert (code, len(lines)) == (1, 1), lines
    assert "imeout" in lines[0]
    assert seconds < 150
