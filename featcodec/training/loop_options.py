"""What a training run is asked for, and what follows from that alone.

That is: whether its folder is free, on which devices it trains, its optimizers, how its learning rates change, and what
it must have in common with the run that it goes on from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from featcodec.errors import InputError
from featcodec.system.devices import choose_device
from featcodec.system.ranks import TIMEOUT, check_met, devices_and_machines, launched
from featcodec.training.state import STATE_FILE

_CHECKPOINTS = "last-*.safetensors"


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


def check_free(options: LoopOptions) -> None:
    """Make sure that a new run replaces nothing in its folder.

    Raises:
        InputError: the folder holds another run, or a checkpoint of one.
    """
    if options.resume:
        return
    if (options.output / STATE_FILE).exists():
        raise InputError(f"{options.output}: holds a training run; go on with `resume`, or give another folder")
    if older := next(options.output.glob(_CHECKPOINTS), None):
        raise InputError(f"{older}: would be replaced; move it away, or give another folder")


def launch_fabric(options: LoopOptions) -> Fabric:
    """What moves networks and batches to the devices of a run. Where the run has several ranks, they meet here.

    Raises:
        InputError: this machine lacks the device or precision, or somebody has connected other processes than those
            that train.
    """
    devices, machines = devices_and_machines(options.devices)
    check_met(devices * machines)
    try:
        if options.precision == "16-mixed" and _is_for_cpu(options.accelerator):
            raise ValueError("16-mixed needs a GPU; bf16-mixed runs on CPUs")  # fabric would take bfloat16, and say so
        fabric = Fabric(
            accelerator=options.accelerator,
            strategy=DDPStrategy(timeout=TIMEOUT) if devices * machines > 1 else "auto",
            devices=devices,
            num_nodes=machines,
            precision=options.precision,  # type: ignore[arg-type]
            # Else fabric takes a job of SLURM for one that srun has started a rank for each device of.
            plugins=[TorchElasticEnvironment() if launched() else LightningEnvironment()],
        )
        fabric.launch()
    except (ImportError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot train here ({reason}); change `accelerator`, `devices` or `precision`") from None
    return fabric


def _is_for_cpu(accelerator: str) -> bool:
    return accelerator in {"auto", "cpu"} and choose_device(accelerator).type == "cpu"


def optimizer_for(
    module: nn.Module, options: LoopOptions, learning_rate: float, decays: Callable[[Tensor], bool]
) -> Optimizer:
    """The optimizer of a network.

    Args:
        module: the network.
        options: of the run.
        learning_rate: the network's own peak learning rate.
        decays: whether the weight decay of the options applies to a parameter.

    Raises:
        InputError: there is no optimizer of that name.
        ValueError: the optimizer does not take a number.
    """
    decayed = [parameter for parameter in module.parameters() if decays(parameter)]
    others = [parameter for parameter in module.parameters() if not decays(parameter)]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if options.optimizer == "adamw":
        return AdamW(groups, learning_rate, weight_decay=options.weight_decay)
    if options.optimizer == "sgd":
        return SGD(groups, learning_rate, momentum=0.937, weight_decay=options.weight_decay)
    raise InputError(f"optimizer {options.optimizer!r} is not known; use adamw or sgd")


def rise(options: LoopOptions, step: int) -> float:
    """The share of its peak, in (0, 1], that a learning rate which stays up has at a step."""
    return min(1.0, (step + 1) / max(1, options.warmup_steps))


def rise_and_fall(options: LoopOptions, step: int) -> float:
    """The share of its peak, in (0, 1], that a learning rate has at a step; see `LoopOptions.learning_rate`."""
    return rise(options, step) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / options.steps)))


def identity_of(options: LoopOptions) -> dict[str, Any]:
    """What a resumed run must have the same, as JSON values.

    Raises:
        InputError: as `devices_and_machines`.
    """
    names = ("steps", "batch_size", "learning_rate", "optimizer", "weight_decay", "warmup_steps", "gradient_norm")
    devices = math.prod(devices_and_machines(options.devices))
    values = {name: getattr(options, name) for name in (*names, "seed")}
    return {**values, "devices": devices, "precision": options.precision}
