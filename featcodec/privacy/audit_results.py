"""The results in the folder of an audit: the file audit.csv, with one row per image, side and attack.

A row has the columns of `AuditResult`, and then a column for each score. A score that counts several things of an
image, such as characters, has a second column with their number (plate_characters, plate_characters_count). When a
image is attacked again, its row is replaced and the other rows stay.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from featcodec.errors import InputError
from featcodec.privacy.readers import Score
from featcodec.system.csv_tables import CsvRow, CsvTable, number_of, parse_csv
from featcodec.system.files import explained, read_bounded, write_atomically
from featcodec.system.locks import locked

FILE_NAME = "audit.csv"
_MAX_BYTES = 64 << 20
_MAX_SCORES = 64
_COUNT = "_count"
_REMEDY = "remove it and run `featcodec audit` again"
_FOLDER_REMEDY = "give the output folder of `featcodec audit`"


@dataclass(frozen=True)
class AuditResult:
    """One reconstruction.

    Attributes:
        picture: path of the reconstruction below the folder, with slashes; empty if the attack makes none.
        image: path of the image within the run, without ending, with slashes.
        original: path of the original image, as it was given.
        side: "bottleneck" or "latent".
        label: the name of the bottleneck, or "latent".
        attack: kind of the attack.
        fingerprint: 16 hex digits that name the attacked model.
        attacker: 16 hex digits that name the weights of the RecNet; empty if the attack has none.
        qp: QP of the attacked tensor; empty if it is uncompressed, "raw" for uncompressed samples.
        scores: the scores by name of the measure.
    """

    picture: str
    image: str
    original: str
    side: str
    label: str
    attack: str
    fingerprint: str
    attacker: str
    qp: str
    scores: Mapping[str, Score]


_COLUMNS = tuple(field.name for field in fields(AuditResult) if field.name != "scores")


def read_audit_results(folder: Path) -> list[AuditResult]:
    """Read the results in a folder that `featcodec audit` wrote, in order.

    Raises:
        InputError: the folder has no results, or they cannot be read.
    """
    path = folder / FILE_NAME
    data = read_bounded(path, _MAX_BYTES, InputError, what="audit's", remedy=_FOLDER_REMEDY, unreadable=_FOLDER_REMEDY)
    table = parse_csv(path, data, InputError, _FOLDER_REMEDY)
    if table.columns[: len(_COLUMNS)] != _COLUMNS:
        raise InputError(f"{path}: its first columns are not {', '.join(_COLUMNS)}; {_REMEDY}")
    if len(table.columns) > len(_COLUMNS) + _MAX_SCORES:
        raise InputError(f"{path}: has over {_MAX_SCORES} columns of scores, more than any audit; {_REMEDY}")
    return [_result(path, table, row) for row in table.rows]


def check_audit_results(folder: Path) -> None:
    """Check, before any computation, that `add_audit_results` can add to the folder.

    Raises:
        InputError: the folder has a file with this name that is not a file of audit results.
    """
    if (folder / FILE_NAME).exists():
        read_audit_results(folder)


def add_audit_results(folder: Path, results: Iterable[AuditResult]) -> None:
    """Write results into the file of the folder. The results of other images and attacks stay.

    Raises:
        InputError: the folder has a file with this name that is not a file of audit results.
        OutputError: the file cannot be written.
    """
    path = folder / FILE_NAME
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):  # another run may add its rows at the same time
        _write(path, [*(read_audit_results(folder) if path.exists() else []), *results])


def _write(path: Path, results: Iterable[AuditResult]) -> None:
    by_key = {(result.image, result.side, result.attack): result for result in results}
    rows = [by_key[key] for key in sorted(by_key)]
    names = list(dict.fromkeys(name for result in rows for name in result.scores))
    counted = {name for result in rows for name, score in result.scores.items() if score.count > 1}
    columns = [column for name in names for column in (name, *([name + _COUNT] if name in counted else []))]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([*_COLUMNS, *columns])
    for result in rows:
        scores = [_text(result.scores, column) for column in columns]
        table.writerow([*(getattr(result, column) for column in _COLUMNS), *scores])
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"), overwrite=True)


def _text(scores: Mapping[str, Score], column: str) -> str:
    if column.endswith(_COUNT):
        return str(scores.get(column.removesuffix(_COUNT), Score()).count)
    mean = scores.get(column, Score()).mean
    return "" if math.isnan(mean) else f"{mean:.9g}"


def _result(path: Path, table: CsvTable, row: CsvRow) -> AuditResult:
    if row.problem:
        raise InputError(f"{path}: {row.place} {row.problem}; {_REMEDY}")
    values = dict(zip(table.columns, row.values, strict=True))
    scores = {}
    for column in table.columns[len(_COLUMNS) :]:
        if not column.endswith(_COUNT):
            mean = _number(path, row, values[column])
            count = _number(path, row, values[column + _COUNT]) if column + _COUNT in values else 1.0
            if not count >= 0 or count % 1:  # NaN compares false
                raise InputError(f"{path}: {row.place}: {values[column + _COUNT][:40]!r} is not a count; {_REMEDY}")
            scores[column] = Score() if math.isnan(mean) else Score(mean * count, int(count))
    return AuditResult(**{column: values[column] for column in _COLUMNS}, scores=scores)


def _number(path: Path, row: CsvRow, text: str) -> float:
    if not text:
        return math.nan
    value = number_of(text)
    if value is None:
        raise InputError(f"{path}: {row.place}: {text[:40]!r} is not a number; {_REMEDY}")
    return value
