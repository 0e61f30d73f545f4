"""What an attack's folder says of its pictures: the file attack.csv, one row a reconstruction.

A picture's row is replaced when the picture is made again, and others stay, so that several runs may fill a folder.
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
        picture: its path below the folder, with slashes.
        original: path of the image it is measured against, as it was given, or nothing.
        label: what was attacked: the bottleneck's name, or "latent".
        fingerprint: 16 hex digits; of the codec that was attacked.
        recnet: 16 hex digits; of the attacker's weights.
        qp: of the attacked bitstream; nothing for uncompressed features, "raw" for uncompressed samples.
        psnr, edge_psnr: dB, or NaN where there is no original.
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
    """The results of a folder that `featcodec invert` wrote, in order.

    Raises:
        InputError: there are none, or they cannot be read.
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
        raise InputError(f"{path}: no CSV ({error}); {_FOLDER_REMEDY}") from None
    if not lines or lines[0] != list(_COLUMNS):
        raise InputError(f"{path}: has other columns than {', '.join(_COLUMNS)}; {_REMEDY}")
    return [_result(path, line) for line in lines[1:]]


def check_attack_results(folder: Path) -> None:
    """Make sure, before anything is computed, that `add_attack_results` can add to the folder.

    Raises:
        InputError: it has a file of that name that is no such file.
    """
    if (folder / FILE_NAME).exists():
        read_attack_results(folder)


def add_attack_results(folder: Path, results: Iterable[AttackResult]) -> None:
    """Write results into the folder's file, beside those of other pictures.

    Raises:
        InputError: the folder has a file of that name that is no such file.
        OutputError: it cannot be written.
    """
    path = folder / FILE_NAME
    kept = read_attack_results(folder) if path.exists() else []
    by_picture = {result.picture: result for result in (*kept, *results)}
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for result in sorted(by_picture.values(), key=lambda result: result.picture):
        table.writerow([_text(value) for value in astuple(result)])
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _result(path: Path, line: list[str]) -> AttackResult:
    if len(line) != len(_COLUMNS):
        raise InputError(f"{path}: a row of {len(line)} values, not {len(_COLUMNS)}; {_REMEDY}")
    try:
        psnr, edge_psnr = (float(text or "nan") for text in line[-2:])
    except ValueError:
        raise InputError(f"{path}: {line[-2]!r} or {line[-1]!r} is no number; {_REMEDY}") from None
    texts = dict(zip(_COLUMNS, line[:-2], strict=False))
    return AttackResult(**texts, psnr=psnr, edge_psnr=edge_psnr)


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.9g}"
