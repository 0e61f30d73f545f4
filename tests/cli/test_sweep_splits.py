"""--split of `featcodec sweep` is used, or refused; it is never passed over."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from pictures import save_texture
from refusals import assert_refused

SIDE = 96


@pytest.fixture
def sweep(run: Any, tmp_path: Path, tiny_yolov5: Path) -> Any:
    image = save_texture(tmp_path / "in.png", SIDE, SIDE)
    box = {"id": 1, "image_id": 0, "category_id": 5, "bbox": [10, 10, 50, 40], "area": 2000, "iscrowd": 0}
    content = {
        "images": [{"id": 0, "file_name": "in.png", "width": SIDE, "height": SIDE}],
        "annotations": [box],
        "categories": [{"id": 5, "name": "newt"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))

    def call(*options: object) -> tuple[int, str, str]:
        return run(
            *("sweep", image, "--annotations", tmp_path / "truth.json"),
            *("-o", tmp_path / "points.csv", "--detector", tiny_yolov5, "--qp", 40, "--image-size", SIDE),
            *options,
        )

    return call


@pytest.mark.parametrize("options", [(), ("--bottleneck", "none"), ("--method", "latent")])
def test_latent_coding_is_measured_behind_the_split_that_was_asked_for(
    sweep: Any, tmp_path: Path, options: tuple[str, ...]
) -> None:
    code, out, _ = sweep("--split", 2, "--split", 6, *options)
    assert (code, [out.count(f"  split {split}  ") for split in (2, 6)]) == (0, [1, 1])
    rows = list(csv.DictReader((tmp_path / "points.csv").read_text().splitlines()))
    assert [row["split"] for row in rows] == ["2", "6"]


@pytest.mark.parametrize("method", ["bottleneck", "input-vvc", "input-jpeg"])
def test_a_split_that_no_method_takes_is_wrong_usage(sweep: Any, tmp_path: Path, method: str) -> None:
    code, _, err = sweep("--split", 2, "--method", method)
    assert code == 2
    assert "--split is for the methods latent and uncoded" in " ".join(err.split())
    assert not (tmp_path / "points.csv").exists()


def test_a_bottleneck_of_another_split_is_refused(sweep: Any, tmp_path: Path) -> None:
    options = ("--detector", "scenes", "--bottleneck", "alley")
    assert_refused(sweep(*options, "--split", 2), "layer 4", "--split")
