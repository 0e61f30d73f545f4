"""Training at toy size: a tiny detector, a handful of small pictures, a few steps."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from make_checkpoints import NAMES
from pictures import save_texture

from featcodec.detectors import SplitDetector
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.networks.checkpoints import load_checkpoint
from featcodec.training.data.coco import read_coco
from featcodec.training.data.datasets import hold_out, read_unlabelled
from featcodec.training.data.samples import Augmentation
from featcodec.training.loop_options import LoopOptions
from featcodec.training.setup import TrainingData

SIDE = 64


def make_toy_set(folder: Path, count: int = 5) -> Path:
    """Pictures of 80x64 in in/, and annotations.json with one cat and one newt on each."""
    boxes = ((9, [10, 10, 40, 30]), (5, [44, 20, 30, 40]))
    images = [{"id": n, "file_name": f"{n}.png", "width": 80, "height": 64} for n in range(count)]
    annotations = [
        {"image_id": n, "category_id": category, "bbox": box} for n in range(count) for category, box in boxes
    ]
    for image in images:
        save_texture(folder / "in" / str(image["file_name"]), 80, 64, seed=int(str(image["id"])))
    categories = [{"id": 5, "name": "newt"}, {"id": 9, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def toy_data(toy_set: Path, *, held_out: int = 2, labelled: bool = True) -> TrainingData:
    """The pictures of `make_toy_set`, the last of them held out."""
    if labelled:
        images = read_coco(toy_set / "annotations.json", toy_set / "in", NAMES)
    else:
        images = read_unlabelled([str(toy_set / "in")])
    return TrainingData(*hold_out(images, held_out), Augmentation(image_size=SIDE))


def toy_options(output: Path, **changes: Any) -> LoopOptions:
    """Few steps on the CPU, at full speed from the first one on, everything logged."""
    values: dict[str, Any] = {
        "steps": 4,
        "batch_size": 2,
        "learning_rate": 5e-3,
        "warmup_steps": 1,
        "save_every": 2,
        "evaluate_every": 2,
        "log_every": 1,
        "accelerator": "cpu",
    }
    return LoopOptions(output, **{**values, **changes})


def toy_bottleneck(path: Path, detector: SplitDetector, hidden: int = 8, seed: int = 0) -> Path:
    """A checkpoint with random weights that fits a detector: what stages 2 to 4 start from."""
    config = BottleneckConfig(
        feature_channels=detector.feature_shapes(SIDE, SIDE)[0][0],
        hidden_channels=hidden,
        channels=4,
        clip_low=-3.0,
        clip_high=3.0,
        split=4,
        detector_fingerprint=detector.fingerprint.hex(),
        training={},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_bottleneck(path, Bottleneck(config))
    return path


class StoppedError(Exception):
    """Raised by `stop_at`."""


def stop_at(step: int) -> Any:
    """A `report` that ends a run in the midst of a step."""

    def report(done: int, _values: Mapping[str, float]) -> None:
        if done == step:
            raise StoppedError

    return report


def rows(path: Path) -> list[dict[str, float]]:
    """A table of a run."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def results(output: Path) -> dict[str, bytes]:
    """What a run leaves, byte for byte; TensorBoard's files hold times and are left out."""
    return {path.name: path.read_bytes() for path in sorted(output.iterdir()) if path.is_file()}


def steps_done(output: Path) -> int:
    """The step of the last checkpoint."""
    return int(load_checkpoint(output / "state.safetensors", "training state")[0]["step"])
