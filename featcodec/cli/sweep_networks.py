"""The networks that `featcodec sweep` uses for some of its codecs: attackers, and a restoration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

if TYPE_CHECKING:
    from featcodec.codec import FeatureCodec
    from featcodec.evaluation.methods import Attacker

_AUTO = Path("auto")


class Attackers:
    """The RecNets of --recnet, each for the model that it was trained on. With auto, also the RecNets that ship."""

    def __init__(self, paths: Sequence[Path]) -> None:
        from featcodec.privacy.attackers import load_attacker

        self.auto = _AUTO in paths
        self.unused = [path for path in dict.fromkeys(paths) if path != _AUTO]
        self.given = [(path, load_attacker(path)) for path in self.unused]

    def of(self, codec: FeatureCodec) -> tuple[Attacker | None, str]:
        """The attacker of a codec and its fingerprint, or None and an empty string."""
        from featcodec.networks.checkpoints import fingerprint
        from featcodec.privacy.attack import Attack
        from featcodec.privacy.attackers import attacks, find_shipped_attacker

        fitting = [path for path, network in self.given if attacks(network, codec.model)]
        if len(fitting) > 1:
            raise click.UsageError(f"{fitting[1]} and {fitting[0]} attack the same model; give only one")
        path = next(iter(fitting), None)
        if path is None and self.auto:
            path = find_shipped_attacker(codec.model)
        if path is None:
            return None, ""
        if path in self.unused:
            self.unused.remove(path)
        attack = Attack.load(codec, path)
        return attack, fingerprint(attack.recnet.state_dict()).hex()

    def check_all_used(self) -> None:
        """Refuse a RecNet that does not attack any of the codecs."""
        from featcodec.errors import WeightsError

        if self.unused:
            raise WeightsError(
                f"{self.unused[0]}: not trained on any swept model; give the --bottleneck or --method that it attacks"
            )


class Restorations:
    """The restoration of each codec: none, the one that ships, or a checkpoint for the codec that it was trained for.

    Raw samples have no coding noise, so they get no restoration.
    """

    def __init__(self, choice: str, *, raw: bool) -> None:
        from featcodec.networks.catalogue import AUTO, NONE
        from featcodec.networks.restoration import load_restoration

        self.choice = choice
        self.raw = raw
        self.path = None if choice in (AUTO, NONE) else Path(choice)
        self.config = None if self.path is None else load_restoration(self.path).config
        self.is_unused = self.path is not None

    def load(self, load: Callable[[str], FeatureCodec]) -> FeatureCodec:
        """Load a codec by `load`, with the restoration that --restoration means for it."""
        if self.config is None and not self.raw:
            return load(self.choice)
        codec = load("none")
        if self.config is None or self.raw:
            return codec
        if (codec.fingerprint.hex(), codec.model.split) != (self.config.stream_fingerprint, self.config.split):
            return codec
        self.is_unused = False
        return load(self.choice)

    def check_used(self) -> None:
        """Refuse a restoration that was not trained for any of the codecs."""
        from featcodec.errors import WeightsError

        if self.is_unused:
            raise WeightsError(
                f"{self.choice}: does not restore the streams of any swept curve; give the --bottleneck or --method "
                "latent that it was trained with, and --video-codec ffmpeg or vvenc"
            )
