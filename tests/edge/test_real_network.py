"""featcodec stream and featcodec serve in two network namespaces, with the kernel's own slow network between them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pictures import save_texture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ENTRY = [sys.executable, "-m", "featcodec"]
SLOW = ("netem", "rate", "1mbit", "delay", "100ms")
SLOW_WITHOUT_DELAY = ("tbf", "rate", "1mbit", "burst", "8kb", "latency", "400ms")
"""For kernels without netem."""
CUT_SECONDS = 30
SERVER = "10.77.0.1"
"""An address that is only in the namespaces of this test."""


@dataclass
class Network:
    """Two namespaces, joined by a cable."""

    edge: str
    cloud: str
    is_far: bool = True

    def inside(self, place: str) -> list[str]:
        return ["ip", "netns", "exec", place]

    def shape(self, *settings: str) -> None:
        """Make the cable like this, in both directions."""
        for place in (self.edge, self.cloud):
            call("tc", "-n", place, "qdisc", "replace", "dev", "cable", "root", *settings)

    def plug(self, state: str) -> None:
        """Take the cable out (`down`) or put it in (`up`)."""
        call("ip", "-n", self.cloud, "link", "set", "cable", state)


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("network namespaces need root, ip and tc")
    name = f"fc{os.getpid()}{secrets.token_hex(2)}"
    made = Network(f"{name}e", f"{name}c")
    try:
        try:
            for place, address in ((made.edge, "10.77.0.2/24"), (made.cloud, f"{SERVER}/24")):
                call("ip", "netns", "add", place)
                call("ip", "-n", place, "link", "set", "lo", "up")
                if place == made.cloud:
                    call("ip", "-n", made.edge, "link", "add", "cable", "type", "veth", "peer", "cable", "netns", place)
                    call("ip", "-n", made.edge, "addr", "add", "10.77.0.2/24", "dev", "cable")
                    call("ip", "-n", place, "addr", "add", address, "dev", "cable")
            for place in (made.edge, made.cloud):
                call("ip", "-n", place, "link", "set", "cable", "up")
            try:
                made.shape(*SLOW)
            except OSError:
                made.is_far = False
                made.shape(*SLOW_WITHOUT_DELAY)
        except OSError as error:
            pytest.skip(f"no slow network can be made here: {error}")
        yield made
    finally:
        for place in (made.edge, made.cloud):
            subprocess.run(["ip", "netns", "del", place], capture_output=True, check=False)


@contextlib.contextmanager
def running(command: list[str], error: Path) -> Iterator[subprocess.Popen[str]]:
    with error.open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Lines:
    """The lines of a process, read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.rows: list[dict[str, object]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # it is closed at the end
            for line in process.stdout:
                with self._news:
                    self.rows.append(json.loads(line))
                    self._news.notify_all()

    def wait_for(self, is_enough: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(is_enough, 120), f"{len(self.rows)} lines"


def test_a_slow_network_and_half_a_minute_without_any(network: Network, tmp_path: Path, tiny_yolov5: Path) -> None:
    for number in range(4):
        save_texture(tmp_path / f"in/{number}.png", 480, 360, seed=number)
    networks = ["--detector", str(tiny_yolov5), "--image-size", "320"]
    serve = [*network.inside(network.cloud), *ENTRY, "serve", "--host", SERVER, "--port", "0", *networks]
    stream = [*network.inside(network.edge), *ENTRY, "stream", str(tmp_path / "in"), "--loop", "--fps", "15", *networks]
    with running([*serve, "--max-det", "20"], tmp_path / "serve.txt") as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        with running([*stream, "--to", url, "--deadline-ms", "3000"], tmp_path / "stream.txt") as edge:
            lines = Lines(edge)
            lines.wait_for(lambda: len(lines.rows) >= 10)
            network.plug("down")
            threading.Event().wait(CUT_SECONDS)
            before = len(lines.rows)
            last = lines.rows[-1]["frame"]
            network.plug("up")
            lines.wait_for(lambda: len(lines.rows) >= before + 10)
            edge.send_signal(signal.SIGINT)
            edge.wait(60)
    said = (tmp_path / "stream.txt").read_text()
    assert "; trying again" in said
    assert "connected again" in said
    assert int(str(lines.rows[before + 5]["frame"])) > int(str(last)) + 15 * CUT_SECONDS / 2  # time passed meanwhile
    rows = [row for row in lines.rows if row["status"] == 200]
    assert sum(bool(row["late"]) for row in rows) <= 0.2 * len(rows)
    assert not network.is_far or min(float(str(row["latency_ms"])) for row in rows) >= 200  # there and back
    assert " dropped, " in said
