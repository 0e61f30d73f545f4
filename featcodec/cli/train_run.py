"""Runs one training stage with the options of its loop, and says what it wrote."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.console import complain, training_progress

if TYPE_CHECKING:
    from featcodec.training.direct_reader import PlateWindowData
    from featcodec.training.loop import LoopOptions
    from featcodec.training.plate_reader import PlateData
    from featcodec.training.setup import TrainingData

_OF_THE_LOOP = (
    *("output", "batch_size", "learning_rate", "warmup_steps", "optimizer", "weight_decay", "seed", "resume"),
    *("save_every", "evaluate_every", "accelerator", "devices", "precision"),
)


def run_stage(
    train: Callable[[LoopOptions], Path],
    options: Mapping[str, Any],
    data: TrainingData | PlateData | PlateWindowData,
    epochs: float,
) -> None:
    import torch

    from featcodec.errors import InputError
    from featcodec.training.loop import LoopOptions

    if options["threads"]:
        torch.set_num_threads(options["threads"])
    images = options["batch_size"] * options["devices"]
    epochs = options["epochs"] or epochs
    if not math.isfinite(epochs):
        raise InputError(f"{epochs} epochs never end; give a number")
    steps = options["steps"] or math.ceil(epochs * len(data.images) / images)
    with training_progress(steps) as report:
        loop = LoopOptions(steps=steps, report=report, **{name: options[name] for name in _OF_THE_LOOP})
        written = train(loop)
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # lightning-fabric starts the other processes with the same command
    if (best := written.with_name(written.name.replace("last-", "best-"))).exists():
        complain(f"lowest loss on the held-out images: {best}")
    click.echo(str(written))
