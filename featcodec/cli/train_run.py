"""Runs one training stage with the options of its loop, and says what it wrote; or why it failed, in one voice."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import rich_click as click
from click import get_current_context
from click.exceptions import Exit

from featcodec.cli.console import complain, note_all, training_progress

if TYPE_CHECKING:
    from featcodec.training.direct_reader import PlateWindowData
    from featcodec.training.loop_options import LoopOptions
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
    from featcodec.system import ranks
    from featcodec.training.budget import within_minutes
    from featcodec.training.loop_options import LoopOptions

    if options["minutes"] is not None and (options["steps"] or options["epochs"]):
        raise click.UsageError("--minutes, --steps and --epochs say the same thing; give only one")
    if options["devices"] > 1 and not ranks.launched():
        ranks.launch(options["devices"], get_current_context().find_root().obj)
        return
    if options["threads"]:
        torch.set_num_threads(options["threads"])
        os.environ["OMP_NUM_THREADS"] = str(options["threads"])  # else lightning-fabric sets its own number in a rank
    images = options["batch_size"] * math.prod(ranks.devices_and_machines(options["devices"]))
    epochs = options["epochs"] or epochs
    if not math.isfinite(epochs):
        raise InputError(f"{epochs} epochs never end; give a number")
    steps = options["steps"] or math.ceil(epochs * len(data.images) / images)
    loop = LoopOptions(steps=steps, **{name: options[name] for name in _OF_THE_LOOP})
    if options["minutes"] is not None:
        loop = within_minutes(loop, options["minutes"], train)
        if ranks.is_first():
            complain(f"note: {loop.steps} steps fit into {options['minutes']:g} minutes")
    if ranks.is_first():
        note_slow_precision(options["precision"], options["accelerator"])
    with training_progress(loop.steps) as report:
        written = train(replace(loop, report=report))
    if not ranks.is_first():
        return
    if (best := written.with_name(written.name.replace("last-", "best-"))).exists():
        complain(f"lowest loss on the held-out images: {best}")
    note_all(notes(written))
    click.echo(str(written))


def note_slow_precision(precision: str, accelerator: str) -> None:
    """Say so if a CPU computes in bfloat16 without instructions for it: that takes many times as long as float32."""
    from featcodec.system.devices import choose_device, has_fast_bfloat16

    if precision != "bf16-mixed" or accelerator not in {"auto", "cpu"}:
        return
    device = choose_device(accelerator)
    if device.type == "cpu" and not has_fast_bfloat16(device):
        complain(
            "note: this CPU has no instructions for bfloat16 (AVX512-BF16), so it is much slower than float32; leave "
            "out --precision"
        )


@contextlib.contextmanager
def in_one_voice() -> Iterator[None]:
    """Of several ranks that fail, only the first one prints a message; the others end without one."""
    from featcodec.system import ranks

    if not ranks.launched():
        yield
        return
    watch = ranks.Watch()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        yield
    except Exit:
        raise
    except BaseException as error:
        _let_finish()
        if isinstance(error, SystemExit) and not watch.is_ending:
            raise
        reason = watch.explain(error) if watch.is_first_to_fail() else None
        if reason is None:
            sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)
        raise reason from None


def _end(number: int, _frame: FrameType | None) -> None:
    if sys.exc_info()[0] is not None:
        return  # it ends already; an exception in the midst of that would leave something undone
    _let_finish()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _let_finish() -> None:
    """The launcher signals to all ranks when one has ended; this one may be in the midst of a message."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
