"""How many steps fit into a budget of time: a short trial run of the same stage is timed, and thrown away.

The number of steps is fixed before the run, so that the learning rate falls to its end and a run resumes bit for bit.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from featcodec.errors import InputError
from featcodec.system.ranks import value_of_first
from featcodec.training.loop_options import LoopOptions
from featcodec.training.state import STATE_FILE, read_settings

TRIAL_STEPS = 12
_FIRST = 4
"""Steps of the trial that are not timed: the first ones fill caches and start processes."""
_FOR_STEPS = 0.9
"""Share of the budget for steps. The rest is for checkpoints and held-out images."""
_SAVES = 20
"""Checkpoints in a run, so that stopping it at any moment loses at most a twentieth."""
_EVALUATIONS = 4


def within_minutes(
    options: LoopOptions,
    minutes: float,
    train: Callable[[LoopOptions], Path],
    clock: Callable[[], float] = time.monotonic,
) -> LoopOptions:
    """The options of a run that ends in time.

    Args:
        options: the options; their `steps`, `save_every` and `evaluate_every` do not count.
        minutes: the time that the run may take, above 0. The trial run is not part of it.
        train: runs the stage.
        clock: seconds.

    Returns:
        the options with steps, and with checkpoints and evaluations spread over them. A run that is resumed keeps the
            steps that it began with.

    Raises:
        InputError: the budget is not a number above 0.
        FeatcodecError: the trial run fails, as the run itself would.
    """
    if not 0 < minutes < math.inf:
        raise InputError(f"a budget of {minutes} minutes is not a number above 0; give for example 8")
    steps = _steps_before(options)
    if steps is None:
        steps = max(1, int(_FOR_STEPS * 60 * minutes / _seconds_per_step(options, train, clock)))
    return replace(
        options, steps=steps, save_every=max(1, steps // _SAVES), evaluate_every=max(1, steps // _EVALUATIONS)
    )


def _steps_before(options: LoopOptions) -> int | None:
    state = options.output / STATE_FILE
    if not (options.resume and state.exists()):
        return None
    steps = read_settings(state).get("steps")
    return steps if isinstance(steps, int) and steps > 0 else None


def _seconds_per_step(options: LoopOptions, train: Callable[[LoopOptions], Path], clock: Callable[[], float]) -> float:
    times: list[float] = []

    def report(step: int, values: Mapping[str, float]) -> None:
        if not any(name.startswith("held-out") for name in values):
            times.append(clock())

    with tempfile.TemporaryDirectory(prefix="featcodec-trial-") as folder:
        trial = replace(
            options,
            output=Path(folder) / "trial",
            steps=TRIAL_STEPS,
            save_every=TRIAL_STEPS + 1,
            evaluate_every=TRIAL_STEPS + 1,
            log_every=1,
            resume=False,
            report=report,
        )
        train(trial)
    # Only the first rank reports.
    return value_of_first(max(1e-6, (times[-1] - times[_FIRST - 1]) / (len(times) - _FIRST)) if times else math.nan)
