"""The loop that all stages share: devices, optimizers, schedule, logs, checkpoints and resuming.

A stage is a plain loop over `Loop.steps`. The randomness of a step (batch, augmentation, noise) depends on (seed, step)
alone. So a run resumes bit for bit from the weights, the optimizer and the number of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from featcodec.errors import InputError, TrainingError
from featcodec.system.ranks import TIMEOUT, all_have, check_met, devices_and_machines, launched
from featcodec.training.log import TrainingLog
from featcodec.training.state import Progress, load_state, read_settings, save_state

STATE_FILE = "state.safetensors"
_CHECKPOINTS = "last-*.safetensors"
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class LoopOptions:
    """Settings of a run that every stage has.

    Attributes:
        output: folder for checkpoints and logs.
        steps: number of updates of each trained network.
        batch_size: images per step and device.
        learning_rate: peak learning rate. The rate rises linearly over `warmup_steps`, then falls as a cosine to a
            hundredth of the peak.
        optimizer: "adamw" or "sgd" (momentum 0.937, as in YOLOv5).
        weight_decay: weight decay of the optimizer.
        warmup_steps: see `learning_rate`.
        gradient_norm: gradients are clipped to this norm.
        seed: seed of everything random.
        save_every: steps between checkpoints.
        evaluate_every: steps between evaluations on the held-out images.
        log_every: steps between rows of the log.
        resume: go on from the state in the folder.
        accelerator, devices, precision: as lightning-fabric names them ("auto", 1, "32-true"). Under torchrun, which
            starts a process for each device, leave `devices` at 1.
        report: called with (step, values) whenever a row is logged.
    """

    output: Path
    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    warmup_steps: int = 100
    gradient_norm: float = 10.0
    seed: int = 0
    save_every: int = 200
    evaluate_every: int = 500
    log_every: int = 20
    resume: bool = False
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    report: Callable[[int, Mapping[str, float]], None] = field(default=lambda step, values: None, compare=False)


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
        self.settings = {**settings, **_identity(options)}
        self._state_path = options.output / STATE_FILE
        if self._state_path.exists() and not options.resume:
            raise InputError(f"{options.output}: holds a training run; go on with `resume`, or give another folder")
        if not options.resume and (older := next(options.output.glob(_CHECKPOINTS), None)):
            raise InputError(f"{older}: would be replaced; move it away, or give another folder")
        devices, machines = devices_and_machines(options.devices)
        check_met(devices * machines)
        try:
            self.fabric = Fabric(
                accelerator=options.accelerator,
                strategy=DDPStrategy(timeout=TIMEOUT) if devices * machines > 1 else "auto",
                devices=devices,
                num_nodes=machines,
                precision=options.precision,  # type: ignore[arg-type]
                # Else fabric takes a job of SLURM for one that srun has started a rank for each device of.
                plugins=[TorchElasticEnvironment() if launched() else LightningEnvironment()],
            )
            self.fabric.launch()
            if options.precision == "16-mixed" and self.fabric.device.type == "cpu":
                raise ValueError("16-mixed needs a GPU; bf16-mixed runs on CPUs")
        except (ImportError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"cannot train here ({reason}); change `accelerator`, `devices` or `precision`") from None
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
        """
        module.train().requires_grad_(True)
        rate = self.options.learning_rate if learning_rate is None else learning_rate
        try:
            optimizer = _optimizer(module, self.options, rate, decays)
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
        numbers["learning rate"] = self.options.learning_rate * self._factor(step)
        assert self._log is not None  # noqa: S101  (steps() made it)
        self._log.row(done, numbers)
        if self.fabric.is_global_zero:
            self.options.report(done, numbers)

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
        assert self._log is not None  # noqa: S101  (steps() made it)
        self._log.row(done, {f"held-out {name}": value for name, value in metrics.items()}, table="held-out.csv")
        if self.fabric.is_global_zero:
            self.options.report(done, {f"held-out {name}": value for name, value in metrics.items()})
        if math.isfinite(metrics["loss"]) and (self._best is None or metrics["loss"] < self._best):
            self._best = metrics["loss"]
            if self.fabric.is_global_zero:
                self._save_models("best", metrics)
        return metrics

    def _save(self, done: int, metrics: Mapping[str, float]) -> None:
        modules = {**self._modules, **self._kept}
        for name, module in modules.items():
            if not all(torch.isfinite(tensor).all() for tensor in module.state_dict().values()):
                raise TrainingError(
                    f"{self.options.output}: weights of the {name} are no longer finite; the last checkpoint is kept: "
                    "train again with a lower learning rate"
                )
        if self.fabric.is_global_zero:
            self._save_models("last", metrics)
            scaler = getattr(self.fabric.strategy.precision, "scaler", None)
            scaling = scaler.state_dict() if scaler is not None else {}
            progress = Progress(done, self.settings, self._best, self._pending, scaling)
            save_state(self._state_path, progress, modules, self._optimizers)

    def _restore(self) -> int:
        if not self.options.resume:
            return 0
        if not self._state_path.exists():
            return 0  # the run stopped before its first checkpoint
        # Compare the settings first: for networks of other sizes, only torch would complain.
        settings = read_settings(self._state_path)
        for key in sorted(set(settings) | set(self.settings)):
            before, now = settings.get(key), _as_json(self.settings.get(key))
            if before != now:
                raise InputError(
                    f"{self._state_path}: was made with {key} {before!r}, not {now!r}; resume with the same settings, "
                    "or train into another folder"
                )
        progress = load_state(self._state_path, {**self._modules, **self._kept}, self._optimizers)
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if scaler is not None and progress.scaler:
            scaler.load_state_dict(dict(progress.scaler))
        self._best = progress.best
        self._pending = dict(progress.pending)
        return progress.step

    def _schedule(self, step: int) -> None:
        for name, optimizer in self._optimizers.items():
            factor = self._rise(step) if name in self._constant else self._factor(step)
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rates[name] * factor

    def _rise(self, step: int) -> float:
        return min(1.0, (step + 1) / max(1, self.options.warmup_steps))

    def _factor(self, step: int) -> float:
        return self._rise(step) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self.options.steps)))


def _identity(options: LoopOptions) -> dict[str, Any]:
    names = ("steps", "batch_size", "learning_rate", "optimizer", "weight_decay", "warmup_steps", "gradient_norm")
    devices = math.prod(devices_and_machines(options.devices))
    values = {name: getattr(options, name) for name in (*names, "seed")}
    return {**values, "devices": devices, "precision": options.precision}


def _as_json(value: Any) -> Any:
    import json  # noqa: PLC0415

    return json.loads(json.dumps(value))


def _optimizer(
    module: nn.Module, options: LoopOptions, learning_rate: float, decays: Callable[[Tensor], bool]
) -> Optimizer:
    decayed = [parameter for parameter in module.parameters() if decays(parameter)]
    others = [parameter for parameter in module.parameters() if not decays(parameter)]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if options.optimizer == "adamw":
        return AdamW(groups, learning_rate, weight_decay=options.weight_decay)
    if options.optimizer == "sgd":
        return SGD(groups, learning_rate, momentum=0.937, weight_decay=options.weight_decay)
    raise InputError(f"optimizer {options.optimizer!r} is not known; use adamw or sgd")


def _mix(seed: int, step: int, rank: int) -> int:
    """A different seed for each step and process."""
    return (seed * 1_000_003 + step) * 1_009 + rank & 0x7FFF_FFFF_FFFF_FFFF
