"""Writes detections as COCO results, CSV or YOLO text, image by image, so that memory stays bounded."""

from __future__ import annotations

import contextlib
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TypeAlias

from featcodec.detections import Detections
from featcodec.errors import InputError, OutputError
from featcodec.images.annotations import Annotations
from featcodec.system.elsewhere import Elsewhere
from featcodec.system.files import atomic_writer, check_new, exists_error, write_atomically
from featcodec.system.folders import atomic_folder

FORMATS = ("coco", "csv", "yolo")

Write: TypeAlias = Callable[[PurePath, Detections], None]
"""Takes the name of an image (`Source.name`) and the detections of the image."""

_YOLO_SUFFIX = ".txt"
_CSV_COLUMNS = ("image", "class_id", "class", "score", "left", "top", "right", "bottom")


def format_of(output: Path) -> str:
    """The format of an output path, by its ending: .json is COCO, .csv is CSV, no ending is a folder of YOLO text.

    Raises:
        InputError: the path has any other ending.
    """
    formats = {".json": "coco", ".csv": "csv", "": "yolo"}
    if output.suffix.lower() not in formats:
        raise InputError(f"{output}: no known format has this ending; use .json, .csv, a folder, or `format`")
    return formats[output.suffix.lower()]


def check_output(output: Path, file_format: str, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Check, before the work starts, whether the output can be written.

    Args:
        output: a file (coco, csv) or a folder (yolo).
        file_format: one of `FORMATS`.
        overwrite: whether an output that exists may be replaced.
        inputs: what the command reads.

    Raises:
        OutputError: the output exists and `overwrite` is False, or the output is a folder and the format needs a file,
            or the output is a file and the format needs a folder; or the output is a device, a pipe or an input.
    """
    if file_format != "yolo":
        check_new(output, overwrite=overwrite, inputs=inputs)
    elif isinstance(output, Elsewhere):
        raise OutputError(f"{output}: YOLO text is a folder on this machine; choose another `output`, like x.json")
    elif output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is not a folder; choose another `output`")
    elif output.exists() and not overwrite and any(output.iterdir()):
        raise exists_error(output)


def open_export(
    output: Path,
    file_format: str,
    annotations: Annotations | None,
    image_ids: Mapping[PurePath, int | str],
    *,
    overwrite: bool = False,
) -> contextlib.AbstractContextManager[Write]:
    """A function that writes the detections of one image per call. The output appears if the block ends without error.

    Args:
        output: a file (coco, csv) or a folder (yolo).
        file_format: one of `FORMATS`.
        annotations: the source of COCO category ids; see `Detections.to_coco` for None.
        image_ids: the COCO image id of each image that will be written, from `image_ids_of`.
        overwrite: replace an output that exists. Without it, the end of the block raises OutputError if there is one.

    Raises:
        InputError: the format is unknown.
    """
    if file_format == "coco":
        return _coco(output, annotations, image_ids, overwrite)
    if file_format == "csv":
        return _csv(output, overwrite)
    if file_format == "yolo":
        return _yolo(output, overwrite)
    raise InputError(f"unknown format {file_format!r}; use one of {', '.join(FORMATS)}")


def image_ids_of(names: Sequence[PurePath], annotations: Annotations | None) -> dict[PurePath, int | str]:
    """The COCO image id of each image of a run. No two images have the same id.

    Args:
        names: the names of the images (`Source.name`).
        annotations: the source of the ids. With None, the id is the bare file name as a number, as in ultralytics. If
            that is not a number, or several images have the same number, the id is the whole name with its folders.

    Raises:
        InputError: the annotation file lists no image of that name, or several; or two images are one listed image.
    """
    if annotations is not None:
        return annotations.image_ids_of(names)
    numbers = {name: int(name.name) for name in names if name.name.isascii() and name.name.isdigit()}
    count = Counter(numbers.values())
    return {name: numbers[name] if count[numbers.get(name, -1)] == 1 else name.as_posix() for name in names}


@contextlib.contextmanager
def _coco(
    output: Path, annotations: Annotations | None, image_ids: Mapping[PurePath, int | str], overwrite: bool
) -> Iterator[Write]:
    with atomic_writer(output, "w", overwrite=overwrite) as file:
        file.write("[")
        separator = "\n"
        categories: dict[tuple[str, ...], dict[int, int] | None] = {}

        def write(name: PurePath, detections: Detections) -> None:
            nonlocal separator
            if detections.names not in categories:
                by_name = None if annotations is None else annotations.category_ids(detections.names)
                categories[detections.names] = by_name
            for result in detections.to_coco(image_ids[name], categories[detections.names], name):
                file.write(separator + json.dumps(result, separators=(",", ":")))
                separator = ",\n"

        yield write
        file.write("\n]\n")


@contextlib.contextmanager
def _csv(output: Path, overwrite: bool) -> Iterator[Write]:
    with atomic_writer(output, "w", overwrite=overwrite) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_CSV_COLUMNS)

        def write(relative: PurePath, detections: Detections) -> None:
            for box, score, class_id in zip(detections.xyxy, detections.scores, detections.class_ids, strict=True):
                name = detections.names[class_id]
                sides = [f"{value:.2f}" for value in box]
                rows.writerow([relative.as_posix(), int(class_id), name, f"{score:.6f}", *sides])

        yield write


@contextlib.contextmanager
def _yolo(output: Path, overwrite: bool) -> Iterator[Write]:
    with atomic_folder(output, replaceable=(_YOLO_SUFFIX,), overwrite=overwrite) as folder:

        def write(relative: PurePath, detections: Detections) -> None:
            """One line per box: class id, centre x, y, width, height as fractions of the image, score."""
            lines = []
            for box, score, class_id in zip(detections.xyxy, detections.scores, detections.class_ids, strict=True):
                left, top, right, bottom = map(float, box)
                centre = (left + right) / 2 / detections.width, (top + bottom) / 2 / detections.height
                size = (right - left) / detections.width, (bottom - top) / detections.height
                lines.append(f"{class_id} " + " ".join(f"{value:.6f}" for value in (*centre, *size, score)) + "\n")
            label = folder / f"{relative.as_posix()}{_YOLO_SUFFIX}"
            write_atomically(label, "".join(lines).encode(), overwrite=True)

        yield write
