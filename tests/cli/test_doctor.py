"""The doctor: a broken encoder is shown as it speaks, and the disk is the one that downloads go to."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import pytest

from featcodec.cli.examination import Check, _codec, _weights
from featcodec.cli.main import main


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return int(stop.value.code or 0), captured.out


@pytest.fixture
def broken_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An ffmpeg that fails; rich would take its message for markup."""
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho '[/x] closing tag, [red]opening tag' >&2; exit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path / "home"))
    return str(script)


@pytest.mark.usefixtures("broken_encoder")
def test_a_broken_encoder_is_quoted_as_it_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = doctor(capsys)
    assert code == 1
    assert "[/x] closing tag, [red]opening tag" in " ".join(out.split())
    assert "broken" in out


def test_a_broken_encoder_is_broken_and_a_missing_official_one_only_missing(
    capsys: pytest.CaptureFixture[str], broken_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("FEATCODEC_VVC_BIN", raising=False)
    monkeypatch.setattr("featcodec.video.vvenc._CHECKOUT_BIN", Path("/nonexistent"))
    code, out = doctor(capsys, "--json")
    checks = {check["topic"]: check for check in json.loads(out)}
    assert code == 1
    assert checks["codec ffmpeg"]["status"] == "broken"
    assert broken_encoder in checks["codec ffmpeg"]["detail"]
    assert checks["codec vvenc"]["status"] == "missing"
    assert [topic for topic, check in checks.items() if check["status"] == "broken"] == ["codec ffmpeg"]
    assert "or use --video-codec ffmpeg" in checks["codec vvenc"]["detail"]
    assert "leave out --hardware" in checks["codec hevc, nvenc"]["detail"]


def test_an_encoder_whose_picture_comes_back_wrong_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def encode(self, frames: list[Any], qp: int) -> list[bytes]:
            return [b"stream"]

        def decode(self, stream: bytes, shape: tuple[int, int]) -> Any:
            import numpy as np

            return np.zeros(shape, np.uint8)

    monkeypatch.setattr("featcodec.cli.examination.open_video_codec", lambda *_: Wrong())
    check = _codec("ffmpeg", optional=False)
    assert check.status == "broken"
    assert "came back" in check.detail


@pytest.mark.parametrize("made", [False, True])
def test_the_disk_is_that_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool) -> None:
    home = tmp_path / "not/there/yet"
    if made:
        home.mkdir(parents=True)
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return collections.namedtuple("Usage", "free")(5 << 30)

    monkeypatch.setenv("FEATCODEC_HOME", str(home))
    monkeypatch.setattr("shutil.disk_usage", usage)
    *_, disk = _weights()
    assert asked == [home if made else tmp_path]
    assert disk == Check("disk", "ok", f"5 GiB free in {asked[0]}")


def test_a_relative_cache_has_a_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATCODEC_HOME", "cache")
    *_, disk = _weights()
    assert disk.detail.endswith(f"free in {tmp_path}")


def test_damaged_weights_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/yolov5n.pt").write_bytes(b"damaged")
    first, *_ = _weights()
    assert first.status == "broken"
    assert f"yolov5n in {tmp_path / 'weights'}" in first.detail


def test_what_ships_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path))
    weights, shipped, _ = _weights()
    assert (weights.status, shipped) == ("missing", Check("shipped weights", "ok", "scenes, scenes11"))
