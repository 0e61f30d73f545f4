"""The tables of audits: the worst case first, then every attack. Every number names the rows that it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featcodec.evaluation.points import IDENTITY, PARAMETERS, Row
from featcodec.evaluation.report.study import NUMBER, Study
from featcodec.evaluation.report.tables import Cell, Table
from featcodec.privacy.measures import MEASURES, title_of, written, written_difference
from featcodec.privacy.readers import Measure
from featcodec.privacy.worst_case import LATENT, Means, worst_cases

BOTTLENECK = "bottleneck"


@dataclass(frozen=True)
class _Comparison:
    """What one audit compared: the attacks on a bottleneck and on latent coding, for the same images at the same QP.

    Attributes:
        name: the bottleneck, the number of images and the QP, for people.
        rows: the row by side and attack; latent coding first.
    """

    name: str
    rows: dict[tuple[str, str], Row]

    @property
    def means(self) -> Means:
        return {key: {one.name: _score(row, one) for one in MEASURES} for key, row in self.rows.items()}


def worst_case(study: Study) -> Table:
    """Make the table of the strongest attack per score, on latent coding and on each bottleneck."""
    rows = []
    for comparison in _comparisons(study):
        for case in worst_cases(comparison.means, MEASURES):
            cells = [Cell(f"{comparison.name}: {title_of(case.measure)}")]
            numbers = []
            for side in (LATENT, BOTTLENECK):
                found = case.sides.get(side)
                if found is None:
                    cells.append(Cell(written(case.measure, math.nan)))
                    continue
                numbers.append(comparison.rows[side, found.attack][NUMBER])
                cells.append(Cell(f"{written(case.measure, found.value)} ({found.attack})", (numbers[-1],)))
            cells.append(Cell(written_difference(case.measure, case.difference), tuple(numbers)))
            rows.append(tuple(cells))
    return Table(("", "latent coding", BOTTLENECK, "difference"), tuple(rows))


def attacks(study: Study) -> Table:
    """Make the table of all attacks, one row each."""
    last = _last_of_each_point(study.audited)
    shown = [measure for measure in MEASURES if any(row.get(measure.name) for row in last)]
    rows = [
        (
            Cell(f"{row['bottleneck'] or LATENT}, {_conditions(row)}: {row['attack']}"),
            *(Cell(written(measure, _score(row, measure)), (row[NUMBER],)) for measure in shown),
        )
        for row in last
    ]
    return Table(("", *map(title_of, shown)), tuple(rows))


def _comparisons(study: Study) -> list[_Comparison]:
    """Return one comparison per bottleneck, images and QP; latent coding alone if there is no bottleneck."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in _last_of_each_point(study.audited):
        groups.setdefault((row["dataset"], row["image_size"], row["square"], row["qp"]), []).append(row)
    found = []
    for rows in groups.values():
        latent = {(LATENT, row["attack"]): row for row in rows if not row["bottleneck"]}
        bottlenecks = dict.fromkeys((row["bottleneck"], row["fingerprint"]) for row in rows if row["bottleneck"])
        for name, fingerprint in bottlenecks or [(LATENT, "")]:
            own = {(BOTTLENECK, row["attack"]): row for row in rows if row["fingerprint"] == fingerprint}
            found.append(_Comparison(f"{name}, {_conditions(rows[0])}", {**latent, **own}))
    return found


def _last_of_each_point(rows: Sequence[Row]) -> list[Row]:
    columns = (*IDENTITY, *PARAMETERS)
    return list({tuple(row.get(column, "") for column in columns): row for row in rows}.values())


def _conditions(row: Row) -> str:
    images = f"{row['images']} image{'' if row['images'] == '1' else 's'}"
    return f"{images}, {'QP ' + row['qp'] if row['qp'] else 'uncompressed'}"


def _score(row: Row, measure: Measure) -> float:
    text = row.get(measure.name, "")
    return float(text) if text else math.nan
