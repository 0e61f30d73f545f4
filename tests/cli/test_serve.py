"""featcodec serve: the real command in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from pictures import texture
from serving import serving

from featcodec import FeatureCodec
from featcodec.service.answers import detections_json

PATIENCE = 120


@pytest.fixture(scope="module")
def stream() -> bytes:
    return codec().encode(texture(160, 120))


def codec() -> FeatureCodec:
    """As the command computes."""
    return FeatureCodec.load("scenes", video_codec="hevc", image_size=160, precision="auto", device="cpu")


def end(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Ask the process to end: its exit code and the rest of what it prints."""
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_answers_and_ends_with_0(stream: bytes, number: int) -> None:
    with serving("--conf", "0.001", "--max-det", "7") as (process, url):
        answer = httpx.post(f"{url}/v1/detections", content=stream, timeout=PATIENCE).json()
        assert answer["detections"] == detections_json(codec().decode(stream))[:7]
        code, out, err = end(process, number)
    assert (code, out) == (0, "")
    assert [line.split(" featcodec: ")[1] for line in err.splitlines()] == ["ready: 1 decoders", "ending", "ended"]


@pytest.mark.slow
def test_the_token_is_read_from_a_file_or_the_environment(stream: bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-a-file\n")
    with ExitStack() as stack:
        servers = [
            (stack.enter_context(serving("--token-file", str(file)))[1], "from-a-file"),
            (stack.enter_context(serving(FEATCODEC_TOKEN="from-the-environment"))[1], "from-the-environment"),  # noqa: S106
        ]
        for url, token in servers:
            for shown, status in ((token, 200), ("other", 401)):
                headers = {"Authorization": f"Bearer {shown}"}
                response = httpx.post(f"{url}/v1/detections", content=stream, headers=headers, timeout=PATIENCE)
                assert response.status_code == status


@pytest.mark.slow
def test_decoders_end_when_the_server_is_killed() -> None:
    with serving() as (process, _):
        tasks = list(Path(f"/proc/{process.pid}/task").glob("*/children"))
        if not tasks:
            pytest.skip("this system does not list the children of a process")
        started = [int(each) for task in tasks for each in task.read_text().split()]
        assert started
        process.kill()
        process.wait(PATIENCE)
        while any(Path(f"/proc/{each}/cmdline").is_file() and is_alive(each) for each in started):
            pass


def is_alive(number: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "203.0.113.7"], "choose another --host"),
        (["--token", "a b"], "--token"),
        (["--token-file", "/no/such/file"], "/no/such/file"),
        (["--detector", "no-such-detector"], "no-such-detector"),
    ],
)
def test_what_cannot_be_served_is_an_error_of_one_line(run: Any, options: list[str], said: str) -> None:
    code, out, err = run("serve", "--port", "0", *options)
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_port_that_is_taken_is_an_error_of_one_line(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run("serve", "--port", port, "--detector", "scenes")
    assert code == 1
    assert f"127.0.0.1:{port}: cannot be served" in err
    assert "choose another --port" in err
