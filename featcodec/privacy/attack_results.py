"""The results in the folder of an attack: the file attack.csv, with one row per reconstruction.

When a picture is made again, its row is replaced and the other rows stay. So several runs may fill one folder.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from featcodec.errors import InputError
from featcodec.system.csv_tables import CsvRow, number_of, parse_csv
from featcodec.system.files import explained, read_bounded, write_atomically
from featcodec.system.locks import locked

FILE_NAME = "attack.csv"
_MAX_BYTES = 64 << 20
_REMEDY = "remove it and run `featcodec invert` again"
_FOLDER_REMEDY = "give the output folder of `featcodec invert`"


@dataclass(frozen=True)
class AttackResult:
    """One reconstruction.

    Attributes:
        picture: path of the reconstruction below the folder, with slashes.
        original: path of the original image, as it was given, or an empty string without one.
        label: what was attacked: the name of the bottleneck, or "latent".
        fingerprint: 16 hex digits that name the attacked model.
        recnet: 16 hex digits that name the weights of the RecNet.
        qp: QP of the attacked bitstream; empty for an uncompressed tensor, "raw" for uncompressed samples.
        psnr, edge_psnr: dB, or NaN without an original.
    """

    picture: str
    original: str
    label: str
    fingerprint: str
    recnet: str
    qp: str
    psnr: float
    edge_psnr: float


_COLUMNS = tuple(field.name for field in fields(AttackResult))


def read_attack_results(folder: Path) -> list[AttackResult]:
    """Read the results in a folder that `featcodec invert` wrote, in order.

    Raises:
        InputError: the folder has no results, or they cannot be read.
    """
    path = folder / FILE_NAME
    data = read_bounded(path, _MAX_BYTES, InputError, what="attack's", remedy=_FOLDER_REMEDY, unreadable=_FOLDER_REMEDY)
    table = parse_csv(path, data, InputError, _FOLDER_REMEDY)
    if table.columns != _COLUMNS:
        raise InputError(f"{path}: has other columns than {', '.join(_COLUMNS)}; {_REMEDY}")
    return [_result(path, row) for row in table.rows]


def check_attack_results(folder: Path) -> None:
    """Check, before any computation, that `add_attack_results` can add to the folder.

    Raises:
        InputError: the folder has a file with this name that is not a file of attack results.
    """
    if (folder / FILE_NAME).exists():
        read_attack_results(folder)


def add_attack_results(folder: Path, results: Iterable[AttackResult]) -> None:
    """Write results into the file of the folder. The results of other pictures stay.

    Raises:
        InputError: the folder has a file with this name that is not a file of attack results.
        OutputError: the file cannot be written.
    """
    path = folder / FILE_NAME
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):  # another run may add its rows at the same time
        _write(path, [*(read_attack_results(folder) if path.exists() else []), *results])


def _write(path: Path, results: Iterable[AttackResult]) -> None:
    by_picture = {result.picture: result for result in results}
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for result in sorted(by_picture.values(), key=lambda result: result.picture):
        table.writerow([_text(value) for value in astuple(result)])
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"), overwrite=True)


def _result(path: Path, row: CsvRow) -> AttackResult:
    if row.problem:
        raise InputError(f"{path}: {row.place} {row.problem}; {_REMEDY}")
    texts = dict(zip(_COLUMNS, row.values[:-2], strict=False))
    psnr, edge_psnr = (_decibel(path, row, text) for text in row.values[-2:])
    return AttackResult(**texts, psnr=psnr, edge_psnr=edge_psnr)


def _decibel(path: Path, row: CsvRow, text: str) -> float:
    if not text:
        return math.nan
    value = math.inf if text == "inf" else number_of(text)  # an exact reconstruction is infinitely good
    if value is None:
        raise InputError(f"{path}: {row.place}: {text[:40]!r} is not a number of decibels; {_REMEDY}")
    return value


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.9g}"
