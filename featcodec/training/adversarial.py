"""Stage 3: train the bottleneck against attackers (paper, section III-C).

Each batch has four steps. In steps 1 and 2, RecNet learns from L_rec and the bottleneck is fixed. In steps 3 and 4, the
bottleneck learns from L_tot = L_obj - w * L_rec and RecNet is fixed. The detector is frozen and in eval mode the whole
time. The optional terms of `objective` can be added to L_obj.

Not in the paper: other rewards for failed reconstructions, a weight that is set by gradients
(`featcodec.training.losses.privacy`), and several strong attackers (`featcodec.training.partners`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featcodec.errors import InputError
from featcodec.networks.bottleneck import save_bottleneck
from featcodec.networks.features import Features
from featcodec.privacy.attackers import bind
from featcodec.split_model import SplitModel
from featcodec.training.bottleneck import BOTTLENECK_FILE, held_out_objective
from featcodec.training.data.batches import TrainingBatch
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.objective import PAPER_WEIGHTS, CodingPath, Objective, ObjectiveWeights
from featcodec.training.losses.privacy import AdaptiveWeight, PrivacyTerm
from featcodec.training.losses.reconstruction import EDGE_WEIGHT
from featcodec.training.partners import Attackers, StrongPartners
from featcodec.training.recnet import (
    RECNET_FILE,
    save_attacker,
)
from featcodec.training.setup import TrainingData, as_pictures, batches_from, features_of, frozen_model
from featcodec.training.simulated_coding import SimulatedCoding

PRIVACY_WEIGHT = 0.1
"""The paper's w. Its authors later used 0.5 to 2. YOLOv5 multiplies its L_obj by the batch size; L_obj here is a mean.
If the authors multiplied L_obj too, their 0.1 is 0.1 divided by the batch size here."""
_MEASURE_EVERY = 10
"""Turns of the bottleneck between measurements of the adaptive weight. One costs a second pass through the back-end."""
_SHOWN = 4


@dataclass(frozen=True)
class AdversarialTask:
    """Which networks train against each other, and how.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint of stage 1, or the name of a shipped one.
        recnet: checkpoint of stage 2, or None to start with random weights.
        privacy_weight: w of L_tot.
        privacy_share: choose w so that the privacy term's gradient at AE's output is this share of the objective's
            gradient; then `privacy_weight` is not used.
        edge_weight: beta of L_rec, from which the attackers learn.
        term: how failed reconstructions are rewarded; None means by L_rec.
        weights: weights of the loss terms; their sum takes the place of L_obj.
        simulation: QPs of simulated coding, or None for no simulated coding.
        recnet_learning_rate: the attackers' own peak learning rate, or None for the bottleneck's.
        partners: strong RecNets as attackers, or None for one RecNet of the paper.
        attacker_steps: batches that the attackers learn from for each one that the bottleneck learns from, at least 1.
            An attacker that cannot follow the bottleneck is fooled, and then does not teach it anything.

    Raises:
        InputError: both `recnet` and `partners` are given, or a number is out of range.
    """

    detector: str | Path
    bottleneck: str | Path
    recnet: Path | None
    privacy_weight: float = PRIVACY_WEIGHT
    privacy_share: float | None = None
    edge_weight: float = EDGE_WEIGHT
    term: PrivacyTerm | None = None
    weights: ObjectiveWeights = PAPER_WEIGHTS
    simulation: SimulatedCoding | None = None
    recnet_learning_rate: float | None = None
    partners: StrongPartners | None = None
    attacker_steps: int = 1

    def __post_init__(self) -> None:
        if self.attacker_steps < 1:
            raise InputError(f"{self.attacker_steps} attacker steps are not at least 1")
        if self.recnet is not None and self.partners is not None:
            raise InputError("`recnet` and `partners` are two kinds of attackers; give only one")


def train_adversarial(task: AdversarialTask, data: TrainingData, options: LoopOptions) -> tuple[Path, Path]:
    """Run the stage.

    Returns:
        the checkpoints of bottleneck and (first) RecNet after the last step. The checkpoints that are best on the
            held-out images are in the same folder.

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
    term = task.term or PrivacyTerm(edge_weight=task.edge_weight)
    networks = (task.recnet, task.partners)
    attackers = Attackers(model, loop, *networks, term, task.edge_weight, task.recnet_learning_rate)
    model.to(loop.device)
    unwrapped = CodingPath(bottleneck, task.simulation, model.pixels_per_sample)
    path = loop.train("bottleneck", unwrapped)
    objective = Objective(model.detector)
    weight = _PrivacyWeight(task, loop, unwrapped, attackers, objective)

    head_start = task.partners.head_start if task.partners else 0

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        training = {**loop.settings, "metrics": dict(metrics)}
        bottleneck.config = replace(bottleneck.config, training=training)
        save_bottleneck(options.output / f"{which}-{BOTTLENECK_FILE}", bottleneck)
        # The bottleneck's weights have changed since the fingerprints of `model` were computed.
        bind(attackers.networks[0], SplitModel(model.detector, bottleneck))
        save_attacker(options.output / f"{which}-{RECNET_FILE}", attackers.networks[0], training)

    def held_out() -> Mapping[str, float]:
        terms = held_out_objective(loop, data, objective, task.weights, path)
        attack = attackers.held_out(data)
        total = terms["loss"] - float(weight.now) * attack["loss"]
        return {**terms, **attack, "objective": terms["loss"], "L_rec": attack["loss"], "loss": total}

    for step, batch in loop.steps(partial(batches_from, loop, data), save_models, held_out if data.held_out else None):
        pictures = as_pictures(batch)
        attackers.start_afresh(step)
        with loop.autocast():
            features = features_of(model.detector, pictures)
            with torch.no_grad():
                tensors = bottleneck.encode(features)
        reconstruction, recnet_loss = attackers.learn(tensors, pictures)
        turn, others = divmod(step - head_start, task.attacker_steps)
        if turn < 0 or others:
            loop.log(step, {"L_rec": recnet_loss})
            continue

        weight.measure(turn, batch, features)
        with loop.autocast():
            coded, restored, rate = path(features)
            terms = objective(task.weights, batch, features, restored, rate)
            reward, active = attackers.reward(coded, pictures)
            total = terms["loss"] - weight.now * reward
        loop.descend("bottleneck", total)

        shown = {"L_rec": recnet_loss, "privacy": reward, "active": active, "w": weight.now}
        loop.log(step, {**terms, "objective": terms["loss"], "loss": total, **shown})
        if (step + 1) % options.save_every == 0:
            loop.show(step, "original, reconstruction", torch.cat((pictures[:_SHOWN], reconstruction[:_SHOWN])))
    return options.output / f"last-{BOTTLENECK_FILE}", options.output / f"last-{RECNET_FILE}"


class _PrivacyWeight:
    """The weight of the privacy term at each step: the paper's w, or one that follows the gradients."""

    def __init__(
        self, task: AdversarialTask, loop: Loop, path: CodingPath, attackers: Attackers, objective: Objective
    ) -> None:
        self._weights, self._loop, self._path = task.weights, loop, path
        self._attackers, self._objective = attackers, objective
        self.now = torch.tensor(task.privacy_weight)
        self._adaptive: AdaptiveWeight | None = None
        if task.privacy_share is not None:
            self._adaptive = loop.keep("privacy weight", AdaptiveWeight(task.privacy_share).to(loop.device))

    def measure(self, turn: int, batch: TrainingBatch, features: Features) -> None:
        """Measure both gradients at AE's output, at some turns. The weights of the networks stay as they are."""
        if self._adaptive is None:
            return
        if turn % _MEASURE_EVERY == 0:
            # Not through the wrapped module: its outputs are copies, to which the objective has no gradient.
            with self._loop.autocast():
                coded, restored, rate = self._path(features)
                loss = self._objective(self._weights, batch, features, restored, rate)["loss"]
                reward, active = self._attackers.reward(coded, as_pictures(batch))
            self._adaptive.measure(_gradient(loss, coded), _gradient(reward, coded), active)
        self.now = self._adaptive.weight


def _gradient(loss: Tensor, coded: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, coded, retain_graph=True, allow_unused=True)
    return torch.zeros_like(coded) if found is None else found


def _describe(task: AdversarialTask) -> dict[str, Any]:
    """The task for a checkpoint's config, without paths and without what older versions did not have."""
    description = asdict(task)
    description["detector"] = Path(task.detector).name
    description["recnet"] = None if task.recnet is None else task.recnet.name
    later = {"privacy_share": None, "term": None, "partners": None, "attacker_steps": 1}
    return {name: value for name, value in description.items() if name not in later or value != later[name]}
