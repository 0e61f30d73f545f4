"""Attacks on a cluster: the same pictures and outcomes as `featcodec.privacy.attack_files` makes."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from featcodec.cluster.resources import Resources
from featcodec.cluster.whole import whole_outcomes
from featcodec.privacy.attack import Attack
from featcodec.privacy.attack_files import Attacked, attack_files
from featcodec.privacy.attack_pictures import picture_path
from featcodec.system.paths import Source


def attack_on_cluster(
    attack: Attack, sources: Sequence[Source], folder: Path, *, resources: Resources, **options: Any
) -> Generator[Attacked, None, None]:
    """Reconstruct pictures on the cluster that is connected (`session.connected`), and write them.

    Yields one outcome per file, in the order of the sources. All nodes must see files and folder under the same paths.
    Call `check_pictures` first: a picture that is there is replaced, for a worker that died may have written it.

    Args:
        attack, sources, folder: as for `attack_files`.
        resources: the number of actors.
        options: as for `attack_files`, without `workers` and `overwrite`.
    """
    work = partial(_attack, folder, options)

    def lost(source: Source, problem: str) -> Attacked:
        remedy = "leave the file out, or give the workers more memory"
        return Attacked(source, picture_path(source, folder), error=f"{problem}; {remedy}")

    return whole_outcomes(attack, work, sources, lost, resources=resources)


def _attack(
    folder: Path, options: Mapping[str, Any], attack: Attack, sources: Sequence[Source]
) -> Generator[Attacked, None, None]:
    return attack_files(attack, sources, folder, **options, workers=1, overwrite=True)
