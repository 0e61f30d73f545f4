"""Real processes and real trouble: Ctrl-C, a terminated run, a full disk, no torch for --help."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import save_texture

from featcodec import __version__, bitstream
from featcodec.cli.main import main

ENTRY = [sys.executable, "-c", "from featcodec.cli.main import main; main()"]
COUNT = 16
# Small batches, of which two are coded at a time whatever the machine: there is work left when the signal comes.
UNHURRIED = ("--image-size", 320, "--preset", "medium", "--qp", 20, "--batch", 2, "--workers", 2)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(COUNT):
        save_texture(tmp_path / f"in/{number:02d}.jpg", 320, 320, seed=number)
    return tmp_path / "in"


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [*ENTRY, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_encode_ends_at_once_and_resumes(
    pictures: Path, tiny_yolov5: Path, sign: signal.Signals, code: int
) -> None:
    output = pictures.parent / "out"
    arguments = ["encode", pictures, "-o", output, "--detector", tiny_yolov5, *UNHURRIED]
    process = start(*arguments)
    deadline = time.monotonic() + 120
    while not list(output.glob("*.266")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(sign)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in err
    done = sorted(output.glob("*.266"))
    assert 0 < len(done) < COUNT
    for path in done:
        bitstream.unpack(path.read_bytes())
    assert sorted(output.iterdir()) == done
    assert out == ""
    before = {path: path.read_bytes() for path in done}
    again = start(*arguments)
    out, err = again.communicate(timeout=250)
    assert (again.returncode, err) == (0, "")
    assert f"{COUNT - len(done)} encoded, {len(done)} already there, 0 failed" in out
    assert {path: path.read_bytes() for path in done} == before


@pytest.mark.slow
def test_the_end_of_the_terminal_ends_a_run_like_any_signal(pictures: Path, tiny_yolov5: Path) -> None:
    output = pictures.parent / "out"
    arguments = ["encode", pictures, "-o", output, "--detector", tiny_yolov5, *UNHURRIED]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        process = start(*arguments)
    finally:
        signal.signal(signal.SIGHUP, before)
    deadline = time.monotonic() + 120
    while not list(output.glob("*.266")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (128 + signal.SIGHUP, "")
    assert "Traceback" not in err
    assert {path.suffix for path in output.iterdir()} == {".266"}


@pytest.mark.slow
def test_a_full_disk_fails_file_by_file_and_leaves_nothing_half_written(
    pictures: Path, tiny_yolov5: Path, small_disk: Path
) -> None:
    process = start("encode", pictures, "-o", small_disk / "out", "--detector", tiny_yolov5, "--qp", "8")
    out, err = process.communicate(timeout=250)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "No space left on device" in err
    written = sorted((small_disk / "out").iterdir())
    assert f"{len(written)} encoded, 0 already there, {COUNT - len(written)} failed" in out
    assert len(err.splitlines()) == COUNT - len(written) > 0
    for path in written:
        bitstream.unpack(path.read_bytes())


@pytest.mark.slow
def test_detections_that_do_not_fit_leave_no_file(tmp_path: Path, tiny_yolov5: Path) -> None:
    save_texture(tmp_path / "in/1.png", 160, 120)
    model = ["--detector", str(tiny_yolov5)]
    with pytest.raises(SystemExit) as stop:
        main(["encode", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *model, "--image-size", "160"])
    assert not stop.value.code
    process = subprocess.run(
        [*ENTRY, "decode", tmp_path / "out", "-o", tmp_path / "d.json", *model],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)),
    )
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert "d.json: cannot be written" in process.stderr
    assert not list(tmp_path.glob("*d.json*"))


@pytest.mark.slow
def test_help_needs_no_torch() -> None:
    code = "import sys; from featcodec.cli.main import main\ntry: main(['encode', '--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'ultralytics', 'cv2', 'av') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    command = " ".join([f"'{sys.executable}'", "-c", "'from featcodec.cli.main import main; main()'", "models"])
    environment = {**os.environ, "FEATCODEC_HOME": str(tmp_path)}
    result = subprocess.run(
        ["/bin/sh", "-c", f"{command} | true"], capture_output=True, text=True, check=True, env=environment
    )
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["--help"], ["encode", "--help"]])
def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path, arguments: list[str], unbuffered: str) -> None:
    environment = {**os.environ, "FEATCODEC_HOME": str(tmp_path), "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [*ENTRY, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("featcodec: No space left on device")


@pytest.mark.slow
def test_a_closed_stderr_does_not_hinder_an_encode(tmp_path: Path, tiny_yolov5: Path) -> None:
    """As cron jobs and services have it; files then get the number 2, which is no excuse."""
    save_texture(tmp_path / "in/a.png", 64, 64)
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    arguments = ["encode", tmp_path / "in", "-o", tmp_path / "out", "--detector", tiny_yolov5, "--image-size", "64"]
    command = [*ENTRY, *map(str, arguments)]
    result = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stdout.startswith("1 encoded, 0 already there, 1 failed")
    bitstream.unpack((tmp_path / "out/a.266").read_bytes())


def test_python_m_featcodec_is_the_program() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "featcodec", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"featcodec, version {__version__}\n"
    assert result.stderr == ""


def train_arguments(toy_set: Path, tiny_yolov5: Path, output: Path) -> list[object]:
    data = ["--annotations", toy_set / "annotations.json", "--images", toy_set / "in", "--detector", tiny_yolov5]
    size = [
        "--image-size",
        "64",
        "--batch-size",
        "8",
        "--steps",
        "40",
        "--save-every",
        "5",
        "--warmup-steps",
        "1",
        "--accelerator",
        "cpu",
    ]
    return ["train", "bottleneck", *data, *size, "-o", output]


@pytest.mark.slow
def test_training_needs_no_shared_memory(toy_set: Path, tiny_yolov5: Path, tmp_path: Path) -> None:
    """As in a container, whose /dev/shm has 64 MB; here it has less than one batch."""
    command = [*ENTRY, *map(str, train_arguments(toy_set, tiny_yolov5, tmp_path / "out")), "--workers", "3"]
    small = 'mount -t tmpfs -o size=64k tmpfs /dev/shm || exit 77; exec "$@"'
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", small, "sh", *command], capture_output=True, text=True, check=False, timeout=250
    )
    if result.returncode == 77 or result.stderr.startswith("unshare:"):
        pytest.skip(f"no file system of its own can be mounted here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


def children_of(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Workers are children of a server, which is a child of the process."""
    return [worker for child in children_of(process.pid) for worker in children_of(child)]


@pytest.mark.slow
def test_a_killed_worker_ends_a_training_in_one_line(toy_set: Path, tiny_yolov5: Path, tmp_path: Path) -> None:
    """As the kernel does it when memory runs out. The run goes on from its last checkpoint."""
    arguments = train_arguments(toy_set, tiny_yolov5, tmp_path / "out")
    process = start(*arguments, "--workers", "2")
    deadline = time.monotonic() + 200
    while not (tmp_path / "out/state.safetensors").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    workers = workers_of(process)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "a process that prepares batches was killed (out of memory?); go on with --resume" in err.splitlines()[-1]
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    again = start(*arguments, "--resume")
    _, err = again.communicate(timeout=250)
    assert (again.returncode, "Traceback" in err) == (0, False)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_a_training(toy_set: Path, tiny_yolov5: Path, tmp_path: Path, sign: signal.Signals) -> None:
    process = start(*train_arguments(toy_set, tiny_yolov5, tmp_path / "out"), "--workers", "2")
    deadline = time.monotonic() + 200
    while not (tmp_path / "out/log.csv").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    workers = workers_of(process)
    assert len(workers) == 2
    started = [*children_of(process.pid), *workers]
    process.send_signal(sign)
    _, err = process.communicate(timeout=90)
    assert "Traceback" not in err
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < deadline
        time.sleep(0.01)
