"""The worst case: for each score, what the strongest attack reaches on each side of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from featcodec.privacy.readers import Measure

LATENT = "latent"
RECNET, STRONG, GRADIENT, DIRECT = ATTACKS = ("recnet", "strong", "gradient", "direct")
"""The kinds of attack in the order in which they are shown: the paper's RecNet, the strong one, gradient descent, and
the direct reader, which makes no picture.
"""

Means = Mapping[tuple[str, str], Mapping[str, float]]
"""The mean score over the images, by side and attack, then by the name of the measure. NaN if nothing counted."""


@dataclass(frozen=True)
class Strongest:
    """The strongest attack on a side.

    Attributes:
        attack: its kind.
        value: its mean score.
    """

    attack: str
    value: float


@dataclass(frozen=True)
class WorstCase:
    """One score.

    Attributes:
        measure: the score.
        sides: the strongest of the attacks that both sides got, by name of the side. It may be another attack on each
            side.
    """

    measure: Measure
    sides: Mapping[str, Strongest]

    @property
    def difference(self) -> float:
        """What the bottleneck changes: its value minus that of latent coding. NaN without both sides."""
        others = [found.value for side, found in self.sides.items() if side != LATENT]
        if LATENT not in self.sides or not others:
            return math.nan
        return others[0] - self.sides[LATENT].value


def worst_cases(means: Means, measures: Iterable[Measure]) -> list[WorstCase]:
    """Find the strongest attack of each side for each score, by the mean over the images.

    Attacks without a value for a score do not count for it. A score without any value is left out. On two sides, only
    attacks that both sides got count: more attacks on one side would be unfair to it. If there are none, latent coding
    is left out.
    """
    cases = []
    for measure in measures:
        values: dict[str, dict[str, float]] = {}
        for (side, attack), scores in means.items():
            value = scores.get(measure.name, math.nan)
            if not math.isnan(value):
                values.setdefault(side, {})[attack] = value
        if len(values) > 1:
            values = _of_both(values)
        if values:
            cases.append(WorstCase(measure, {side: _strongest(measure, found) for side, found in values.items()}))
    return cases


def _of_both(values: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    shared = set.intersection(*(set(found) for found in values.values()))
    if not shared:
        return {side: found for side, found in values.items() if side != LATENT}
    return {
        side: {attack: value for attack, value in found.items() if attack in shared} for side, found in values.items()
    }


def _strongest(measure: Measure, values: Mapping[str, float]) -> Strongest:
    choose = max if measure.rises else min
    return Strongest(*choose(values.items(), key=lambda item: item[1]))


def strongest_attacks(cases: Sequence[WorstCase]) -> dict[str, str]:
    """Return the attack that is the strongest on a side by the first score, by name of the side."""
    return {side: found.attack for side, found in cases[0].sides.items()} if cases else {}
