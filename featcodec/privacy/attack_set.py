"""The attacks on a model: which kinds there are, and the RecNets that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featcodec.codec import FeatureCodec
from featcodec.errors import InputError
from featcodec.networks.checkpoints import fingerprint
from featcodec.privacy.attack import Attack
from featcodec.privacy.attackers import AttackerNet, attacks, find_shipped_attacker, load_attacker
from featcodec.privacy.gradient import GradientAttack, GradientSettings
from featcodec.privacy.recnet import KIND as RECNET_CHECKPOINT
from featcodec.privacy.strong_recnet import KIND as STRONG_CHECKPOINT
from featcodec.privacy.strong_recnet import StrongRecNetConfig
from featcodec.privacy.worst_case import ATTACKS, GRADIENT, RECNET, STRONG

_CHECKPOINT_KINDS = {RECNET: RECNET_CHECKPOINT, STRONG: STRONG_CHECKPOINT}


@dataclass(frozen=True, eq=False)
class AttackSet:
    """The attacks on one model.

    Attributes:
        attacks: the attacks by kind.
        weights: 16 hex digits that name the RecNet of each attack, by kind. The gradient attack has those of the RecNet
            that it starts from, or an empty string.
    """

    attacks: Mapping[str, Attack | GradientAttack]
    weights: Mapping[str, str]

    def only(self, kinds: Iterable[str]) -> AttackSet:
        """The same with these kinds alone."""
        left = [kind for kind in self.attacks if kind in set(kinds)]
        return AttackSet({kind: self.attacks[kind] for kind in left}, {kind: self.weights[kind] for kind in left})


class Checkpoints:
    """RecNets that were given. They are used instead of those that ship.

    Args:
        paths: the checkpoints. Each says whose tensors it attacks, and of which kind it is.

    Raises:
        WeightsError: a checkpoint is missing, damaged or not a RecNet.
    """

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        self._given = {path: load_attacker(path) for path in paths}
        self._unused = set(self._given)

    def load(self, codec: FeatureCodec, kind: str) -> Attack | None:
        """Load the RecNet of a kind for a codec: one that was given, else the one that ships, else None.

        Raises:
            WeightsError: the RecNet is damaged, or the codec has another split.
            InputError: two of the given RecNets are of this kind and for this codec.
        """
        fitting = [
            path
            for path, network in self._given.items()
            if network_kind(network) == kind and attacks(network, codec.model)
        ]
        if len(fitting) > 1:
            raise InputError(f"{fitting[1]} and {fitting[0]} attack the same tensors in the same way; give only one")
        self._unused.difference_update(fitting)
        path = fitting[0] if fitting else find_shipped_attacker(codec.model, _CHECKPOINT_KINDS[kind])
        return None if path is None else Attack.load(codec, path)

    def unused(self) -> list[Path]:
        """Return the checkpoints that attack none of the codecs that were asked for."""
        return [path for path in self._given if path in self._unused]


def network_kind(network: AttackerNet) -> str:
    """Return the kind of attack that a network is for: the paper's RecNet or the strong one."""
    return STRONG if isinstance(network.config, StrongRecNetConfig) else RECNET


def find_attacks(
    codec: FeatureCodec, kinds: Iterable[str], checkpoints: Checkpoints, gradient: GradientSettings | None = None
) -> AttackSet:
    """Load the attacks on a codec. Kinds without a checkpoint are left out.

    The gradient attack starts from the strongest RecNet that there is for the codec, also if that was not asked for.

    Raises:
        WeightsError: a RecNet is damaged, or the codec has another split than the RecNets.
    """
    recnets = {kind: attack for kind in (RECNET, STRONG) if (attack := checkpoints.load(codec, kind)) is not None}
    names = {kind: fingerprint(attack.recnet.state_dict()).hex() for kind, attack in recnets.items()}
    found: dict[str, Attack | GradientAttack] = {}
    weights: dict[str, str] = {}
    for kind in ATTACKS:
        if kind not in set(kinds):
            continue
        if kind in recnets:
            found[kind], weights[kind] = recnets[kind], names[kind]
        elif kind == GRADIENT:
            start = STRONG if STRONG in recnets else RECNET
            found[kind] = GradientAttack(codec, recnets.get(start), gradient or GradientSettings())
            weights[kind] = names.get(start, "")
    return AttackSet(found, weights)
