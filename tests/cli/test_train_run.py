"""Trainings of two processes: every launcher trains the same; when one process fails all end, and one says why."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_training import results

STEPS = 80
FEATCODEC = ["-m", "featcodec"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
PATIENCE = 250
pytestmark = pytest.mark.timeout(3 * PATIENCE)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def launchers(name: str) -> list[list[str]]:
    """The beginnings of the commands that start two ranks, one command per machine."""
    if name == "devices":
        return [[sys.executable, *FEATCODEC]]
    if name == "torchrun":
        return [[*TORCHRUN, "2", *FEATCODEC]]
    meeting = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    return [[*TORCHRUN, "1", *meeting, *FEATCODEC]] * 2


class Training:
    """The processes of a training. All that they start is found by a mark in the environment.

    Args:
        launcher: devices, torchrun or machines.
        arguments: of the command.
        second: more arguments, for the second machine.
    """

    def __init__(self, launcher: str, arguments: list[object], second: tuple[object, ...] = ()) -> None:
        self.mark = f"FEATCODEC_TEST={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        environment = {**os.environ, name: value}
        self.commands = []
        for number, start in enumerate(launchers(launcher)):
            more = ["--devices", 2] if launcher == "devices" else second if number else ()
            self.commands.append(
                subprocess.Popen(
                    [*start, *map(str, [*arguments, *more])],
                    env=environment,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )

    def wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            assert time.monotonic() < deadline
            assert self.commands[0].poll() is None, self.commands[0].communicate()
            time.sleep(0.01)

    def rank(self, number: int) -> int:
        """The id of a rank's process."""
        for path in self._processes():
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            environment = (path / "environ").read_bytes().split(b"\0")
            if f"RANK={number}".encode() in environment and parent in [command.pid for command in self.commands]:
                return int(path.name)
        raise AssertionError(f"rank {number} does not run")

    def end(self) -> tuple[list[int], str, str]:
        """Wait for the end of everything. Returns the exit codes, stdout and stderr."""
        try:
            texts = [command.communicate(timeout=PATIENCE) for command in self.commands]
            deadline = time.monotonic() + 30
            while left := self._processes():
                assert time.monotonic() < deadline, [(path / "cmdline").read_bytes() for path in left]
                time.sleep(0.05)
        finally:
            for path in self._processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(path.name), signal.SIGKILL)
        out, err = ("".join(part) for part in zip(*texts, strict=True))
        return [command.returncode for command in self.commands], out, err

    def _processes(self) -> list[Path]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.append(path)
        return found


def said(err: str) -> list[str]:
    """What featcodec has said. None of its lines stands in a traceback; torchrun has one of its own."""
    assert "/featcodec/" not in err, err
    return [line for line in err.splitlines() if line.startswith("featcodec: ")]


@pytest.fixture(scope="module")
def arguments(toy_set: Path, tiny_yolov5: Path) -> list[object]:
    words = (
        f"train bottleneck --annotations {toy_set}/annotations.json --images {toy_set}/in --detector {tiny_yolov5} "
        f"--image-size 64 --batch-size 1 --steps {STEPS} --save-every 5 --warmup-steps 1 --accelerator cpu --threads 1 "
        "--workers 1"
    )
    return list(words.split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, arguments: list[object]) -> Path:
    """What two ranks of one launcher write."""
    output = tmp_path_factory.mktemp("ranks") / "out"
    codes, out, err = Training("devices", [*arguments, "-o", output]).end()
    assert (codes, out) == ([0], f"{output / 'last-bottleneck.safetensors'}\n"), err
    assert said(err) == []
    assert err.count(f"step {STEPS}/{STEPS} ") == 1
    return output


@pytest.fixture(scope="module", autouse=True)
def _needs_proc() -> None:
    if sys.platform != "linux":
        pytest.skip("looks for processes in /proc")


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "other"), [("devices", "machines"), ("machines", "torchrun")])
def test_a_killed_rank_ends_the_others_and_any_launcher_goes_on(
    arguments: list[object], trained: Path, tmp_path: Path, launcher: str, other: str
) -> None:
    """And then the files are those of a run that nobody killed."""
    output = tmp_path / "out"
    training = Training(launcher, [*arguments, "-o", output])
    training.wait_for(output / "state.safetensors")
    os.kill(training.rank(1), signal.SIGKILL)
    codes, out, err = training.end()
    assert (set(codes), out) == ({1}, "")
    (line,) = said(err)
    assert "killed" in line
    assert "--resume" in line

    codes, out, err = Training(other, [*arguments, "-o", output, "--resume"]).end()
    assert (set(codes), out) == ({0}, f"{output / 'last-bottleneck.safetensors'}\n"), err
    assert said(err) == []
    assert results(output) == results(trained)


@pytest.mark.slow
def test_a_rank_that_fails_before_the_ranks_meet_ends_the_others(arguments: list[object], tmp_path: Path) -> None:
    training = Training("machines", [*arguments, "-o", tmp_path / "out"], ("--images", tmp_path / "none"))
    codes, out, err = training.end()
    assert (codes, out) == ([1, 1], "")
    (line,) = said(err)
    assert line.startswith(f"featcodec: {tmp_path / 'none'}: ")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["devices", "torchrun"])
def test_an_error_is_said_once(toy_set: Path, arguments: list[object], tmp_path: Path, launcher: str) -> None:
    images = tmp_path / "in"
    shutil.copytree(toy_set / "in", images)
    (images / "3.png").write_bytes(b"not an image")
    codes, out, err = Training(launcher, [*arguments, "--images", images, "-o", tmp_path / "out"]).end()
    assert (codes, out) == ([1], "")
    (line,) = said(err)
    assert line.startswith(f"featcodec: {images / '3.png'}: not a readable image")


@pytest.mark.slow
def test_a_full_disk_of_the_rank_that_writes_ends_the_other(arguments: list[object], small_disk: Path) -> None:
    codes, out, err = Training("devices", [*arguments, "-o", small_disk / "out"]).end()
    assert (codes, out) == ([1], "")
    (line,) = said(err)
    assert line.startswith(f"featcodec: {small_disk / 'out'}")
    assert "No space left on device" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "sign", "code"),
    [
        ("devices", signal.SIGINT, 130),
        ("devices", signal.SIGTERM, 143),
        ("devices", signal.SIGKILL, -9),
        ("torchrun", signal.SIGKILL, -9),
    ],
)
def test_nothing_outlives_the_launcher(
    arguments: list[object], tmp_path: Path, launcher: str, sign: signal.Signals, code: int
) -> None:
    training = Training(launcher, [*arguments, "--steps", 1_000_000, "-o", tmp_path / "out"])
    training.wait_for(tmp_path / "out/state.safetensors")
    training.commands[0].send_signal(sign)
    codes, _, err = training.end()
    assert codes == [code]
    assert len(said(err)) == (0 if sign == signal.SIGTERM else 1)


@pytest.mark.slow
def test_machines_that_see_different_checkpoints_are_refused(
    arguments: list[object], trained: Path, tmp_path: Path
) -> None:
    training = Training("machines", [*arguments, "-o", trained, "--resume"], ("-o", tmp_path / "out"))
    codes, _, err = training.end()
    assert codes == [1, 1]
    (line,) = said(err)
    assert line.endswith("state.safetensors: is not the same on all machines; all must see the same folder")


@pytest.mark.slow
def test_all_ranks_train_as_many_steps_as_fit_into_the_time(arguments: list[object], tmp_path: Path) -> None:
    kept: Iterator[object] = (word for word in arguments if word not in ("--steps", str(STEPS)))
    codes, out, err = Training("devices", [*kept, "--minutes", 0.02, "-o", tmp_path / "out"]).end()
    assert (codes, out) == ([0], f"{tmp_path / 'out/last-bottleneck.safetensors'}\n"), err
    (line,) = said(err)
    assert line.endswith("steps fit into 0.02 minutes")
