"""featcodec frigate: a REQ socket that speaks as Frigate's plugin does, real networks, and a server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from answering_server import answering, decoded
from pictures import texture
from refusals import assert_refused

from featcodec import FeatureCodec
from featcodec.detections import BoxFilter

ENTRY = [sys.executable, "-m", "featcodec", "frigate"]


class Plugin:
    """What Frigate does: one REQ socket, a handshake for the model, pictures, and zeros on errors."""

    def __init__(self, endpoint: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REQ)
        for option, value in ((zmq.RCVTIMEO, 60_000), (zmq.SNDTIMEO, 60_000), (zmq.LINGER, 0)):
            self.socket.setsockopt(option, value)
        self.socket.connect(endpoint)

    def __enter__(self) -> Plugin:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.context.term()

    def ask(self, *parts: bytes) -> list[bytes]:
        self.socket.send_multipart(list(parts))
        return self.socket.recv_multipart()

    def is_ready(self) -> bool:
        (said,) = self.ask(json.dumps({"model_request": True, "model_name": "featcodec"}).encode("utf-8"))
        response = json.loads(said.decode("utf-8"))
        return bool(response.get("model_available", False) and response.get("model_loaded", False))

    def detect(self, tensor: np.ndarray) -> np.ndarray:
        header = {"shape": list(tensor.shape), "dtype": str(tensor.dtype.name), "model_type": "yologeneric"}
        frames = self.ask(json.dumps(header).encode("utf-8"), tensor.tobytes(order="C"))
        said = json.loads(frames[0].decode("utf-8"))
        return np.frombuffer(frames[1], dtype=np.dtype(said["dtype"])).reshape(tuple(said["shape"]))


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return FeatureCodec.load(
        "scenes11", video_codec="hevc", image_size=320, device="cpu", boxes=BoxFilter(conf=0.05, max_det=30)
    )


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts the command; returns the process and the endpoint that it prints."""
    running: list[subprocess.Popen[str]] = []

    def call(*arguments: object) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [*ENTRY, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("detecting for Frigate at "), line or process.communicate()[1]
        return process, line.removeprefix("detecting for Frigate at ").strip()

    yield call
    for process in running:
        process.kill()
        process.communicate()


def ask_until_found(plugin: Plugin, tensor: np.ndarray) -> np.ndarray:
    """Pictures are without boxes until the link is there."""
    pause = threading.Event()
    for _ in range(200):
        found = plugin.detect(tensor)
        if found.any():
            return found
        pause.wait(0.1)
    raise AssertionError("no boxes")


@pytest.mark.slow
def test_frigate_gets_the_boxes_of_a_street_scene(
    start: Any, codec: FeatureCodec, drawn_scenes: Path, tmp_path: Path
) -> None:
    from PIL import Image

    picture = np.asarray(Image.open(next(iter(sorted((drawn_scenes / "images").iterdir())))).convert("RGB"))
    settings = ["--detector", "scenes11", "--image-size", 320, "--deadline-ms", 30_000]
    with answering(decoded(codec)) as server:
        process, endpoint = start("--to", server.url, "--endpoint", f"ipc://{tmp_path}/detector", *settings)
        assert endpoint == f"ipc://{tmp_path}/detector"
        with Plugin(endpoint) as plugin:
            assert plugin.is_ready()
            found = ask_until_found(plugin, picture[None])
            assert not plugin.ask(b"rubbish")[1].strip(b"\0")
            again = plugin.detect(np.transpose(picture[None], (0, 3, 1, 2)))  # NCHW
            assert (found == again).all()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "1 malformed requests" in err
    assert "has no traffic sign; Frigate does not get boxes of these classes" in err
    expected = codec.decode(codec.encode(picture)).to_coco(0)
    height, width = picture.shape[:2]
    best = next(row for row in expected if row["category_name"] in {"car", "truck", "bus", "pedestrian"})
    left, top, wide, high = best["bbox"]
    number = {"car": 2, "truck": 7, "bus": 5, "pedestrian": 0}[best["category_name"]]
    corners = [top / height, left / width, (top + high) / height, (left + wide) / width]
    assert found[0].tolist() == pytest.approx([number, best["score"], *corners], abs=1e-4)
    assert (np.diff(found[:, 1]) <= 0).all()


@pytest.mark.slow
def test_without_a_server_frigate_gets_zeros_and_is_not_kept_waiting(start: Any, tiny_yolov5: Path) -> None:
    with answering() as server:
        url = server.url
    process, endpoint = start("--to", url, "--endpoint", "tcp://127.0.0.1:0", "--detector", tiny_yolov5)
    with Plugin(endpoint) as plugin:
        assert plugin.is_ready()
        for _ in range(3):
            assert not plugin.detect(texture(64, 48)[None]).any()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "3 pictures, 0 answered, 3 without an answer, 0 malformed requests" in err
    assert "cannot be reached (Connection refused); trying again" in err


def test_it_ends_after_its_time(run: Any, exported_model: Path) -> None:
    with answering() as server:
        arguments = ["--to", server.url, "--endpoint", "tcp://127.0.0.1:0", "--model", exported_model]
        code, out, _ = run("frigate", *arguments, "--seconds", "0.3", "--json")
    assert (code, json.loads(out)) == (0, {"pictures": 0, "answered": 0, "empty": 0, "malformed": 0})


def test_a_map_without_any_class_of_the_detector_is_refused(run: Any, tiny_yolov5: Path, tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("dragon\nunicorn\n")
    arguments = ["--to", "ws://127.0.0.1:1", "--endpoint", "tcp://127.0.0.1:0", "--detector", tiny_yolov5]
    assert_refused(run("frigate", *arguments, "--labelmap", tmp_path / "map.txt"), "has no class of this detector")


def test_a_refused_token_ends_the_command(run: Any, tiny_yolov5: Path) -> None:
    right = "right"
    with answering(token=right) as server:
        arguments = ["--to", server.url, "--endpoint", "tcp://127.0.0.1:0", "--detector", tiny_yolov5]
        code, _, err = run("frigate", *arguments, "--token", "wrong")
    assert code == 1
    assert "the server refused the token" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--to", "nowhere"], "not the address of a server"),
        (["--to", "ws://127.0.0.1:1", "--endpoint", "udp://x"], "give tcp://HOST:PORT"),
        (["--to", "ws://127.0.0.1:1", "--labelmap", "nowhere"], "nowhere: no such file"),
    ],
)
def test_what_cannot_work_is_said_at_once(run: Any, arguments: list[str], reason: str) -> None:
    assert_refused(run("frigate", *arguments), reason)
