"""The means of an audit as rows of a sweep's CSV file, so that `bd` and `report` can use them.

A row of an audit says in the column `attack` which attack it measured. If the file has the row of a sweep that coded
the same images in the same way, the row of the audit takes rate and accuracy from there. Else it has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from featcodec.codec import FeatureCodec
from featcodec.evaluation.methods import FeatureMethod, UncodedMethod
from featcodec.evaluation.points import COLUMNS, IDENTITY, MEASURES, SCORES, PointFile, Row, number
from featcodec.pipeline.common import file_size
from featcodec.system.paths import Source

_ANY = ("restoration", "attack")
"""Columns in which a row of a sweep may differ. A restoration changes the accuracy, but not what an attacker gets."""


def audit_row(
    codec: FeatureCodec, label: str, qp: int | None, attack: str, recnet: str, scores: Mapping[str, float]
) -> Row:
    """Return the row of one attack on one side, still without data set, rate and accuracy.

    Args:
        codec: the attacked codec.
        label: the name of its bottleneck, or an empty string for latent coding.
        qp: the QP, or None for uncompressed tensors.
        attack: kind of the attack.
        recnet: 16 hex digits that name the RecNet, or an empty string.
        scores: the means by name of the measure; those without a column are left out.
    """
    method = UncodedMethod(codec, label) if qp is None else FeatureMethod(codec, label)
    return {
        **dict.fromkeys(COLUMNS, ""),
        **method.identity(),
        "qp": "" if qp is None else str(qp),
        "bottleneck": label,
        "attack": attack,
        "recnet": recnet,
        **{name: number(value) for name, value in scores.items() if name in SCORES},
    }


def add_audit_row(file: PointFile, row: Row) -> Row:
    """Append a row to the file, with rate and accuracy if the file has them. Returns the row.

    Raises:
        InputError, OutputError: as in `PointFile.append`.
    """
    same = {name: row[name] for name in (*IDENTITY, "qp", "quality") if name not in _ANY}
    swept = next((one for one in reversed(file.rows()) if not one["attack"] and _has(one, same)), None)
    if swept is not None:
        kept = [name for name in MEASURES if name not in (*SCORES, "recnet") and not name.endswith("_seconds")]
        row = {**row, **{name: swept[name] for name in kept}, "restoration": swept["restoration"]}
    file.append(row)
    return row


def _has(row: Row, values: Mapping[str, str]) -> bool:
    return all(row[name] == value for name, value in values.items())


def digest_of_images(sources: Sequence[Source]) -> str:
    """Return 16 hex digits that name images without annotations: by their names and the sizes of the files."""
    files = sorted((source.name.as_posix(), file_size(source)) for source in sources)
    return hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()[:16]
