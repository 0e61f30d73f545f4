"""Fixtures: the shared data and weights where they are present, and small checkpoints made on the spot."""

from __future__ import annotations

import copy
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from featcodec.system.batching import cores

# Before torch is imported: the networks here are so small that threads cost more than they give, and on a busy machine
# they wait for each other in busy loops (measured: ten times slower).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore Ctrl-C, and so would all programs that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine, one example may take longer than the 200 ms that hypothesis allows.
hypothesis.settings.register_profile("featcodec", deadline=None)
hypothesis.settings.load_profile("featcodec")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """How many processes test, unless `-n` says it.

    One file is tested by this process alone: workers take longer to start than they save. With the slow tests there is
    one worker more than cores, because these tests wait for programs that they start.
    """
    asked = {Path(argument.split("::")[0]) for argument in config.args}
    if len(asked) == 1 and asked.pop().is_file():
        return 0
    return cores() if config.option.markexpr else cores() + 1


def pytest_collection_finish() -> None:
    """Checkpoints are read once and copied: tests load the same few about 700 times, and to read takes 0.1 s.

    Not in tests/detectors, where to read is what is tested; nor does this import torch where no test needs it.
    """
    load = sys.modules.get("featcodec.detectors.load")
    if load is None:
        return
    read = load._read

    @lru_cache(maxsize=8)
    def read_once(path: Path, *_identity: int) -> Any:
        return read(path)

    def read_or_copy(path: Path) -> Any:
        if os.environ.get("PYTEST_CURRENT_TEST", "").startswith("tests/detectors/") or not path.is_file():
            return read(path)
        status = path.stat()
        return copy.deepcopy(read_once(path, status.st_ino, status.st_size, status.st_mtime_ns))

    load._read = read_or_copy


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the program in this process: takes its arguments; returns exit code, stdout and stderr."""
    from featcodec.cli.main import main

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real weights and data: $FEATCODEC_TEST_DATA, or `shared` beside the repository."""
    named = os.environ.get("FEATCODEC_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no test data: {folder} does not exist; set FEATCODEC_TEST_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def yolov5n_path(shared: Path) -> Path:
    """The original yolov5n checkpoint."""
    path = shared / "weights" / "yolov5n.pt"
    if not path.is_file():
        pytest.skip(f"no test data: {path} does not exist")
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def tiny_yolov5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An original-style checkpoint: 3 classes, 16 channels behind layer 4, random weights."""
    from make_checkpoints import make_yolov5, save_yolov5

    return save_yolov5(tmp_path_factory.mktemp("weights") / "tiny_yolov5.pt", make_yolov5())


@pytest.fixture(scope="session")
def tiny_yolov5u(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ultralytics checkpoint (anchor-free): 3 classes, 64 channels behind layer 4, random weights."""
    from make_checkpoints import make_yolov5u, save_yolov5u

    return save_yolov5u(tmp_path_factory.mktemp("weights") / "tiny_yolov5u.pt", make_yolov5u())


@pytest.fixture(scope="session")
def drawn_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six street scenes for the detector that ships: images/, annotations.json and private.json."""
    from plate_set import make_scenes

    return make_scenes(tmp_path_factory.mktemp("scenes"), 6)


@pytest.fixture(scope="session")
def exported_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an edge needs of an exported model, of `exported_model.small_codec`. Nobody changes it."""
    from exported_model import make_edge_once

    base = tmp_path_factory.getbasetemp()
    # Workers of one run have folders side by side.
    return make_edge_once((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported")


@pytest.fixture(scope="session")
def toy_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures of 80x64 pixels in in/, and annotations.json."""
    from toy_training import make_toy_set

    return make_toy_set(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """A real S3 server on this machine: the variables that lead to it."""
    from s3_server import free_port, serving, settings

    port = free_port()
    with serving(port):
        yield settings(port)


@pytest.fixture
def bucket(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new bucket (`s3_server.Bucket`). The variables of this process lead to it."""
    from s3_server import Bucket

    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return Bucket(f"bucket-{secrets.token_hex(6)}")
