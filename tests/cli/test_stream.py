"""featcodec stream: from pictures to detections and a summary, through the real service and real networks."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from answering_server import answering, decoded, nothing_found
from pictures import save_texture
from refusals import assert_refused
from running import Running, running
from videos import make_video

from featcodec import FeatureCodec
from featcodec.service.settings import Settings

SIZE = ("--image-size", "160")
SUMMARY = "frames, "


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, image_size=160, video_codec="hevc")


@pytest.fixture(scope="module")
def server(codec: FeatureCodec) -> Iterator[Running]:
    with running(codec, Settings(workers=1)) as service:
        yield service


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        save_texture(folder / f"{number}.png", 120, 90, seed=number)
    return folder


def test_a_folder_becomes_the_detections_of_its_pictures(
    run: Any, server: Running, codec: FeatureCodec, folder: Path, tiny_yolov5: Path
) -> None:
    code, out, err = run("stream", folder, "--to", server.url, "--detector", tiny_yolov5, *SIZE, "--fps", "4")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["frame"] for row in rows] == [0, 1, 2]
    assert err.startswith("3 frames, 3 sent, 3 answered, 0 dropped, ")
    for row, path in zip(rows, sorted(folder.iterdir()), strict=True):
        stream = codec.encode(path, 38)
        assert row["bytes"] == len(stream)
        expected = codec.decode(stream).to_coco(0)
        assert [each["category_name"] for each in row["detections"]] == [each["category_name"] for each in expected]
        boxes = [each["bbox"] for each in row["detections"]]
        assert np.array(boxes) == pytest.approx(np.array([each["bbox"] for each in expected]), abs=0.01)
        assert (row["status"], row["qp"], row["width"], row["height"]) == (200, 38, 120, 90)
        assert row["latency_ms"] > 0


def test_a_video_becomes_lines_a_drawing_and_a_summary(
    run: Any, server: Running, tmp_path: Path, tiny_yolov5: Path
) -> None:
    video = make_video(tmp_path / "in.mp4", 12, rate=12)
    outputs = ["-o", tmp_path / "out/lines.jsonl", "--draw", tmp_path / "drawn.mp4"]
    arguments = ["stream", video, "--to", server.url, "--detector", tiny_yolov5, *SIZE, *outputs, "--json"]
    code, out, err = run(*arguments)
    summary = json.loads(out)
    rows = [json.loads(line) for line in (tmp_path / "out/lines.jsonl").read_text().splitlines()]
    assert (code, err) == (0, "")
    assert summary["frames"] == 12
    assert summary["answered"] == len(rows) == summary["sent"] >= 3
    assert summary["frames"] == summary["sent"] + summary["dropped"]
    assert summary["bytes"] == sum(row["bytes"] for row in rows)
    assert summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"]
    with av.open(str(tmp_path / "drawn.mp4")) as container:
        assert len(list(container.decode(video=0))) == len(rows)
    before = (tmp_path / "drawn.mp4").read_bytes()
    assert_refused(run(*arguments), "lines.jsonl: exists; use --overwrite or another -o")
    (tmp_path / "out/lines.jsonl").unlink()
    assert_refused(run(*arguments), "drawn.mp4: exists; use --overwrite or another --draw")
    assert (tmp_path / "drawn.mp4").read_bytes() == before


def test_a_run_without_any_answer_fails(run: Any, folder: Path, tiny_yolov5: Path) -> None:
    """Also where nothing was sent, because no picture can make its deadline."""
    with answering(lambda _: None) as server:
        arguments = ["--to", server.url, "--detector", tiny_yolov5, *SIZE, "--frames", "2", "--deadline-ms", "10"]
        code, out, err = run("stream", folder, *arguments)
    assert (code, out) == (1, "")
    assert "2 frames" in err


def test_the_qp_follows_a_bit_rate(run: Any, server: Running, folder: Path, tiny_yolov5: Path) -> None:
    arguments = ["--detector", tiny_yolov5, *SIZE, "--fps", "20", "--loop", "--frames", "40", "--qp", "20"]
    code, out, _ = run("stream", folder, "--to", server.url, *arguments, "--bitrate", "5k")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert rows[0]["qp"] == 20
    assert rows[-1]["qp"] > 25


def test_vvc_and_hevc_both_go(run: Any, server: Running, folder: Path, tiny_yolov5: Path) -> None:
    for name in ("ffmpeg", "hevc"):
        arguments = ["--detector", tiny_yolov5, *SIZE, "--frames", "1", "--codec", name, "--deadline-ms", "60000"]
        code, out, _ = run("stream", folder, "--to", server.url, *arguments)
        assert (code, json.loads(out)["status"]) == (0, 200)


def test_the_token_comes_from_a_file_the_environment_or_an_option(
    run: Any, folder: Path, tmp_path: Path, tiny_yolov5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = "secret-word"
    (tmp_path / "token").write_text(f"{right}\nand a remark\n")
    (tmp_path / "empty").write_text("")
    with answering(token=right) as server:
        arguments = ["stream", folder, "--to", server.url, "--detector", tiny_yolov5, *SIZE, "--frames", "1"]
        assert run(*arguments, "--token", right)[0] == 0
        assert run(*arguments, "--token-file", tmp_path / "token")[0] == 0
        assert_refused(run(*arguments, "--token-file", tmp_path / "empty"), "empty: not a --token")
        code, _, err = run(*arguments, "--token", "wrong")
        assert code == 1
        assert "the server refused the token; give its --token, or FEATCODEC_TOKEN" in err
        assert right not in err
        monkeypatch.setenv("FEATCODEC_TOKEN", right)
        assert run(*arguments)[0] == 0


def test_the_service_refuses_other_networks_and_a_wrong_token(run: Any, codec: FeatureCodec, folder: Path) -> None:
    right = "a-long-word"
    with running(codec, Settings(workers=1, token=right)) as service:
        arguments = ["stream", folder, "--to", service.url, "--detector", "scenes", "--loop", "--image-size", "160"]
        code, _, err = run(*arguments, "--token", right)
        assert code == 1
        assert "the server refuses these frames" in err.splitlines()[-1]
        assert codec.fingerprint.hex() in err
        code, _, err = run(*arguments, "--token", "wrong")
        assert code == 1
        assert "the server refused the token" in err.splitlines()[-1]


def test_other_networks_end_the_command(run: Any, folder: Path, tiny_yolov5: Path) -> None:
    from featcodec.edge.messages import Answer

    refusal = "made with networks 01, not with 02; start the server with the same networks"
    with answering(lambda message: Answer(message.number, message.captured, 422, "networks", refusal)) as server:
        code, _, err = run("stream", folder, "--to", server.url, "--detector", tiny_yolov5, *SIZE, "--loop")
    assert code == 1
    assert refusal in err.splitlines()[-1]


def test_an_exported_model_needs_no_detector(run: Any, folder: Path, exported_model: Path) -> None:
    from exported_model import QP, SIDE, small_codec

    with answering(decoded(small_codec())) as server:
        arguments = ["stream", folder, "--to", server.url, "--model", exported_model, "--fps", "4"]
        code, out, err = run(*arguments)
        assert (code, err.partition(" dropped")[0]) == (0, "3 frames, 3 sent, 3 answered, 0")
        assert {json.loads(line)["qp"] for line in out.splitlines()} == {QP}
        code, out, _ = run(*arguments, "--frames", "1", "--qp", "51")
        assert (code, json.loads(out)["qp"]) == (0, 51)
    code, _, err = run(*arguments, "--image-size", SIDE)
    assert code == 2
    assert "--image-size is decided by the exported model" in " ".join(err.split())


def test_an_exported_model_streams_without_torch(exported_model: Path, folder: Path, tmp_path: Path) -> None:
    code = "import sys\nfor name in ('torch', 'ultralytics'): sys.modules[name] = None\n"
    code += "from featcodec.cli.main import main\nmain(sys.argv[1:])\n"
    with answering(nothing_found) as server:
        arguments = ["stream", folder, "--to", server.url, "--model", exported_model, "--frames", "1"]
        outputs = ["-o", tmp_path / "a.jsonl", "--draw", tmp_path / "a.mp4", "--bitrate", "200k"]
        command = [sys.executable, "-c", code, *map(str, (*arguments, *outputs))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert json.loads((tmp_path / "a.jsonl").read_text())["status"] == 200


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere.mp4", "--to", "ws://127.0.0.1:1"], "nowhere.mp4: no such file"),
        ([".", "--to", "127.0.0.1:1"], "not the address of a server"),
        ([".", "--to", "ws://u:p@127.0.0.1:1"], "no user name or password"),
        ([".", "--to", "ws://127.0.0.1:1", "--name", "x" * 65], "give a --name"),
        ([".", "--to", "ws://127.0.0.1:1", "--token", "two words"], "not a --token"),
        ([".", "--to", "ws://127.0.0.1:1", "--token-file", "nowhere"], "nowhere: no such file"),
    ],
)
def test_what_cannot_work_is_said_at_once(run: Any, arguments: list[str], reason: str) -> None:
    assert_refused(run("stream", *arguments), reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.avi", "a.avi: is not the name of an .mp4 file; choose another --draw"),
        ("file/a.mp4", "a.mp4: cannot be written"),
        ("/proc/a.mp4", "a.mp4: cannot be written"),
    ],
)
def test_a_drawing_that_cannot_be_written_is_refused_at_once(
    run: Any, folder: Path, tiny_yolov5: Path, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    arguments = ["--to", "ws://127.0.0.1:1", "--detector", tiny_yolov5, *SIZE, "--draw", tmp_path / name]
    code, out, err = run("stream", folder, *arguments, "--seconds", "9")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert reason in err


@pytest.mark.parametrize(
    "arguments", [["--bitrate", "fast"], ["--bitrate", "0k"], ["--json"], ["--qp", "64"], ["--seconds", "0"]]
)
def test_wrong_usage(run: Any, arguments: list[str]) -> None:
    assert run("stream", ".", "--to", "ws://127.0.0.1:1", *arguments)[0] == 2


def test_hevc_has_no_qp_above_51(run: Any, folder: Path, tiny_yolov5: Path) -> None:
    arguments = ["--to", "ws://127.0.0.1:1", "--detector", tiny_yolov5, "--qp", "60"]
    assert_refused(run("stream", folder, *arguments), "51")


def test_a_server_that_is_not_there_is_one_line(run: Any, folder: Path, tiny_yolov5: Path) -> None:
    with answering() as server:
        url = server.url
    arguments = ["--detector", tiny_yolov5, *SIZE, "--seconds", "0.3"]
    code, out, err = run("stream", folder, "--to", url, *arguments)
    assert (code, out) == (1, "")
    assert f"{url}/v1/stream: there was no connection; check the address" in err.splitlines()[-1]


def test_a_certificate_that_nobody_knows_is_one_line(
    run: Any, folder: Path, tmp_path: Path, tiny_yolov5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("there is no openssl to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    arguments = ["--detector", tiny_yolov5, *SIZE, "--frames", "1"]
    with answering(nothing_found, ssl=context) as server:
        code, _, err = run("stream", folder, "--to", f"wss://localhost:{server.port}", *arguments)
        assert code == 1
        assert "its certificate is not valid (self-signed certificate)" in err.splitlines()[-1]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert run("stream", folder, "--to", f"wss://localhost:{server.port}", *arguments)[0] == 0
        code, _, err = run("stream", folder, "--to", f"wss://127.0.0.1:{server.port}", *arguments)
        assert code == 1
        assert "its certificate is not valid" in err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_still_gives_the_summary_and_a_whole_video(
    server: Running, folder: Path, tmp_path: Path, tiny_yolov5: Path, sent: signal.Signals, code: int
) -> None:
    arguments = ["stream", str(folder), "--to", server.url, "--detector", str(tiny_yolov5), *SIZE, "--loop"]
    process = subprocess.Popen(
        [sys.executable, "-m", "featcodec", *arguments, "--draw", str(tmp_path / "a.mp4")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(3):
        assert json.loads(process.stdout.readline())["status"] == 200
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert " answered, " in err
    assert "Traceback" not in err
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(list(container.decode(video=0))) >= 2
