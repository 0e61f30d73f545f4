"""The state of a training run, from which it goes on bit for bit. The file is safetensors; nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from featcodec.errors import WeightsError
from featcodec.networks.checkpoints import load_checkpoint, refusing, save_checkpoint

STATE_FILE = "state.safetensors"
KIND = "training state"


@dataclass(frozen=True)
class Progress:
    """The progress of a run, besides its weights.

    Attributes:
        step: number of steps that are done.
        settings: what identifies the run; a resumed run must have the same.
        best: lowest held-out loss so far, or None.
        pending: sum and count of every value for the next row of the log, which has the means.
        scaler: the gradient scaler's state (16-bit precision only).
    """

    step: int
    settings: Mapping[str, Any]
    best: float | None
    pending: Mapping[str, tuple[float, int]]
    scaler: Mapping[str, Any]


def save_state(
    path: Path, progress: Progress, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> None:
    """Write everything that a resumed run needs.

    The state of the random generators is not needed: every step seeds them from (seed, step).

    Raises:
        OutputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors.update({f"model/{name}/{key}": tensor for key, tensor in module.state_dict().items()})
    for name, optimizer in optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer/{name}/{index}/{key}": value for key, value in values.items()})
    # Clones, because safetensors refuses tensors that share memory.
    content = {
        "step": progress.step,
        "settings": dict(progress.settings),
        "best": progress.best,
        "pending": dict(progress.pending),
        "scaler": dict(progress.scaler),
    }
    save_checkpoint(path, KIND, content, {key: tensor.detach().clone() for key, tensor in tensors.items()})


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of the run that a state belongs to.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    settings = load_checkpoint(path, KIND)[0].get("settings")
    if not isinstance(settings, dict):
        raise WeightsError(f"{path}: has no settings; train into another folder")
    return settings


def load_state(path: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> Progress:
    """Load what `save_state` wrote into the networks and optimizers.

    Raises:
        WeightsError: the file is missing, damaged, or from a run with other networks.
    """
    content, tensors = load_checkpoint(path, KIND)
    with refusing(path, "does not fit this run", "train into another folder"):
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"model/{name}/"))
        for name, optimizer in optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(tensors, f"optimizer/{name}/").items():
                index, field = key.split("/")
                state.setdefault(int(index), {})[field] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        pending = {name: (float(total), int(count)) for name, (total, count) in content["pending"].items()}
        step, settings = int(content["step"]), dict(content["settings"])
        return Progress(step, settings, content["best"], pending, dict(content["scaler"]))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
