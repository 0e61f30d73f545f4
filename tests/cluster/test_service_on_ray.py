"""The server as a deployment of Ray Serve: replicas die, and no request is lost that its client sends again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pictures import texture
from s3_server import free_port

from featcodec import FeatureCodec
from featcodec.edge.messages import Answer, FrameMessage
from featcodec.service.answers import detections_json
from featcodec.service.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PATIENCE = 120
NETWORKS = {"detector": "scenes", "video_codec": "hevc", "image_size": 160, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return FeatureCodec.load(**NETWORKS)


@pytest.fixture(scope="module")
def url(two_nodes: Any) -> Iterator[str]:
    """The address of two replicas of half a core each."""
    pytest.importorskip("ray.serve")
    from featcodec.cluster.session import SERVE, connected
    from featcodec.service.many import Build, deployed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            connected(two_nodes.address, SERVE),
            deployed(
                Build(NETWORKS, Settings(max_queue=64)),
                host="127.0.0.1",
                port=free_port(),
                replicas=2,
                most_replicas=2,
                cpus=0.5,
            ) as address,
        ):
            yield address


def replicas() -> set[int]:
    """The processes of replicas below this process."""
    found, parents = set(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"ray::ServeReplica" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return {each for each in found if os.getpid() in ancestors(each, parents)}


def ancestors(process: int, parents: dict[int, int]) -> list[int]:
    chain = [process]
    while chain[-1] in parents:
        chain.append(parents[chain[-1]])
    return chain


def test_a_replica_answers_bodies_and_frames(url: str, codec: FeatureCodec) -> None:
    from websockets.sync.client import connect

    stream = codec.encode(texture(160, 120))
    expected = detections_json(codec.decode(stream))
    answer = Answer.from_json(httpx.post(f"{url}/v1/detections", content=stream, timeout=PATIENCE).text)
    assert answer.detections == expected
    assert httpx.post(f"{url}/v1/detections", content=b"nonsense", timeout=PATIENCE).status_code == 400
    with connect(f"ws{url.removeprefix('http')}/v1/stream?source=a", open_timeout=PATIENCE, proxy=None) as socket:
        for number in range(3):
            socket.send(FrameMessage(number, 0, stream).to_bytes())
        answers = [Answer.from_json(socket.recv(timeout=PATIENCE)) for _ in range(3)]
    assert {each.frame for each in answers} == {0, 1, 2}
    assert all(each.detections == expected for each in answers)


def test_a_replica_that_is_killed_under_load_loses_no_request(url: str, codec: FeatureCodec) -> None:
    streams = [codec.encode(texture(160, 120, seed=seed)) for seed in range(4)]
    expected = [detections_json(codec.decode(stream)) for stream in streams]
    before = replicas()
    assert len(before) == 2
    statuses: Counter[object] = Counter()
    is_killed = threading.Event()
    done: list[int] = []

    def client(place: int) -> None:
        """Sends one stream again and again, each until it is answered; some after a replica was killed."""
        after = 0
        deadline = time.monotonic() + PATIENCE
        while after < 30 and time.monotonic() < deadline:
            try:
                response = httpx.post(f"{url}/v1/detections", content=streams[place], timeout=PATIENCE)
                status: object = response.status_code
            except httpx.HTTPError as error:
                status = type(error).__name__
            statuses[status] += 1
            if status != 200:
                time.sleep(0.05)  # as a client does that tries again
                continue
            assert response.json()["detections"] == expected[place]
            after += is_killed.is_set()
        done.append(after)

    threads = [threading.Thread(target=client, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    while statuses[200] < 20:
        time.sleep(0.01)
    os.kill(min(before), signal.SIGKILL)
    is_killed.set()
    for thread in threads:
        thread.join(2 * PATIENCE)
    print(dict(statuses))
    assert done == [30] * 4
    deadline = time.monotonic() + PATIENCE
    while len(replicas() - {min(before)}) < 2:  # Ray starts another one
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_command_serves_and_ends_with_0() -> None:
    """On a cluster of its own on this machine."""
    command = [sys.executable, "-m", "featcodec", "serve", "--ray", "--replicas", "1", "--replica-cpus", "0.5"]
    options = ["--detector", "scenes", "--image-size", "160", "--device", "cpu", "--port", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving http://127.0.0.1:"), line
        response = httpx.get(f"{line.split()[1]}/readyz", timeout=PATIENCE)
        assert (response.status_code, response.json()) == (200, {"status": "ready"})
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "", "")
