"""The networks of attackers: which kinds there are, whose tensors a checkpoint attacks, and which ones ship."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias

from featcodec.errors import WeightsError
from featcodec.networks.catalogue import SHIPPED_FOLDER
from featcodec.networks.checkpoints import kind_of
from featcodec.privacy.recnet import KIND as RECNET
from featcodec.privacy.recnet import RecNet, RecNetConfig, load_recnet
from featcodec.privacy.strong_recnet import KIND as STRONG_RECNET
from featcodec.privacy.strong_recnet import StrongRecNet, load_strong_recnet

AttackerNet: TypeAlias = RecNet | StrongRecNet
"""A network that turns (B, C, H, W) tensors, or several levels of them, and their QPs into (B, 3, H', W') pictures."""

_LOADERS: dict[str, Callable[[Path], AttackerNet]] = {RECNET: load_recnet, STRONG_RECNET: load_strong_recnet}
KINDS = tuple(_LOADERS)
"""What an attacker's checkpoint can hold: the paper's RecNet, or the strong one."""


class Attacked(Protocol):
    """What is known of a model: its two names and its split. `featcodec.split_model.SplitModel` is one."""

    @property
    def fingerprint(self) -> bytes:
        """8 bytes that name detector, AE and AD."""

    @property
    def edge_fingerprint(self) -> bytes:
        """8 bytes that name detector and AE."""

    @property
    def split(self) -> int:
        """The last layer of the front-end. Without AE, the fingerprints do not name it."""


def load_attacker(path: Path) -> AttackerNet:
    """Read a checkpoint of either kind.

    Returns:
        the network, float32, on the CPU, in eval mode, frozen.

    Raises:
        WeightsError: the file is missing, damaged or not an attacker's network.
    """
    kind = kind_of(path)
    if kind == STRONG_RECNET:
        return load_strong_recnet(path)
    return load_recnet(path)  # which also says what is wrong with a file of another kind


def attacks(network: AttackerNet, model: Attacked) -> bool:
    """Whether a network was trained on the tensors of a model: those of its detector and AE, whatever its AD is."""
    if network.config.split != model.split:
        return False
    if network.config.edge_fingerprint:
        return network.config.edge_fingerprint == model.edge_fingerprint.hex()
    # Checkpoints from before the edge fingerprint. Only RecNets are that old.
    return isinstance(network.config, RecNetConfig) and network.config.model_fingerprint == model.fingerprint.hex()


def bind(network: AttackerNet, model: Attacked) -> None:
    """Write into a network's config that it attacks this model."""
    edge, split = model.edge_fingerprint.hex(), model.split
    if isinstance(network.config, RecNetConfig):
        name = model.fingerprint.hex()
        network.config = replace(network.config, model_fingerprint=name, edge_fingerprint=edge, split=split)
    else:
        network.config = replace(network.config, edge_fingerprint=edge, split=split)


def find_shipped_attacker(model: Attacked, kind: str = RECNET) -> Path | None:
    """Find the attacker of a kind (one of `KINDS`) that comes with the package for a model, or None."""
    for path in sorted(SHIPPED_FOLDER.glob("*-recnet.safetensors")):
        if kind_of(path) == kind and attacks(_LOADERS[kind](path), model):
            return path
    return None


def shipped_attacker(model: Attacked, kind: str = RECNET) -> AttackerNet:
    """Load the attacker of a kind that comes with the package for a model.

    Raises:
        WeightsError: the package has none for this model.
    """
    path = find_shipped_attacker(model, kind)
    if path is not None:
        return load_attacker(path)
    command = "`featcodec train attack`" + (" and `strong`" if kind == STRONG_RECNET else "")
    raise WeightsError(
        f"no {kind} for the model {model.fingerprint.hex()} comes with featcodec; train one with {command} and give "
        "it with `recnet`"
    )
