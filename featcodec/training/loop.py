"""The loop that all stages share: steps, logs, checkpoints and resuming.

A stage is a plain loop over `Loop.steps`. The randomness of a step (batch, augmentation, noise) depends on (seed, step)
alone. So a run resumes bit for bit from the weights, the optimizer and the number of the step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from featcodec.errors import InputError, TrainingError
from featcodec.system.ranks import all_have
from featcodec.training.log import TRAINING_TABLE, TrainingLog
from featcodec.training.loop_options import (
    LoopOptions,
    check_free,
    identity_of,
    launch_fabric,
    optimizer_for,
    rise,
    rise_and_fall,
)
from featcodec.training.state import STATE_FILE, Progress, load_state, read_settings, save_state

M = TypeVar("M", bound=nn.Module)


class Loop:
    """One training run. A stage creates it, registers the networks to train, then iterates over `steps`.

    Args:
        options: settings of the run.
        settings: what identifies the run, as JSON values; a resumed run must have the same.

    Raises:
        InputError: the folder holds another run, this machine lacks the device or precision, or somebody has connected
            other processes than those that train.
    """

    def __init__(self, options: LoopOptions, settings: Mapping[str, Any]) -> None:
        self.options = options
        self.settings = {**settings, **identity_of(options)}
        self._state_path = options.output / STATE_FILE
        check_free(options)
        self.fabric = launch_fabric(options)
        self._modules: dict[str, nn.Module] = {}
        self._kept: dict[str, nn.Module] = {}
        self._wrapped: dict[str, Any] = {}
        self._optimizers: dict[str, Any] = {}
        self._learning_rates: dict[str, float] = {}
        self._constant: set[str] = set()
        self._best: float | None = None
        self._pending: dict[str, tuple[float, int]] = {}
        self._log: TrainingLog | None = None
        self._save_models: Callable[[str, Mapping[str, float]], None] = lambda prefix, metrics: None

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.fabric.device

    def autocast(self) -> AbstractContextManager[None]:
        """A context that computes in the precision that was asked for."""
        return self.fabric.autocast()

    def train(
        self,
        name: str,
        module: M,
        learning_rate: float | None = None,
        decays: Callable[[Tensor], bool] = lambda parameter: True,
        *,
        falls: bool = True,
    ) -> M:
        """Register a network to be trained.

        Args:
            name: the network's name for `descend` and the checkpoint.
            module: the network; the loss must go through its forward.
            learning_rate: its own peak learning rate; None means that of the options.
            decays: whether the weight decay of the options applies to a parameter.
            falls: whether the learning rate falls after its rise; see `LoopOptions.learning_rate`.

        Returns:
            the module to call instead of `module`, on the device and in training mode.

        Raises:
            InputError: the optimizer is not known, or does not take the learning rate or the weight decay.
        """
        module.train().requires_grad_(True)
        rate = self.options.learning_rate if learning_rate is None else learning_rate
        try:
            optimizer = optimizer_for(module, self.options, rate, decays)
        except ValueError as error:
            raise InputError(f"cannot train the {name} ({error}); give another number") from None
        wrapped, wrapped_optimizer = self.fabric.setup(module, optimizer)
        self._modules[name], self._wrapped[name], self._optimizers[name] = module, wrapped, wrapped_optimizer
        self._learning_rates[name] = rate
        if not falls:
            self._constant.add(name)
        return wrapped  # type: ignore[no-any-return]

    def restart(self, name: str, fresh: nn.Module) -> None:
        """Give a registered network the weights of a fresh one, and forget what its optimizer has seen."""
        self._modules[name].load_state_dict(fresh.state_dict())
        self._optimizers[name].state.clear()

    def keep(self, name: str, module: M) -> M:
        """Register a network that is not trained but belongs to the run's state, such as an average of weights.

        Args:
            name: the network's name for the checkpoint.
            module: the network, already on the device.
        """
        self._kept[name] = module
        return module

    def steps(
        self,
        batches: Callable[[int], Iterable[Any]],
        save_models: Callable[[str, Mapping[str, float]], None],
        evaluate: Callable[[], Mapping[str, float]] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (step, batch) for every step that is left. In between, save, evaluate and log.

        Args:
            batches: returns the batches from a given step on.
            save_models: writes the networks, as "last" or "best", with the held-out metrics.
            evaluate: returns the held-out metrics; the lowest "loss" marks the best networks.

        Raises:
            TrainingError: a loss or a weight is not finite; the last good checkpoint is kept.
        """
        first = self._restore()
        if not all_have(first):
            raise InputError(f"{self._state_path}: is not the same on all machines; all must see the same folder")
        if first >= self.options.steps:
            return
        self._save_models = save_models
        metrics: Mapping[str, float] = {}
        with TrainingLog(self.options.output, first, is_writing=self.fabric.is_global_zero) as log:
            self._log = log
            for step, batch in zip(range(first, self.options.steps), batches(first), strict=False):
                torch.manual_seed(_mix(self.options.seed, step, self.fabric.global_rank))
                self._schedule(step)
                yield step, batch
                done = step + 1
                is_last = done == self.options.steps
                if evaluate is not None and (done % self.options.evaluate_every == 0 or is_last):
                    metrics = self._evaluate(done, evaluate)
                    self._save_if_best(metrics)
                if done % self.options.save_every == 0 or is_last:
                    self._save(done, metrics)
        # Wait, so that no process reports files that another process is still writing.
        self.fabric.barrier()

    def descend(self, name: str, loss: Tensor) -> None:
        """Backpropagate into one registered network and update its weights.

        Raises:
            TrainingError: the loss is not finite.
        """
        if not torch.isfinite(loss):
            raise TrainingError(
                f"{self.options.output}: the loss of the {name} is not finite; the last checkpoint is kept: "
                "train again into another folder with a lower learning rate"
            )
        optimizer = self._optimizers[name]
        optimizer.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self._wrapped[name], optimizer, max_norm=self.options.gradient_norm, error_if_nonfinite=False
        )
        optimizer.step()

    def log(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Add values to the next row of the log. A row has the means since the last row, every `log_every` steps.

        The first step and the last step have a row too. A step without a value does not count in that value's mean.
        """
        done = step + 1
        for name, value in values.items():
            total, count = self._pending.get(name, (0.0, 0))
            self._pending[name] = total + float(torch.as_tensor(value).detach()), count + 1
        if step and done % self.options.log_every and done != self.options.steps:
            return
        numbers = {name: total / count for name, (total, count) in self._pending.items()}
        self._pending = {}
        self._report(done, {**numbers, "learning rate": self.options.learning_rate * rise_and_fall(self.options, step)})

    def show(self, step: int, name: str, pictures: Tensor) -> None:
        """Add pictures to TensorBoard: (B, 3, H, W) RGB in [0, 1]."""
        if self._log is not None:
            self._log.pictures(step + 1, name, pictures)

    def _evaluate(self, done: int, evaluate: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        for module in self._modules.values():
            module.eval()
        with torch.no_grad():
            metrics = dict(evaluate())
        for module in self._modules.values():
            module.train()
        self._report(done, {f"held-out {name}": value for name, value in metrics.items()}, table="held-out.csv")
        return metrics

    def _report(self, done: int, numbers: Mapping[str, float], table: str = TRAINING_TABLE) -> None:
        assert self._log is not None  # noqa: S101  (steps() made it)
        self._log.row(done, numbers, table)
        if self.fabric.is_global_zero:
            self.options.report(done, numbers)

    def _save_if_best(self, metrics: Mapping[str, float]) -> None:
        if math.isfinite(metrics["loss"]) and (self._best is None or metrics["loss"] < self._best):
            self._best = metrics["loss"]
            if self.fabric.is_global_zero:
                self._save_models("best", metrics)

    def _save(self, done: int, metrics: Mapping[str, float]) -> None:
        self._check_finite()
        if self.fabric.is_global_zero:
            self._save_models("last", metrics)
            scaling = self._scaler.state_dict() if self._scaler is not None else {}
            progress = Progress(done, self.settings, self._best, self._pending, scaling)
            save_state(self._state_path, progress, {**self._modules, **self._kept}, self._optimizers)

    def _check_finite(self) -> None:
        for name, module in {**self._modules, **self._kept}.items():
            if not all(torch.isfinite(tensor).all() for tensor in module.state_dict().values()):
                raise TrainingError(
                    f"{self.options.output}: weights of the {name} are no longer finite; the last checkpoint is kept: "
                    "train again with a lower learning rate"
                )

    def _restore(self) -> int:
        if not self.options.resume:
            return 0
        if not self._state_path.exists():
            return 0  # the run stopped before its first checkpoint
        self._check_settings()  # first: for networks of other sizes, only torch would complain
        progress = load_state(self._state_path, {**self._modules, **self._kept}, self._optimizers)
        if self._scaler is not None and progress.scaler:
            self._scaler.load_state_dict(dict(progress.scaler))
        self._best = progress.best
        self._pending = dict(progress.pending)
        return progress.step

    def _check_settings(self) -> None:
        settings = read_settings(self._state_path)
        for key in sorted(set(settings) | set(self.settings)):
            before, now = settings.get(key), _as_json(self.settings.get(key))
            if before != now:
                raise InputError(
                    f"{self._state_path}: was made with {key} {before!r}, not {now!r}; resume with the same settings, "
                    "or train into another folder"
                )

    @property
    def _scaler(self) -> Any:
        """What scales gradients in 16-bit precision, or None."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def _schedule(self, step: int) -> None:
        for name, optimizer in self._optimizers.items():
            factor = (rise if name in self._constant else rise_and_fall)(self.options, step)
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rates[name] * factor


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _mix(seed: int, step: int, rank: int) -> int:
    """A different seed for each step and process."""
    return (seed * 1_000_003 + step) * 1_009 + rank & 0x7FFF_FFFF_FFFF_FFFF
