"""Writing detections: COCO results, CSV or YOLO text, one picture after the other, so that memory stays bounded."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TypeAlias

from featcodec.data.annotations import Annotations
from featcodec.detections import Detections
from featcodec.errors import InputError
from featcodec.files import atomic_writer, write_atomically

FORMATS = ("coco", "csv", "yolo")

Write: TypeAlias = Callable[[PurePath, Detections], None]
"""Takes a picture's relative path without ending, and its detections."""

_CSV_COLUMNS = ("image", "class_id", "class", "score", "left", "top", "right", "bottom")


def format_of(output: Path) -> str:
    """The format that an output path asks for: .json is COCO, .csv is CSV, no ending is a folder of YOLO text.

    Raises:
        InputError: any other ending.
    """
    formats = {".json": "coco", ".csv": "csv", "": "yolo"}
    if output.suffix.lower() not in formats:
        raise InputError(f"{output}: no format known by that ending; use .json, .csv, a folder, or --format")
    return formats[output.suffix.lower()]


def open_export(
    output: Path, file_format: str, annotations: Annotations | None
) -> contextlib.AbstractContextManager[Write]:
    """A function that writes one picture's detections at a time; the file appears when the block ends well.

    Args:
        output: a file (coco, csv) or a folder (yolo).
        file_format: one of `FORMATS`.
        annotations: where COCO image ids and category ids come from; without it the id is the numeric file name (or
            the name itself where it is no number), as ultralytics does it.

    Raises:
        InputError: unknown format.
    """
    if file_format == "coco":
        return _coco(output, annotations)
    if file_format == "csv":
        return _csv(output)
    if file_format == "yolo":
        return _yolo(output)
    raise InputError(f"unknown format {file_format!r}; use one of {', '.join(FORMATS)}")


def image_id_of(relative: PurePath, annotations: Annotations | None) -> int | str:
    """The COCO image id of a picture."""
    if annotations is not None:
        return annotations.image_id(relative)
    return int(relative.stem) if relative.stem.isascii() and relative.stem.isdigit() else relative.stem


@contextlib.contextmanager
def _coco(output: Path, annotations: Annotations | None) -> Iterator[Write]:
    with atomic_writer(output, "w") as file:
        file.write("[")
        separator = "\n"

        def write(relative: PurePath, detections: Detections) -> None:
            nonlocal separator
            categories = None if annotations is None else annotations.category_ids(detections.names)
            for result in detections.to_coco(image_id_of(relative, annotations), categories):
                file.write(separator + json.dumps(result))
                separator = ",\n"

        yield write
        file.write("\n]\n")


@contextlib.contextmanager
def _csv(output: Path) -> Iterator[Write]:
    with atomic_writer(output, "w") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_CSV_COLUMNS)

        def write(relative: PurePath, detections: Detections) -> None:
            for box, score, class_id in zip(detections.xyxy, detections.scores, detections.class_ids, strict=True):
                name = detections.names[class_id]
                sides = [f"{value:.2f}" for value in box]
                rows.writerow([relative.as_posix(), int(class_id), name, f"{score:.6f}", *sides])

        yield write


@contextlib.contextmanager
def _yolo(output: Path) -> Iterator[Write]:
    def write(relative: PurePath, detections: Detections) -> None:
        """One line a box: class id, centre x, y, width, height as fractions of the picture, score."""
        lines = []
        for box, score, class_id in zip(detections.xyxy, detections.scores, detections.class_ids, strict=True):
            left, top, right, bottom = map(float, box)
            centre = (left + right) / 2 / detections.width, (top + bottom) / 2 / detections.height
            size = (right - left) / detections.width, (bottom - top) / detections.height
            lines.append(f"{class_id} " + " ".join(f"{value:.6f}" for value in (*centre, *size, score)) + "\n")
        write_atomically(output / f"{relative.as_posix()}.txt", "".join(lines).encode())

    yield write
