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
from featcodec.system.files import read_bounded, write_atomically

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
    text = read_bounded(
        path, _MAX_BYTES, InputError, what="attack's", remedy=_FOLDER_REMEDY, unreadable=_FOLDER_REMEDY
    ).decode("utf-8", "surrogateescape")
    try:
        if "\0" in text:
            raise csv.Error("it holds NUL")
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error}); {_FOLDER_REMEDY}") from None
    if not lines or lines[0] != list(_COLUMNS):
        raise InputError(f"{path}: has other columns than {', '.join(_COLUMNS)}; {_REMEDY}")
    return [_result(path, line) for line in lines[1:]]


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
    kept = read_attack_results(folder) if path.exists() else []
    by_picture = {result.picture: result for result in (*kept, *results)}
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for result in sorted(by_picture.values(), key=lambda result: result.picture):
        table.writerow([_text(value) for value in astuple(result)])
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"), overwrite=True)


def _result(path: Path, line: list[str]) -> AttackResult:
    if len(line) != len(_COLUMNS):
        raise InputError(f"{path}: has a row of {len(line)} values, not {len(_COLUMNS)}; {_REMEDY}")
    try:
        psnr, edge_psnr = (float(text or "nan") for text in line[-2:])
    except ValueError:
        raise InputError(f"{path}: {line[-2]!r} or {line[-1]!r} is not a number; {_REMEDY}") from None
    texts = dict(zip(_COLUMNS, line[:-2], strict=False))
    return AttackResult(**texts, psnr=psnr, edge_psnr=edge_psnr)


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.9g}"
