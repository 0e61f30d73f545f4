"""A budget of minutes becomes a number of steps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from featcodec.errors import InputError
from featcodec.training.budget import TRIAL_STEPS, within_minutes
from featcodec.training.loop_options import LoopOptions
from featcodec.training.state import Progress, save_state


class Clock:
    """A stage whose first step takes 100 seconds, and every other step two."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[LoopOptions] = []

    def __call__(self) -> float:
        return self.now

    def train(self, options: LoopOptions) -> Path:
        self.runs.append(options)
        for step in range(options.steps):
            self.now += 2 if step else 100
            options.report(step + 1, {"loss": 1.0})
        self.now += 50
        options.report(options.steps, {"held-out loss": 1.0})
        return options.output / "last-x.safetensors"


def test_the_steps_fill_the_budget_and_no_more(tmp_path: Path) -> None:
    clock = Clock()
    asked = LoopOptions(tmp_path / "run", steps=1, batch_size=3, learning_rate=0.5)
    found = within_minutes(asked, 10, clock.train, clock)
    assert found.steps == 270  # nine tenths of 600 s
    assert (found.output, found.batch_size, found.learning_rate) == (asked.output, 3, 0.5)
    assert found.save_every * 20 <= found.steps < found.save_every * 22
    assert found.evaluate_every * 4 <= found.steps
    (trial,) = clock.runs
    assert trial.steps == TRIAL_STEPS
    assert not trial.output.exists()
    assert not asked.output.exists()


def test_a_tiny_budget_is_one_step(tmp_path: Path) -> None:
    clock = Clock()
    found = within_minutes(LoopOptions(tmp_path, steps=1), 0.001, clock.train, clock)
    assert (found.steps, found.save_every, found.evaluate_every) == (1, 1, 1)


def test_a_resumed_run_keeps_its_steps(tmp_path: Path) -> None:
    """Whatever the machine is doing now: with another number, the run would be refused."""
    clock = Clock()
    save_state(tmp_path / "state.safetensors", Progress(7, {"steps": 123}, None, {}, {}), {}, {})
    found = within_minutes(LoopOptions(tmp_path, steps=1, resume=True), 10, clock.train, clock)
    assert found.steps == 123
    assert clock.runs == []


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_a_budget_must_be_a_number(tmp_path: Path, minutes: float) -> None:
    with pytest.raises(InputError, match="minutes"):
        within_minutes(LoopOptions(tmp_path, steps=1), minutes, Clock().train)
