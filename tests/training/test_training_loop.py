"""The loop under all stages, with a network of two numbers: schedule, randomness, checkpoints, resuming, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_training import StoppedError, results, rows, steps_done, stop_at, toy_options

from featcodec.errors import InputError, OutputError, TrainingError, WeightsError
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions

SETTINGS = {"stage": "toy", "clip": (-3.0, 3.0)}


class Run:
    """A stage: fits a line, with noise, and a BatchNorm to have buffers. Notes what the loop does."""

    def __init__(self, options: LoopOptions, settings: Mapping[str, Any] = SETTINGS, factor: float = 1.0) -> None:
        self.options = options
        self.factor = factor
        self.noise: list[float] = []
        self.rates: list[float] = []
        self.saved: list[tuple[str, int, dict[str, float]]] = []
        self.evaluated: list[int] = []
        self.at_step = 0
        self.loop = Loop(options, settings)
        torch.manual_seed(options.seed)
        self.module = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
        self.network = self.loop.train("net", self.module)

    def batches(self, first: int) -> Iterator[Tensor]:
        for step in range(first, self.options.steps):
            yield torch.randn(8, 1, generator=torch.Generator().manual_seed(step))

    def save_models(self, which: str, metrics: Mapping[str, float]) -> None:
        self.saved.append((which, self.at_step + 1, dict(metrics)))
        numbers = [float(value) for value in self.module[0].weight.detach().flatten()]
        (self.options.output / f"{which}.json").write_text(json.dumps([numbers, dict(metrics)]))

    def evaluate(self) -> Mapping[str, float]:
        assert not self.module.training
        assert not torch.is_grad_enabled()
        self.evaluated.append(self.at_step + 1)
        torch.manual_seed(0)  # stages do
        return {"loss": float(self.network(torch.ones(4, 1)).square().mean()), "PSNR": 20.0}

    def __call__(self, *, held_out: bool = True) -> Run:
        evaluate = self.evaluate if held_out else None
        for step, batch in self.loop.steps(self.batches, self.save_models, evaluate):
            self.at_step = step
            assert self.module.training
            noise = torch.randn(())
            self.noise.append(float(noise))
            self.rates.append(self.loop._optimizers["net"].param_groups[0]["lr"])
            loss = self.factor * (self.network(batch) - 2 * batch - noise).square().mean()
            self.loop.descend("net", loss)
            self.loop.log(step, {"loss": loss})
        return self


def run(output: Path, **changes: Any) -> Run:
    return Run(toy_options(output, **changes))()


@pytest.mark.slow
def test_the_rate_rises_then_falls_as_a_cosine_to_a_hundredth(tmp_path: Path) -> None:
    done = run(tmp_path, steps=20, learning_rate=0.1, warmup_steps=4)
    cosine = [0.1 * (0.01 + 0.99 * (1 + math.cos(math.pi * step / 20)) / 2) for step in range(20)]
    assert done.rates[4:] == pytest.approx(cosine[4:])
    assert done.rates[:4] == pytest.approx([cosine[step] * (step + 1) / 4 for step in range(4)])
    assert 0.001 < done.rates[-1] < 0.002
    assert [row["learning rate"] for row in rows(tmp_path / "log.csv")] == pytest.approx(done.rates, rel=1e-5)


def test_each_network_may_have_its_own_rate(tmp_path: Path) -> None:
    done = Run(toy_options(tmp_path, learning_rate=0.1))
    done.loop.train("other", nn.Linear(1, 1), 0.02)
    done.loop._schedule(0)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in done.loop._optimizers.items()}
    assert rates == {"net": pytest.approx(0.1), "other": pytest.approx(0.02)}


def test_each_network_may_have_its_own_weight_decay(tmp_path: Path) -> None:
    loop = Run(toy_options(tmp_path, weight_decay=0.25)).loop
    loop.train("other", nn.Linear(2, 1), decays=lambda parameter: False)
    decays = {name: optimizer.param_groups[0]["weight_decay"] for name, optimizer in loop._optimizers.items()}
    assert decays == {"net": 0.25, "other": 0.0}


class KeptRun(Run):
    """With a sum of the noise as state that no optimizer knows."""

    def __init__(self, options: LoopOptions) -> None:
        super().__init__(options)
        self.sum = self.loop.keep("sum", nn.BatchNorm1d(1).requires_grad_(False).eval())

    def __call__(self, *, held_out: bool = True) -> Run:
        for step, batch in self.loop.steps(self.batches, self.save_models, self.evaluate if held_out else None):
            assert not self.sum.training
            self.sum.running_mean += torch.randn(())
            self.loop.descend("net", self.network(batch).square().mean())
            self.loop.log(step, {"sum": self.sum.running_mean})
        return self


@pytest.mark.slow
def test_what_is_kept_belongs_to_the_state(tmp_path: Path) -> None:
    whole = KeptRun(toy_options(tmp_path / "whole", steps=8))
    whole()
    with pytest.raises(StoppedError):
        KeptRun(toy_options(tmp_path / "cut", steps=8, report=stop_at(5)))()
    resumed = KeptRun(toy_options(tmp_path / "cut", steps=8, resume=True))
    resumed()
    assert float(whole.sum.running_mean) != 0
    assert torch.equal(resumed.sum.running_mean, whole.sum.running_mean)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "other", steps=8, report=stop_at(5))
    with pytest.raises(WeightsError, match="does not fit this run"):
        KeptRun(toy_options(tmp_path / "other", steps=8, resume=True))()


def test_what_is_kept_has_to_be_finite(tmp_path: Path) -> None:
    broken = KeptRun(toy_options(tmp_path, steps=2))
    broken.sum.running_mean.fill_(math.nan)
    with pytest.raises(TrainingError, match="weights of the sum are no longer finite"):
        broken(held_out=False)


@pytest.mark.slow
def test_randomness_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    first = run(tmp_path / "a", steps=8)
    assert len(set(first.noise)) == 8
    often = run(tmp_path / "b", steps=8, save_every=1, evaluate_every=1)
    assert often.noise == first.noise
    assert set(run(tmp_path / "c", steps=8, seed=1).noise).isdisjoint(first.noise)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns(tmp_path: Path, optimizer: str) -> None:
    rate = 0.1 if optimizer == "adamw" else 0.02
    run(tmp_path, steps=40, optimizer=optimizer, learning_rate=rate)
    losses = [row["loss"] for row in rows(tmp_path / "log.csv")]
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_gradients_are_clipped(tmp_path: Path) -> None:
    """SGD without momentum's history: the first step is at most rate times norm long."""
    steps = []
    for number, factor in enumerate((1e4, 1e6)):
        options = toy_options(
            tmp_path / f"{number}", steps=1, optimizer="sgd", learning_rate=0.01, gradient_norm=0.5, log_every=1
        )
        unrun = Run(options, factor=factor)
        before = torch.cat([parameter.detach().flatten().clone() for parameter in unrun.module.parameters()])
        unrun(held_out=False)
        after = torch.cat([parameter.detach().flatten() for parameter in unrun.module.parameters()])
        steps.append(float((after - before).norm()))
    assert steps == pytest.approx([0.005, 0.005], rel=1e-3)


def test_saves_evaluates_and_logs_when_it_should(tmp_path: Path) -> None:
    done = run(tmp_path, steps=11, save_every=4, evaluate_every=3, log_every=5)
    assert [step for which, step, _ in done.saved if which == "last"] == [4, 8, 11]
    assert done.evaluated == [3, 6, 9, 11]
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == [1, 5, 10, 11]
    assert [row["step"] for row in rows(tmp_path / "held-out.csv")] == [3, 6, 9, 11]
    assert steps_done(tmp_path) == 11
    metrics = [metrics for which, _, metrics in done.saved if which == "last"][-1]
    assert metrics["loss"] == pytest.approx(rows(tmp_path / "held-out.csv")[-1]["held-out loss"], rel=1e-5)


def test_best_is_the_lowest_held_out_loss(tmp_path: Path) -> None:
    done = run(tmp_path, steps=12, evaluate_every=1, learning_rate=0.3)
    losses = [row["held-out loss"] for row in rows(tmp_path / "held-out.csv")]
    improvements = [step + 1 for step, loss in enumerate(losses) if loss < min(losses[:step], default=math.inf)]
    assert [step for which, step, _ in done.saved if which == "best"] == improvements
    assert 1 < len(improvements) < 12
    assert json.loads((tmp_path / "best.json").read_text())[1]["loss"] == pytest.approx(min(losses), rel=1e-5)


def test_without_held_out_images_there_is_no_best(tmp_path: Path) -> None:
    done = Run(toy_options(tmp_path))(held_out=False)
    assert [which for which, _, _ in done.saved] == ["last", "last"]
    assert not (tmp_path / "held-out.csv").exists()


def test_reports_go_to_the_caller(tmp_path: Path) -> None:
    reports: list[tuple[int, dict[str, float]]] = []
    run(tmp_path, report=lambda step, values: reports.append((step, dict(values))))
    assert [(step, "held-out loss" in values) for step, values in reports] == [
        (1, False),
        (2, False),
        (2, True),
        (3, False),
        (4, False),
        (4, True),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 2, 5, 8])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, optimizer: str, stop: int) -> None:
    """Checkpoints at 3, 6, 8; held-out images at 2, 4, 6, 8."""
    settings = {"steps": 8, "save_every": 3, "evaluate_every": 2, "optimizer": optimizer, "learning_rate": 0.05}
    whole = run(tmp_path / "whole", **settings)
    with pytest.raises(StoppedError):
        run(tmp_path / "cut", **settings, report=stop_at(stop))
    last = steps_done(tmp_path / "cut") if stop > 3 else 0
    assert last == stop // 3 * 3
    resumed = run(tmp_path / "cut", **settings, resume=True)
    assert resumed.noise == whole.noise[last:]
    assert resumed.rates == whole.rates[last:]
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    assert {"state.safetensors", "log.csv", "held-out.csv", "last.json", "best.json"} == set(results(tmp_path / "cut"))


@pytest.mark.slow
def test_a_run_stopped_twice_goes_on_bit_for_bit(tmp_path: Path) -> None:
    run(tmp_path / "whole", steps=8)
    for stop, resume in ((4, False), (7, True)):
        with pytest.raises(StoppedError):
            run(tmp_path / "cut", steps=8, resume=resume, report=stop_at(stop))
    run(tmp_path / "cut", steps=8, resume=True)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


def test_how_often_it_saves_and_logs_may_change(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, steps=8, report=stop_at(5))
    run(tmp_path, steps=8, resume=True, save_every=3, log_every=2, evaluate_every=3)


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = run(tmp_path, resume=True)
    assert (again.noise, again.saved, again.evaluated) == ([], [], [])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_resuming_nothing_starts(tmp_path: Path) -> None:
    assert len(run(tmp_path / "new", resume=True).noise) == 4


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    before = results(tmp_path)
    with pytest.raises(InputError, match="holds a training run; go on with `resume`"):
        run(tmp_path)
    assert results(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 9}, "was made with steps 8, not 9"),
        ({"steps": 2}, "was made with steps 8, not 2"),
        ({"learning_rate": 0.1}, "was made with learning_rate 0.005, not 0.1"),
        ({"seed": 3}, "was made with seed 0, not 3"),
        ({"batch_size": 4}, "was made with batch_size 2, not 4"),
        ({"optimizer": "sgd"}, "was made with optimizer 'adamw', not 'sgd'"),
        ({"weight_decay": 0.1}, "was made with weight_decay 0.0, not 0.1"),
        ({"warmup_steps": 7}, "was made with warmup_steps 1, not 7"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_resuming_with_other_settings_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run_settings = {"steps": 8, "report": stop_at(5)}
    with pytest.raises(StoppedError):
        run(tmp_path, **run_settings)
    before = results(tmp_path)
    with pytest.raises(InputError, match="resume with the same settings") as caught:
        run(tmp_path, **{"steps": 8, **changes}, resume=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert results(tmp_path) == before


def test_settings_of_the_stage_count_too(tmp_path: Path) -> None:
    run(tmp_path)
    for settings in ({**SETTINGS, "clip": (-6.0, 6.0)}, {"stage": "toy"}, {**SETTINGS, "more": 1}):
        with pytest.raises(InputError, match=r"was made with (clip|more) "):
            Run(toy_options(tmp_path, resume=True), settings)()
    Run(toy_options(tmp_path, resume=True), {"clip": [-3, 3], "stage": "toy"})()  # as JSON has it


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_damaged_state_is_refused(tmp_path: Path, keep: int) -> None:
    run(tmp_path)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"state\.safetensors: "):
        run(tmp_path, resume=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path, value: float) -> None:
    diverging = Run(toy_options(tmp_path, steps=8))
    seen = []

    def report(step: int, _values: Mapping[str, float]) -> None:
        if step == 5:
            diverging.factor = value
            seen.append(results(tmp_path))

    object.__setattr__(diverging.loop.options, "report", report)
    with pytest.raises(TrainingError, match="the loss of the net is not finite") as caught:
        diverging()
    assert "\n" not in str(caught.value)
    assert results(tmp_path) == seen[0]
    assert steps_done(tmp_path) == 4
    assert all(torch.isfinite(parameter).all() for parameter in diverging.module.parameters())
    run(tmp_path, steps=8, resume=True)
    assert steps_done(tmp_path) == 8


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """A finite loss may have a gradient that is none."""
    broken = Run(toy_options(tmp_path, steps=8))

    def report(step: int, _values: Mapping[str, float]) -> None:
        if step == 4:
            with torch.no_grad():
                broken.module[1].running_var.fill_(math.nan)

    object.__setattr__(broken.loop.options, "report", report)
    with pytest.raises(TrainingError, match="weights of the net are no longer finite"):
        broken(held_out=False)
    assert steps_done(tmp_path) == 2


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": -1.0}, {"learning_rate": math.nan}, {"weight_decay": -1.0}, {"optimizer": "lion"}],
    ids=repr,
)
def test_numbers_that_no_optimizer_takes_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Run(toy_options(tmp_path, **changes))
    with pytest.raises(InputError):
        Run(toy_options(tmp_path)).loop.train("other", nn.Linear(1, 1), -0.5)


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"somebody's work")
    with pytest.raises(OutputError, match="choose another `output`"):
        run(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"somebody's work"


def test_mixed_precision_computes_in_bfloat16(tmp_path: Path) -> None:
    found = []

    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            found.append(output.dtype)
            return output

    loop = Loop(toy_options(tmp_path, precision="bf16-mixed"), SETTINGS)
    with loop.autocast():
        loop.train("net", Spy(2, 2))(torch.ones(1, 2))
    assert found == [torch.bfloat16]
