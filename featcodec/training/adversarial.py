"""Stage 3: train the bottleneck against RecNet (paper, section III-C).

Each batch has four steps. In steps 1 and 2, RecNet learns from L_rec and the bottleneck is fixed. In steps 3 and 4, the
bottleneck learns from L_tot = L_obj - w * L_rec and RecNet is fixed. The detector is frozen and in eval mode the whole
time. The optional terms of `objective` can be added to L_obj.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from featcodec.errors import InputError
from featcodec.networks.bottleneck import save_bottleneck
from featcodec.privacy.recnet import save_recnet
from featcodec.split_model import SplitModel
from featcodec.training.bottleneck import BOTTLENECK_FILE, held_out_objective
from featcodec.training.loop import Loop, LoopOptions
from featcodec.training.losses.objective import PAPER_WEIGHTS, CodingPath, Objective, ObjectiveWeights
from featcodec.training.losses.reconstruction import EDGE_WEIGHT, reconstruction_loss
from featcodec.training.recnet import RECNET_FILE, held_out_reconstruction, new_recnet, recnet_for
from featcodec.training.setup import TrainingData, as_pictures, batches_from, features_of, frozen_model
from featcodec.training.simulated_coding import SimulatedCoding

PRIVACY_WEIGHT = 0.1
"""The paper's w. Its authors later used 0.5 to 2. YOLOv5 multiplies its L_obj by the batch size; L_obj here is a mean.
If the authors multiplied L_obj too, their 0.1 is 0.1 divided by the batch size here."""
_SHOWN = 4


@dataclass(frozen=True)
class AdversarialTask:
    """Which networks train against each other, and how.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint of stage 1.
        recnet: checkpoint of stage 2, or None to start with random weights.
        privacy_weight: w of L_tot.
        edge_weight: beta of L_rec.
        weights: weights of the loss terms; their sum takes the place of L_obj.
        simulation: QPs of simulated coding, or None for no simulated coding.
        recnet_learning_rate: RecNet's own peak learning rate, or None for the bottleneck's.
    """

    detector: str | Path
    bottleneck: Path
    recnet: Path | None
    privacy_weight: float = PRIVACY_WEIGHT
    edge_weight: float = EDGE_WEIGHT
    weights: ObjectiveWeights = PAPER_WEIGHTS
    simulation: SimulatedCoding | None = None
    recnet_learning_rate: float | None = None


def train_adversarial(task: AdversarialTask, data: TrainingData, options: LoopOptions) -> tuple[Path, Path]:
    """Run the stage.

    Returns:
        the checkpoints of bottleneck and RecNet after the last step. The checkpoints that are best on the held-out
            images are in the same folder.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    model = frozen_model(task.detector, task.bottleneck)
    bottleneck = model.bottleneck
    if bottleneck is None:
        raise InputError("adversarial training needs a bottleneck; give the checkpoint of `featcodec train bottleneck`")
    settings = {"stage": "adversarial", "data": data.describe(), **_describe(task)}
    settings["bottleneck"] = {"fingerprint": bottleneck.fingerprint().hex(), **bottleneck.config.training}
    loop = Loop(options, settings)
    torch.manual_seed(options.seed)
    recnet = new_recnet(model) if task.recnet is None else recnet_for(task.recnet, model)
    model.to(loop.device)
    path = loop.train("bottleneck", CodingPath(bottleneck, task.simulation))
    attacker = loop.train("recnet", recnet, task.recnet_learning_rate)
    objective = Objective(model.detector)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        training = {**loop.settings, "metrics": dict(metrics)}
        bottleneck.config = replace(bottleneck.config, training=training)
        # The bottleneck's weights have changed since the fingerprint of `model` was computed.
        now = SplitModel(model.detector, bottleneck).fingerprint.hex()
        recnet.config = replace(recnet.config, model_fingerprint=now, training=training)
        save_bottleneck(options.output / f"{which}-{BOTTLENECK_FILE}", bottleneck)
        save_recnet(options.output / f"{which}-{RECNET_FILE}", recnet)

    def held_out() -> Mapping[str, float]:
        terms = held_out_objective(loop, data, objective, task.weights, path)
        with fixed(recnet):  # with the statistics of each batch; `fixed` says why
            recnet.train()
            attack = held_out_reconstruction(loop, data, model, attacker, task.edge_weight)
            recnet.eval()
        total = terms["loss"] - task.privacy_weight * attack["loss"]
        return {**terms, **attack, "objective": terms["loss"], "L_rec": attack["loss"], "loss": total}

    for step, batch in loop.steps(partial(batches_from, loop, data), save_models, held_out if data.held_out else None):
        pictures = as_pictures(batch)
        with loop.autocast():
            features = features_of(model.detector, pictures)
            with torch.no_grad():
                coded = model.reduce(features)
            reconstruction = attacker(coded)
            recnet_loss = reconstruction_loss(reconstruction, pictures, task.edge_weight)
        loop.descend("recnet", recnet_loss)

        with loop.autocast(), fixed(recnet):
            coded, restored, rate = path(features)
            terms = objective(task.weights, batch, features, restored, rate)
            attack = reconstruction_loss(recnet(coded), pictures, task.edge_weight)
            total = terms["loss"] - task.privacy_weight * attack
        loop.descend("bottleneck", total)

        loop.log(step, {**terms, "objective": terms["loss"], "loss": total, "L_rec": recnet_loss})
        if (step + 1) % options.save_every == 0:
            loop.show(step, "original, reconstruction", torch.cat((pictures[:_SHOWN], reconstruction[:_SHOWN])))
    return options.output / f"last-{BOTTLENECK_FILE}", options.output / f"last-{RECNET_FILE}"


@contextmanager
def fixed(network: nn.Module) -> Iterator[None]:
    """Keep a network's weights and BatchNorm statistics unchanged. BatchNorm still uses the statistics of the batch.

    With running statistics, the bottleneck could win by drifting away from them. That does not fool an attacker that is
    trained afresh.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms if norm.num_batches_tracked is not None]
    network.requires_grad_(False)
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        network.requires_grad_(True)
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]


def _describe(task: AdversarialTask) -> dict[str, object]:
    """The task for a checkpoint's config, without paths."""
    description = asdict(task)
    description["detector"] = Path(task.detector).name
    description["recnet"] = None if task.recnet is None else task.recnet.name
    return description
