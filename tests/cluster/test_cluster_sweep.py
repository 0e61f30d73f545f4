"""A sweep on a cluster measures the same rows as one without."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sweep_set import SIDE, dataset_of, make_sweep_set

from featcodec.cluster.sweep import ClusterBench
from featcodec.codec import FeatureCodec
from featcodec.errors import InputError
from featcodec.evaluation.anchors import InputJpegMethod
from featcodec.evaluation.methods import FeatureMethod, UncodedMethod
from featcodec.evaluation.points import PointFile, Row
from featcodec.evaluation.sweep import Outcome, Plan, sweep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("on_two_nodes"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

COUNT = 17
"""More than one task for each of the two cores, of four shapes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> Path:
    return make_sweep_set(tmp_path_factory.mktemp("set"), tiny_yolov5, COUNT)


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, bottleneck=None, image_size=SIDE)


@dataclass(frozen=True, eq=False)
class Gray:
    """An attacker who sees nothing."""

    codec: FeatureCodec

    def on_streams(self, batch: Any) -> list[Any]:
        pictures = []
        for side_info, _ in batch:
            gain = SIDE / max(side_info.original_width, side_info.original_height)
            size = (round(side_info.original_height * gain), round(side_info.original_width * gain))
            pictures.append(np.full((*size, 3), 0.5, np.float32))
        return pictures


def without_times(outcomes: list[Outcome]) -> list[Row]:
    rows = [outcome.row for outcome in outcomes]
    assert None not in rows, outcomes
    return [{name: value for name, value in row.items() if not name.endswith("_seconds")} for row in rows if row]


def test_the_same_rows(codec: FeatureCodec, folder: Path, tmp_path: Path) -> None:
    plans: list[Plan[Any, Any]] = [
        Plan(FeatureMethod(codec, attacker=Gray(codec), recnet="ab12"), [30, 40]),
        Plan(InputJpegMethod(codec), [50]),
        Plan(UncodedMethod(codec), [None]),
    ]
    dataset = dataset_of(folder)
    here = list(sweep(plans, dataset, PointFile(tmp_path / "here.csv"), bootstrap=20))
    there = list(sweep(plans, dataset, PointFile(tmp_path / "there.csv"), bootstrap=20, bench=ClusterBench()))
    assert without_times(there) == without_times(here)
    assert all(float(outcome.row["back_end_seconds"]) > 0 for outcome in there if outcome.row)


class Deadly(FeatureMethod):
    """A method whose networks die at a picture of one shape, or in the encoder at one QP."""

    def prepare(self, batch: Any) -> Any:
        if any(image.letterbox.original_width == 120 for image in batch):
            os._exit(1)
        return super().prepare(batch)


class DeadlyLater(FeatureMethod):
    def encode(self, batch: Any, value: int | None) -> Any:
        if value == 36 and any(side_info.original_width == 120 for side_info, _ in batch):
            os._exit(1)
        return super().encode(batch, value)


@pytest.mark.parametrize("method", [Deadly, DeadlyLater])
def test_an_image_that_kills_its_worker_is_named(
    codec: FeatureCodec, folder: Path, tmp_path: Path, method: type[FeatureMethod], capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = dataset_of(folder, *(f"{number}.png" for number in range(6)))
    (deadly,) = [source for source in dataset.sources if _width(source.path) == 120]
    plan = Plan(method(codec), [36, 40])
    first, second = sweep([plan], dataset, PointFile(tmp_path / "points.csv"), bench=ClusterBench())
    problem = f"{deadly.path}: its worker died at each of 3 tries; leave the image out, or give the workers more memory"
    assert first.error == f"latent, qp 36: {problem}"
    assert (second.error is None) == (method is DeadlyLater)
    assert capfd.readouterr() == ("", "")


def test_an_image_that_cannot_be_read_is_said(codec: FeatureCodec, tiny_yolov5: Path, tmp_path: Path) -> None:
    folder = make_sweep_set(tmp_path / "set", tiny_yolov5, 3)
    dataset = dataset_of(folder)
    (folder / "in/1.png").write_bytes(b"nonsense")
    outcomes = sweep([Plan(FeatureMethod(codec), [36])], dataset, PointFile(tmp_path / "a.csv"), bench=ClusterBench())
    with pytest.raises(InputError, match=r"1\.png"):
        list(outcomes)


def _width(path: Path) -> int:
    with Image.open(path) as image:
        return image.width
