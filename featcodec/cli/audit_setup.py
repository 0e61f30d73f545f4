"""The sides and attacks that the options of `featcodec audit` ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcodec.cli.console import complain
from featcodec.cli.option_values import bottleneck_label, load_codec, load_codec_for
from featcodec.privacy.worst_case import ATTACKS, DIRECT, LATENT, STRONG

if TYPE_CHECKING:
    from featcodec.bitstream import SideInfo
    from featcodec.codec import FeatureCodec
    from featcodec.privacy.audit import Side, TensorReader
    from featcodec.privacy.direct_reader import DirectReader
    from featcodec.privacy.private_details import PrivateDetails


@dataclass(frozen=True, eq=False)
class Setup:
    """What is compared.

    Attributes:
        sides: the codec of the options first, then latent coding if that is another codec.
        weights: the names of the RecNets by side and attack; see `AttackSet.weights`.
    """

    sides: list[Side]
    weights: dict[tuple[str, str], str]


def codecs_of(options: dict[str, Any], streams: Iterable[SideInfo], *, coded: bool) -> list[FeatureCodec]:
    """The codec that the options describe, and latent coding beside it if it has a bottleneck.

    Args:
        options: the options of the command.
        streams: the side info of all intact bitstreams.
        coded: whether tensors are coded by the second codec; else only its networks matter.
    """
    networks = [options[name] for name in ("detector", "bottleneck", "layout", "device", "half")]
    settings = {name: options[name] for name in ("image_size", "square", "profile")}
    codec = load_codec_for(streams, *networks, **settings, restoration="none")
    if codec.model.bottleneck is None:
        return [codec]
    if not coded:
        return [codec, codec.without_bottleneck()]
    networks[1:3] = "none", "auto"
    return [codec, load_codec(*networks, **settings, restoration="none")]


def set_up(codecs: Sequence[FeatureCodec], options: dict[str, Any], details: PrivateDetails | None) -> Setup:
    """Load the attacks on every side. A kind that one side lacks is left out on both, with a note.

    Args:
        codecs: the codecs of the sides.
        options: the options of the command.
        details: the private details on the originals, if the direct reader has plates to read.

    Raises:
        InputError: no attack is left, or two checkpoints are for the same side.
        WeightsError: a checkpoint that was given is damaged, or is for none of the codecs.
    """
    from featcodec.errors import InputError, WeightsError
    from featcodec.privacy.attack_set import Checkpoints, find_attacks
    from featcodec.privacy.audit import Side
    from featcodec.privacy.gradient import GradientSettings

    kinds = [kind for kind in options["attacks"] or ATTACKS if kind != DIRECT or details is not None]
    checkpoints = Checkpoints(options["recnets"])
    gradient = GradientSettings(steps=options["gradient_steps"])
    labels = [bottleneck_label(options["bottleneck"], codec) or _short(codec) for codec in codecs]
    found = [find_attacks(codec, kinds, checkpoints, gradient) for codec in codecs]
    if unused := checkpoints.unused():
        raise WeightsError(f"{unused[0]}: not trained on these networks; give its `detector` and `bottleneck`")
    direct: list[dict[str, TensorReader]] = [{} for _ in codecs]
    if details is not None and DIRECT in kinds:
        direct = _direct_readers(codecs, options["direct_readers"], details)
    there = [{*one.attacks, *read} for one, read in zip(found, direct, strict=True)]
    for codec, label, mine in zip(codecs, labels, there, strict=True):
        for kind in kinds:
            if kind not in mine:
                complain(f"note: {_missing(kind, label, codec, options)}")
    everywhere = set.intersection(*there)
    if not everywhere:
        raise InputError("no attack is left, because none has its checkpoint for every side; use `attack` gradient")
    sides = []
    weights = {}
    for codec, label, one, read in zip(codecs, labels, found, direct, strict=True):
        attacks = one.only(everywhere)
        side = Side(codec, label, attacks.attacks, read if DIRECT in everywhere else {})
        weights.update({(side.name, kind): name for kind, name in attacks.weights.items()})
        sides.append(side)
    return Setup(sides, weights)


def _direct_readers(
    codecs: Sequence[FeatureCodec], paths: Sequence[Path], details: PrivateDetails
) -> list[dict[str, TensorReader]]:
    """The direct reader of each side: one that was given, else the one that ships, else none."""
    from featcodec.errors import InputError, WeightsError
    from featcodec.privacy.direct_reader import find_shipped_direct_reader, load_direct_reader
    from featcodec.privacy.plates import DirectPlates

    # An edge fingerprint does not name the split.
    edges = [(codec.model.edge_fingerprint, codec.model.split) for codec in codecs]
    given: dict[tuple[bytes, int], tuple[Path, DirectReader]] = {}
    for path in dict.fromkeys(paths):
        reader = load_direct_reader(path)
        edge = bytes.fromhex(reader.config.edge_fingerprint), reader.config.split
        if edge not in edges:
            raise WeightsError(f"{path}: not trained on these networks; give its `detector` and `bottleneck`")
        if edge in given:
            raise InputError(f"{path} and {given[edge][0]} read the same tensors; give only one")
        given[edge] = path, reader
    found = [given[edge][1] if edge in given else find_shipped_direct_reader(*edge) for edge in edges]
    return [{} if reader is None else {DIRECT: DirectPlates(reader, details)} for reader in found]


def _short(codec: FeatureCodec) -> str:
    return LATENT if codec.model.bottleneck is None else codec.model.fingerprint.hex()[:8]


def _missing(kind: str, label: str, codec: FeatureCodec, options: dict[str, Any]) -> str:
    """One line: which checkpoint is missing, and the command that makes it."""
    bottleneck = "none" if codec.model.bottleneck is None else options["bottleneck"]
    if bottleneck == "auto":
        bottleneck = label
    command, option = ("attack", "recnet") if kind != DIRECT else ("direct-reader", "direct_reader")
    command += " --strong" if kind == STRONG else ""
    return (
        f"the attack {kind} is left out, because it has no checkpoint for {options['detector']}, {label}; make one "
        f"with `featcodec train {command} --detector {options['detector']} --bottleneck {bottleneck}`, and give "
        f"it as `{option}`"
    )
