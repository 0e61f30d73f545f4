"""The attackers that a bottleneck trains against, in the adversarial stage.

The paper has one RecNet. With several attackers, the better one counts for each image. They are started afresh in turn,
so that the bottleneck fools attacks and not one attacker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from featcodec.privacy.attackers import AttackerNet
from featcodec.split_model import SplitModel
from featcodec.training.loop import Loop
from featcodec.training.losses.privacy import PrivacyTerm
from featcodec.training.losses.reconstruction import reconstruction_loss
from featcodec.training.recnet import held_out_reconstruction, new_recnet, new_strong_recnet, recnet_for
from featcodec.training.setup import TrainingData


@dataclass(frozen=True)
class StrongPartners:
    """Strong RecNets as attackers, instead of the paper's RecNet. All start with random weights.

    Attributes:
        count: how many there are at once.
        hidden_channels, blocks: the size of each.
        fresh_every: after so many steps, one of them, in turn, is started afresh; 0 means never.
        head_start: steps at the beginning in which only they learn.
    """

    count: int = 2
    hidden_channels: int = 64
    blocks: int = 2
    fresh_every: int = 0
    head_start: int = 0


class Attackers:
    """The attackers of a run: they learn from L_rec, and say how well the better of them reconstructs each image.

    Args:
        model: whose tensors they attack.
        loop: trains them.
        recnet: checkpoint to start from, or None to start with random weights.
        partners: strong RecNets, or None for one RecNet of the paper.
        term: how failed reconstructions are rewarded.
        edge_weight: beta of L_rec.
        learning_rate: their own peak learning rate, or None for that of the loop.
    """

    def __init__(
        self,
        model: SplitModel,
        loop: Loop,
        recnet: Path | None,
        partners: StrongPartners | None,
        term: PrivacyTerm,
        edge_weight: float,
        learning_rate: float | None,
    ) -> None:
        self.model = model
        self.loop = loop
        self.partners = partners
        self.term = term
        self.loss_of = partial(reconstruction_loss, edge_weight=edge_weight, squared=term.squared)
        self.networks = _new_attackers(model, recnet, partners)
        # A network that starts afresh in the middle of a run needs the full learning rate there.
        restarts = bool(partners and partners.fresh_every)
        self.names = [f"recnet {number}" if number else "recnet" for number in range(len(self.networks))]
        self.wrapped = [
            loop.train(name, network, learning_rate, falls=not restarts)
            for name, network in zip(self.names, self.networks, strict=True)
        ]

    def start_afresh(self, step: int) -> None:
        """Start one of the attackers with random weights, if it is time."""
        partners = self.partners
        if partners is None or not partners.fresh_every or not step or step % partners.fresh_every:
            return
        number = step // partners.fresh_every % len(self.networks)
        fresh = new_strong_recnet(self.model, partners.hidden_channels, partners.blocks)
        self.loop.restart(self.names[number], fresh)

    def learn(self, coded: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """One step of each attacker on (B, C, h, w) tensors. Returns a reconstruction, and the lowest loss."""
        losses = []
        for name, wrapped in zip(self.names, self.wrapped, strict=True):
            with self.loop.autocast():
                reconstruction = wrapped(coded)
                loss = self.loss_of(reconstruction, pictures)
            self.loop.descend(name, loss)
            losses.append(loss.detach())
        return reconstruction, torch.stack(losses).min()

    def held_out(self, data: TrainingData) -> dict[str, float]:
        """How well the first attacker reconstructs the held-out images."""
        recnet = self.networks[0]
        with fixed(recnet):  # with the statistics of each batch; `fixed` says why
            recnet.train()
            quality = held_out_reconstruction(self.loop, data, self.model, self.wrapped[0], self.loss_of)
            recnet.eval()
        return quality

    def reward(self, coded: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The privacy term under the better attacker for each image, and the share of it that is not at its bound."""
        terms, shares = [], []
        for network in self.networks:
            with fixed(network):
                term, share = self.term(network(coded), pictures)
            terms.append(term)
            shares.append(share)
        return torch.stack(terms).amin(0).mean(), torch.stack(shares).mean()


def _new_attackers(model: SplitModel, recnet: Path | None, partners: StrongPartners | None) -> list[AttackerNet]:
    if partners is not None:
        return [new_strong_recnet(model, partners.hidden_channels, partners.blocks) for _ in range(partners.count)]
    return [new_recnet(model) if recnet is None else recnet_for(recnet, model)]


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
