"""featcodec export: the command around tests/export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featcodec.edge import EdgeEncoder

SIZE = ("--image-size", 128)


@pytest.mark.slow
def test_export_writes_a_folder_that_an_edge_loads(run: Any, tmp_path: Path, drawn_scenes: Path) -> None:
    images, annotations = drawn_scenes / "images", drawn_scenes / "annotations.json"
    arguments = ["export", "scenes", "-o", tmp_path / "model", "--bottleneck", "street", "--qp", 20, *SIZE]
    code, out, err = run(*arguments, "--verify", images, "--annotations", annotations)
    assert (code, err) == (0, "")
    assert "AP50, not coded: " in out
    assert "AP50 at QP 20 (HEVC): " in out
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["cloud.onnx", "edge.onnx", "model.json"]
    encoder = EdgeEncoder.load(tmp_path / "model", threads=1)
    assert (encoder.default_qp, encoder.image_size) == (20, 128)
    code, _, err = run(*arguments)
    assert code == 1
    assert "exists; use --overwrite" in err


def test_annotations_need_pictures(run: Any, tmp_path: Path) -> None:
    code, _, err = run("export", "scenes", "-o", tmp_path / "m", "--annotations", tmp_path / "a.json")
    assert code == 2
    assert "--verify" in err


def test_what_cannot_be_loaded_is_one_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"nonsense")
    code, out, err = run("export", tmp_path / "bad.pt", "-o", tmp_path / "m")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--int8"], "--calibrate or --verify"), (["--calibrate", "a.png"], "give --int8 too")]
)
def test_int8_and_its_pictures_go_together(run: Any, tmp_path: Path, arguments: list[str], named: str) -> None:
    code, out, err = run("export", "scenes", "-o", tmp_path / "m", *arguments)
    assert (code, out) == (2, "")
    assert named in err


def test_pictures_must_be_there(run: Any, tmp_path: Path) -> None:
    code, _, err = run("export", "scenes", "-o", tmp_path / "m", "--verify", tmp_path / "nowhere")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "nowhere" in err
