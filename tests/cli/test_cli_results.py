"""Detections as JSON, JSON lines and Parquet: the same accuracy from each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("with_annotations", [False, True])
def test_every_format_has_the_same_accuracy(
    run: Run, drawn_scenes: Path, tmp_path: Path, with_annotations: bool
) -> None:
    truth = ["--annotations", drawn_scenes / "annotations.json"]
    options = ["--detector", "scenes", "--device", "cpu"]
    assert run("encode", drawn_scenes / "images", "-o", tmp_path / "out", *options)[0] == 0
    found = []
    for name in ("d.json", "d.jsonl", "d.parquet"):
        more = truth if with_annotations else []
        assert run("decode", tmp_path / "out", "-o", tmp_path / name, *options, *more)[0] == 0
        code, out, _ = run("evaluate", tmp_path / name, *truth, "--streams", tmp_path / "out")
        assert code == 0
        found.append(out)
    assert found[0] == found[1] == found[2]
    assert float(found[0].split("AP50")[1].split()[0]) > 50
