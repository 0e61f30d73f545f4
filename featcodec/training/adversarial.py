"""Stage 3: the bottleneck against RecNet (paper, section III-C).

Per batch: (1, 2) RecNet learns from L_rec, the bottleneck is fixed; (3, 4) the bottleneck learns from
L_tot = L_obj - w * L_rec, RecNet is fixed. The detector is frozen and in eval mode all along. L_obj may be joined by
the optional terms of `objective`.
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
"""The paper's w; its authors later used 0.5 to 2. YOLOv5 multiplies its L_obj by the batch size,
ours is a mean: if theirs was so multiplied, their 0.1 is 0.1 divided by the batch size here."""
_SHOWN = 4


@dataclass(frozen=True)
class AdversarialTask:
    """Who fights whom.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint of stage 1.
        recnet: checkpoint of stage 2, or None to start with random weights.
        privacy_weight: w of L_tot.
        edge_weight: beta of L_rec.
        weights: of the terms that stand for L_obj.
        simulation: QPs of simulated coding, or None for none.
        recnet_learning_rate: RecNet's own peak, or None for the bottleneck's.
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
        the checkpoints of bottleneck and RecNet after the last step; the best on the held-out images lie beside them.

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
        # Its weights have changed since `model` was named.
        now = SplitModel(model.detector, bottleneck).fingerprint.hex()
        recnet.config = replace(recnet.config, model_fingerprint=now, training=training)
        save_bottleneck(options.output / f"{which}-{BOTTLENECK_FILE}", bottleneck)
        save_recnet(options.output / f"{which}-{RECNET_FILE}", recnet)

    def held_out() -> Mapping[str, float]:
        terms = held_out_objective(loop, data, objective, task.weights, path)
        with fixed(recnet):  # with each batch's statistics, for the reason that stands there
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
    """Neither weights nor BatchNorm statistics change, but BatchNorm still uses the batch's own.

    With running statistics the bottleneck could win by drifting away from them, which fools no attacker that is
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
