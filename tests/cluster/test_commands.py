"""`encode` and `decode` with and without a cluster: the same files, messages and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import make_bad_pictures, save_texture
from s3_server import Bucket, serving, settings
from sweep_set import SIDE, make_sweep_set

from featcodec.cluster.manifest import manifest_path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # a busy machine takes long to start so many processes
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

ENTRY = [sys.executable, "-c", "from featcodec.cli.main import main; main()"]
COUNT = 24


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of several shapes, with some that cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        width, height = [(120, 90), (90, 120), (100, 100), (200, 50)][number * 7 % 4]
        save_texture(folder / f"{number % 3}" / f"{number:04d}.jpg", width, height, seed=number)
    make_bad_pictures(folder / "bad")
    return folder


def start(*arguments: object, folder: Path | None = None) -> subprocess.Popen[str]:
    command = [*ENTRY, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


Ended = tuple[int, dict[str, Any], list[str]]
"""Exit code, report and messages of a command."""


def finish(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=600)
    return ended(process.returncode, out, err)


def ended(code: int, out: str, err: str) -> Ended:
    assert "Traceback" not in err
    return code, json.loads(out) if out else {}, sorted(err.splitlines())


def encode(pictures: object, output: object, detector: Path, *more: object) -> Ended:
    return finish(start(*encoding(pictures, output, detector), *more))


Command = Callable[..., Ended]


@pytest.fixture
def command(run: Callable[..., tuple[int, str, str]], on_two_nodes: Any) -> Command:
    """Runs the program in this process, which is connected to the cluster already: its workers have started."""
    return lambda *arguments: ended(*run(*arguments))


def encoding(pictures: object, output: object, detector: Path) -> list[object]:
    return ["encode", pictures, "-o", output, "--detector", detector, "--image-size", 96, "--qp", 38, "--json"]


def without_times(report: Any) -> Any:
    if isinstance(report, dict):
        return {key: without_times(value) for key, value in report.items() if "seconds" not in key and key != "output"}
    if isinstance(report, list):
        return sorted(map(without_times, report), key=str)
    return report


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def local(pictures: Path, tiny_yolov5: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder, and the result, of a run without a cluster."""
    folder = tmp_path_factory.mktemp("local") / "out"
    return folder, encode(pictures, folder, tiny_yolov5)


def test_the_same_files_and_messages(
    local: Any, pictures: Path, tiny_yolov5: Path, two_nodes: Any, tmp_path: Path
) -> None:
    folder, (code, report, messages) = local
    assert code == 1
    found = encode(pictures, tmp_path / "out", tiny_yolov5, "--cluster", two_nodes.address)
    assert (found[0], found[2]) == (code, messages)
    assert without_times(found[1]) == without_times(report)
    assert files_in(tmp_path / "out") == files_in(folder)
    assert not [message for message in messages if "bad" not in message]

    detections = tmp_path / "local.json", tmp_path / "cluster.json"
    streams = sorted((tmp_path / "out").rglob("*.266"))
    streams[5].write_bytes(b"no stream")
    results = []
    for output, cluster in zip(detections, ([], ["--cluster", two_nodes.client_address]), strict=True):
        command = ["decode", "out", "-o", output.name, "--detector", tiny_yolov5, "--json", *cluster]
        results.append(finish(start(*command, folder=tmp_path)))  # paths are relative to where the driver is
    assert results[0][0] == results[1][0] == 1
    assert results[0][2] == results[1][2]
    assert without_times(results[0][1]) == without_times(results[1][1])
    assert detections[0].read_bytes() == detections[1].read_bytes()


def test_hevc_has_the_same_files(
    command: Command, pictures: Path, tiny_yolov5: Path, two_nodes: Any, tmp_path: Path
) -> None:
    on_cluster = ["--cluster", two_nodes.address]
    found = [
        command(*encoding(pictures, tmp_path / name, tiny_yolov5), "--codec", "hevc", *cluster)
        for name, cluster in (("alone", []), ("cluster", on_cluster))
    ]
    assert (found[0][0], found[0][2]) == (found[1][0], found[1][2])
    files = files_in(tmp_path / "cluster")
    assert files == files_in(tmp_path / "alone")
    assert {path.suffix for path in files} == {".265"}
    again = command(*encoding(pictures, tmp_path / "cluster", tiny_yolov5), "--codec", "hevc", *on_cluster)
    assert (again[1]["encoded"], again[1]["skipped"]) == (0, len(files))


def test_the_same_points(tiny_yolov5: Path, two_nodes: Any, tmp_path: Path) -> None:
    folder = make_sweep_set(tmp_path, tiny_yolov5)
    points = []
    for name, cluster in (("local", []), ("cluster", ["--cluster", two_nodes.client_address])):
        command = ["sweep", folder / "in", "--annotations", folder / "annotations.json", "-o", tmp_path / f"{name}.csv"]
        command += ["--detector", tiny_yolov5, "--image-size", SIDE, "--qp", "30,40", "--json"]
        code, report, messages = finish(start(*command, *cluster))
        assert (code, report["measured"]) == (0, 2), messages
        points.append((without_times(report), messages))
    assert points[0] == points[1]


def test_a_killed_run_goes_on_without_opening_what_is_done(
    local: Any, pictures: Path, tiny_yolov5: Path, two_nodes: Any, tmp_path: Path
) -> None:
    folder, (code, report, messages) = local
    output = tmp_path / "out"
    arguments = [pictures, output, tiny_yolov5, "--cluster", two_nodes.address]
    process = start(*encoding(*arguments[:3]), *arguments[3:])
    deadline = time.monotonic() + 500
    manifest = manifest_path(output)
    while not manifest.exists() or manifest.read_text().count("\n") < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    # Whoever opened this file would refuse it.
    row = manifest.read_text().splitlines()[1]
    torn = (output / json.loads(row)[0]).with_suffix(".266")
    torn.write_bytes(bytes(torn.stat().st_size))
    found = encode(*arguments)
    assert (found[0], found[2]) == (code, messages)
    assert found[1]["encoded"] + found[1]["skipped"] == report["encoded"]
    assert found[1]["skipped"] > 0
    assert files_in(output) == files_in(folder) | {torn.relative_to(output): bytes(torn.stat().st_size)}


def test_objects_are_like_files(
    local: Any,
    command: Command,
    pictures: Path,
    tiny_yolov5: Path,
    two_nodes: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, (code, report, messages) = local
    for name, value in settings(two_nodes.s3_port).items():
        monkeypatch.setenv(name, value)
    on_cluster = ["--cluster", two_nodes.address]
    with serving(two_nodes.s3_port):
        bucket = Bucket("bucket")
        bucket.fill(pictures, "in")
        source, output = f"{bucket.address}/in", f"{bucket.address}/out"
        found = command(*encoding(source, output, tiny_yolov5), *on_cluster)
        assert (found[0], found[2]) == (code, sorted(line.replace(str(pictures), source) for line in messages))
        assert bucket.files("out") == files_in(folder)
        # Whoever opened this object would refuse it.
        torn = f"out/{sorted(bucket.files('out'))[0]}"
        bucket.put(torn, bytes(len(bucket.get(torn))))
        again = command(*encoding(source, output, tiny_yolov5), *on_cluster)
        assert (again[0], again[1]["encoded"], again[1]["skipped"]) == (1, 0, report["encoded"])
        options = ["--detector", tiny_yolov5, "--json"]
        local_decode = command("decode", folder, "-o", tmp_path / "local.json", *options)
        bucket.put(torn, (folder / torn.removeprefix("out/")).read_bytes())
        decoded = command("decode", output, "-o", f"{bucket.address}/x.json", *options, *on_cluster)
        assert (decoded[0], decoded[2]) == (local_decode[0], []) == (0, [])
        assert bucket.get("x.json") == (tmp_path / "local.json").read_bytes()


def can_hide_folders() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/tmp"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux" or not can_hide_folders(), reason="needs the right to mount")
def test_a_full_disk_on_one_node_loses_nothing(
    local: Any, command: Command, pictures: Path, tiny_yolov5: Path, two_nodes: Any, tmp_path: Path
) -> None:
    """The node sees another, full disk in place of the output folder."""
    folder, (code, report, messages) = local
    output = tmp_path / "out"
    output.mkdir()
    fill = 'mount -t tmpfs -o size=8k none "$0" && { cat /dev/zero >"$0/full"; exec "$@"; }'
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "4"]
    with_full_disk = ["unshare", "--mount", "sh", "-c", fill, output, *ray, "--address", two_nodes.address]
    nodes = node_ids(two_nodes)
    with (tmp_path / "log").open("w") as log:
        full = subprocess.Popen(with_full_disk, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 300
        while not node_ids(two_nodes) - nodes:
            assert time.monotonic() < deadline
            assert full.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        found = command(*encoding(pictures, output, tiny_yolov5), "--cluster", two_nodes.address)
        seen = Path(f"/proc/{full.pid}/root") / output.relative_to("/")
        assert [path.name for path in seen.rglob("*") if path.suffix] == []
    finally:
        full.terminate()
        full.wait(60)
    assert (found[0], found[2]) == (code, messages)
    assert found[1]["encoded"] == report["encoded"]
    assert files_in(output) == files_in(folder)


def node_ids(cluster: Any) -> set[str]:
    found: set[str] = cluster.global_state._live_node_ids()
    return found


def test_the_same_shards(
    local: Any, command: Command, pictures: Path, tiny_yolov5: Path, two_nodes: Any, tmp_path: Path
) -> None:
    _, (code, report, messages) = local
    alone, out, on_cluster = tmp_path / "alone", tmp_path / "out", ["--cluster", two_nodes.address]
    shards = ["--shards", 3]
    without = command(*encoding(pictures, alone, tiny_yolov5), *shards)
    found = command(*encoding(pictures, out, tiny_yolov5), *shards, *on_cluster)
    assert (found[0], found[2]) == (without[0], without[2]) == (code, messages)
    assert found[1]["bytes"] == report["bytes"]
    assert files_in(out) == files_in(alone)
    assert not manifest_path(out).exists()
    (out / "000001.tar").unlink()
    found = command(*encoding(pictures, out, tiny_yolov5), *shards, *on_cluster)
    assert found[1]["encoded"] + found[1]["skipped"] == report["encoded"]
    assert found[1]["skipped"] > 0
    assert files_in(out) == files_in(alone)
    outputs = tmp_path / "alone.json", tmp_path / "cluster.json"
    for output, cluster in zip(outputs, ([], on_cluster), strict=True):
        assert command("decode", out, "-o", output, "--detector", tiny_yolov5, "--json", *cluster)[0] == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def processes_with(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def is_agent(number: int) -> bool:
    """Whether it is one of Ray's own two agents. They wait for a minute for a cluster that was killed."""
    try:
        return b"Agent" in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("started", [True, False], ids=["in the middle", "while the cluster starts"])
@pytest.mark.parametrize(
    ("sign", "code", "lines"), [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 0), (signal.SIGKILL, -9, 0)]
)
def test_a_run_that_is_stopped_leaves_nothing_running(
    pictures: Path,
    tiny_yolov5: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sign: signal.Signals,
    code: int,
    lines: int,
    started: bool,
) -> None:
    mark = f"FEATCODEC_TEST_MARK={os.getpid()}"
    monkeypatch.setenv(*mark.split("="))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    process = start(*encoding(pictures, tmp_path / "out", tiny_yolov5), "--cluster", "local")
    deadline = time.monotonic() + 500
    while not (any((tmp_path / "out").rglob("*.266")) if started else len(processes_with(mark)) > 4):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sign)
    _, err = process.communicate(timeout=240)
    assert (process.returncode, len(err.strip().splitlines())) == (code, lines), err
    deadline = time.monotonic() + 60
    while left := [number for number in processes_with(mark) if sign != signal.SIGKILL or not is_agent(number)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_one_line(
    pictures: Path, tiny_yolov5: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray looks for one that runs on this machine
    code, _, messages = encode(pictures, tmp_path / "out", tiny_yolov5, "--cluster", address)
    assert (code, len(messages)) == (1, 1)
    assert f"{address}: " in messages[0]
    assert not (tmp_path / "out").exists()
