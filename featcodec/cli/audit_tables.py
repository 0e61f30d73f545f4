"""What `featcodec audit` prints: the worst case first, then every attack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featcodec.cli.console import print_table
from featcodec.privacy.measures import PSNR, title_of, written, written_difference

if TYPE_CHECKING:
    from featcodec.privacy.audit import Audited, Side
    from featcodec.privacy.readers import Measure, Score
    from featcodec.privacy.worst_case import WorstCase

Sums = Mapping[tuple[str, str], Mapping[str, "Score"]]
"""The scores of all images, added up, by side and attack, then by measure."""


def sums_of(done: Sequence[Audited]) -> dict[tuple[str, str], dict[str, Score]]:
    """Add up the scores of all images."""
    from featcodec.privacy.readers import summed

    keys = dict.fromkeys((one.side, one.attack) for outcome in done for one in outcome.reconstructions)
    return {
        key: summed(one.scores for outcome in done for one in outcome.reconstructions if (one.side, one.attack) == key)
        for key in keys
    }


def print_worst_case(cases: Sequence[WorstCase], sides: Sequence[Side]) -> None:
    """Print one row per score: the strongest attack on each side, and what the bottleneck changes."""
    shown = list(reversed(sides))  # latent coding first, because the others are compared with it
    rows = []
    for case in cases:
        cells = [title_of(case.measure)]
        for side in shown:
            found = case.sides.get(side.name)
            value = written(case.measure, math.nan if found is None else found.value)
            cells.append(value if found is None else f"{value} ({found.attack})")
        if len(shown) > 1:
            cells.append(written_difference(case.measure, case.difference))
        rows.append(cells)
    columns = ["", *(side.label for side in shown), *(["difference"] if len(shown) > 1 else [])]
    print_table("The worst case: the strongest attack on each side", columns, rows)


def print_attacks(sums: Sums, done: Sequence[Audited], sides: Sequence[Side], measures: Sequence[Measure]) -> None:
    """Print one row per side and attack, what the readers make of the originals, and the floor of the other scores."""
    from featcodec.privacy.readers import summed

    present = [one for one in measures if any(_counts(scores, one) for scores in sums.values())]
    rows = [
        [side.label, attack, *_cells(sums[side.name, attack], present)]
        for side in reversed(sides)
        for attack in (*side.attacks, *side.direct)
    ]
    references = {
        "one colour": summed(one.on_one_colour for one in done),
        "original": summed(one.on_original for one in done),
    }
    for name, scores in references.items():
        if any(_counts(scores, one) for one in present):
            rows.append([name, "", *_cells(scores, present)])
    print_table("Every attack: means over the images", ["", "attack", *map(title_of, present)], rows)


def _cells(scores: Mapping[str, Score], measures: Sequence[Measure]) -> list[str]:
    return [written(one, scores[one.name].mean if one.name in scores else math.nan) for one in measures]


def _counts(scores: Mapping[str, Score], measure: Measure) -> bool:
    return measure.name in scores and scores[measure.name].count > 0


def say_which_attacks_failed(sums: Sums, done: Sequence[Audited], sides: Sequence[Side]) -> list[str]:
    """Notes on attacks whose pictures are hardly closer to the originals than pictures of one colour."""
    from featcodec.privacy.image_quality import shows_nothing
    from featcodec.privacy.readers import summed

    labels = {side.name: side.label for side in sides}
    floor = summed(one.on_one_colour for one in done)
    notes = []
    for (side, attack), scores in sums.items():
        if _counts(scores, PSNR) and _counts(floor, PSNR) and shows_nothing(scores["psnr"].mean, floor["psnr"].mean):
            notes.append(
                f"{labels[side]}, attack {attack}: {written(PSNR, scores['psnr'].mean)} dB is not clearly above the "
                f"{written(PSNR, floor['psnr'].mean)} dB of pictures of one colour; this attack failed, which does not "
                "show that the tensor is private"
            )
    return notes


def say_what_the_means_lack(sums: Sums, images: int, measures: Sequence[Measure]) -> list[str]:
    """Notes on scores of whole pictures that some images do not have."""
    notes = []
    for measure in measures:
        if not measure.is_share:
            # The direct reader makes no picture, so alone it has none of these scores.
            least = min(
                (scores[measure.name].count for scores in sums.values() if measure.name in scores), default=images
            )
            if least < images:
                notes.append(
                    f"{measure.title}: in the mean of {least} of {images} images; the others are too small, or exact"
                )
    return notes


def summary_json(
    cases: Sequence[WorstCase], sums: Sums, sides: Sequence[Side], measures: Sequence[Measure]
) -> dict[str, Any]:
    """The two tables for JSON."""
    labels = {side.name: side.label for side in sides}
    return {
        "measures": [
            {"name": one.name, "title": one.title, "share": one.is_share, "higher_sees_more": one.rises}
            for one in measures
        ],
        "worst_case": [
            {
                "measure": case.measure.name,
                **{side: {"attack": found.attack, "value": found.value} for side, found in case.sides.items()},
                "difference": _finite(case.difference),
            }
            for case in cases
        ],
        "attacks": [
            {"side": side, "label": labels[side], "attack": attack, **scores_json(scores)}
            for (side, attack), scores in sums.items()
        ],
    }


def scores_json(scores: Mapping[str, Score]) -> dict[str, float | None]:
    """The means of scores for JSON; null if nothing counted."""
    return {name: _finite(score.mean) for name, score in scores.items()}


def audited_json(outcome: Audited) -> dict[str, Any]:
    """One image for JSON."""
    return {
        "source": str(outcome.source.path),
        "original": str(outcome.original),
        "qp": outcome.qp,
        "on_original": scores_json(outcome.on_original),
        "on_one_colour": scores_json(outcome.on_one_colour),
        "side_by_side": str(outcome.side_by_side),
        "reconstructions": [
            {
                **{"side": one.side, "attack": one.attack},
                **{"output": None if one.output is None else str(one.output)},
                **scores_json(one.scores),
            }
            for one in outcome.reconstructions
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
