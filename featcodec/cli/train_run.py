"""Runs one training stage with the options of its loop, and says what it wrote."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.console import complain, note_all, training_progress

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
    notes: Callable[[Path], Iterable[str]] = lambda written: (),
) -> None:
    """Run a stage and say what it wrote.

    Args:
        train: the stage; it returns the checkpoint of the last step.
        options: of the command.
        data: what the stage learns from.
        epochs: how long, if the options do not say it.
        notes: what the user has to know about that checkpoint.
    """
    import torch

    from featcodec.errors import InputError
    from featcodec.training.budget import within_minutes
    from featcodec.training.loop import LoopOptions

    if options["minutes"] is not None and (options["steps"] or options["epochs"]):
        raise click.UsageError("--minutes, --steps and --epochs say the same thing; give only one")
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    images = options["batch_size"] * options["devices"]
    epochs = options["epochs"] or epochs
    if not math.isfinite(epochs):
        raise InputError(f"{epochs} epochs never end; give a number")
    steps = options["steps"] or math.ceil(epochs * len(data.images) / images)
    loop = LoopOptions(steps=steps, **{name: options[name] for name in _OF_THE_LOOP})
    if options["minutes"] is not None:
        loop = within_minutes(loop, options["minutes"], train)
        complain(f"note: {loop.steps} steps fit into {options['minutes']:g} minutes")
    with training_progress(loop.steps) as report:
        written = train(replace(loop, report=report))
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # lightning-fabric starts the other processes with the same command
    if (best := written.with_name(written.name.replace("last-", "best-"))).exists():
        complain(f"lowest loss on the held-out images: {best}")
    note_all(notes(written))
    click.echo(str(written))
