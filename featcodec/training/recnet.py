"""Stage 2: train the attacker, RecNet, on L_rec with the bottleneck fixed (paper, section IV).

Stage 4, the final attack, does the same with L1 alone and a fresh RecNet: see `featcodec.training.attack`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.errors import WeightsError
from featcodec.privacy.image_quality import edge_psnr, mean_decibel, psnr
from featcodec.privacy.recnet import RecNet, RecNetConfig, load_recnet, mirrored_repeats, save_recnet
from featcodec.split_model import SplitModel
from featcodec.training.loop import Loop, LoopOptions
from featcodec.training.losses.reconstruction import EDGE_WEIGHT, reconstruction_loss
from featcodec.training.setup import (
    TrainingData,
    as_pictures,
    batches_from,
    frozen_model,
    held_out_batches,
    tensors_of,
)

RECNET_FILE = "recnet.safetensors"
_SHOWN = 4


@dataclass(frozen=True)
class RecNetTask:
    """What to attack, and how.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint of AE and AD, or None for RecNet-latent.
        edge_weight: beta of L_rec; 0 is L1 alone.
        start: a RecNet to go on from, instead of random weights.
    """

    detector: str | Path
    bottleneck: Path | None
    edge_weight: float = EDGE_WEIGHT
    start: Path | None = None


def train_recnet(task: RecNetTask, data: TrainingData, options: LoopOptions, stage: str = "recnet") -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step. The checkpoint that is best on the held-out images is in the same folder.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    model = frozen_model(task.detector, task.bottleneck)
    settings: dict[str, Any] = {
        "stage": stage,
        "data": data.describe(),
        "detector": Path(task.detector).name,
        "bottleneck": None if model.bottleneck is None else model.bottleneck.fingerprint().hex(),
        "edge_weight": task.edge_weight,
        "start": None if task.start is None else task.start.name,
    }
    loop = Loop(options, settings)
    torch.manual_seed(options.seed)
    recnet = new_recnet(model) if task.start is None else recnet_for(task.start, model)
    model.to(loop.device)
    network = loop.train("recnet", recnet)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        recnet.config = replace(recnet.config, training={**loop.settings, "metrics": dict(metrics)})
        save_recnet(options.output / f"{which}-{RECNET_FILE}", recnet)

    def held_out() -> Mapping[str, float]:
        return held_out_reconstruction(loop, data, model, network, task.edge_weight)

    for step, batch in loop.steps(partial(batches_from, loop, data), save_models, held_out if data.held_out else None):
        pictures = as_pictures(batch)
        with loop.autocast():
            reconstruction = network(tensors_of(model, pictures))
            loss = reconstruction_loss(reconstruction, pictures, task.edge_weight)
        loop.descend("recnet", loss)
        loop.log(step, {"loss": loss})
        if (step + 1) % options.save_every == 0:
            loop.show(step, "original, reconstruction", torch.cat((pictures[:_SHOWN], reconstruction[:_SHOWN])))
    return options.output / f"last-{RECNET_FILE}"


def new_recnet(model: SplitModel) -> RecNet:
    """A RecNet with random weights that mirrors a model's front-end and AE."""
    config = None if model.bottleneck is None else model.bottleneck.config
    return RecNet(
        RecNetConfig(
            feature_channels=model.feature_channels,
            hidden_channels=0 if config is None else config.hidden_channels,
            channels=0 if config is None else config.channels,
            repeats=mirrored_repeats(list(model.detector.layers)[: model.split + 1]),
            model_fingerprint=model.fingerprint.hex(),
            training={},
        )
    )


def held_out_reconstruction(
    loop: Loop,
    data: TrainingData,
    model: SplitModel,
    recnet: nn.Module,
    edge_weight: float,
) -> dict[str, float]:
    """L_rec, and PSNR and edge-PSNR in dB: means over the held-out images, in a square letterbox with its border.

    These values show how a run goes on. `featcodec invert` measures without the border.
    """
    losses, qualities, edge_qualities = [], [], []
    for batch in held_out_batches(loop, data):
        pictures = as_pictures(batch)
        reconstruction = recnet(tensors_of(model, pictures))
        losses.append(float(reconstruction_loss(reconstruction, pictures, edge_weight)) * len(pictures))
        for original, found in zip(_as_arrays(pictures), _as_arrays(reconstruction.float()), strict=True):
            qualities.append(psnr(original, found))
            edge_qualities.append(edge_psnr(original, found))
    loss = sum(losses) / len(qualities)
    return {"loss": loss, "PSNR": mean_decibel(qualities), "edge-PSNR": mean_decibel(edge_qualities)}


def _as_arrays(pictures: Tensor) -> Any:
    return pictures.permute(0, 2, 3, 1).cpu().numpy()


def recnet_for(path: Path, model: SplitModel) -> RecNet:
    """Load a trained RecNet for another model of the same shape.

    Raises:
        WeightsError: the checkpoint is unreadable, or its RecNet takes tensors of another shape than the model's.
    """
    recnet = load_recnet(path)
    expected = new_recnet(model).config
    shape, needed = ((each.feature_channels, each.channels) for each in (recnet.config, expected))
    if shape != needed:
        raise WeightsError(
            f"{path}: made for (feature, tensor) channels {shape}, not {needed}; train a RecNet for this model"
        )
    recnet.config = replace(recnet.config, model_fingerprint=expected.model_fingerprint)
    return recnet
