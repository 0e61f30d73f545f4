"""Writes detections image by image, so that memory stays bounded: as COCO results, CSV or YOLO text.

COCO results are JSON, JSON lines (one result per line) or Parquet. They hold masks and keypoints. YOLO text holds
keypoints as ultralytics writes them. It refuses masks: ultralytics writes outlines, which lose holes and join parts.
CSV holds boxes alone.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from featcodec.detections import Detections
from featcodec.errors import InputError, OutputError
from featcodec.images.annotations import Annotations
from featcodec.images.parquet import ParquetResults, import_pyarrow
from featcodec.system.elsewhere import Elsewhere
from featcodec.system.files import atomic_writer, check_new, exists_error, write_atomically
from featcodec.system.folders import atomic_folder

FORMATS = ("coco", "jsonl", "parquet", "csv", "yolo")
COCO_FORMATS = frozenset({"coco", "jsonl", "parquet"})
"""Formats whose entries are COCO results."""
_BY_ENDING = {".json": "coco", ".jsonl": "jsonl", ".parquet": "parquet", ".csv": "csv", "": "yolo"}

Write: TypeAlias = Callable[[PurePath, Detections], None]
"""Takes the name of an image (`Source.name`) and the detections of the image."""

_YOLO_SUFFIX = ".txt"
_CSV_COLUMNS = ("image", "class_id", "class", "score", "left", "top", "right", "bottom")


def format_of(output: Path) -> str:
    """The format of an output path, by its ending.

    .json, .jsonl and .parquet are COCO results, .csv is CSV, no ending is a folder of YOLO text.

    Raises:
        InputError: the path has any other ending.
    """
    if output.suffix.lower() not in _BY_ENDING:
        endings = ", ".join(filter(None, _BY_ENDING))
        raise InputError(f"{output}: no known format has this ending; use {endings}, a folder, or `format`")
    return _BY_ENDING[output.suffix.lower()]


def check_output(output: Path, file_format: str, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Check, before the work starts, whether the output can be written.

    Args:
        output: a file, or a folder (yolo).
        file_format: one of `FORMATS`.
        overwrite: whether an output that exists may be replaced.
        inputs: what the command reads.

    Raises:
        OutputError: the output exists and `overwrite` is False, or the output is a folder and the format needs a file,
            or the output is a file and the format needs a folder; or the output is a device, a pipe or an input.
        FeatcodecError: the library that the format needs is not installed.
    """
    if file_format == "parquet":
        import_pyarrow()
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
        output: a file, or a folder (yolo).
        file_format: one of `FORMATS`.
        annotations: the source of COCO category ids; see `Detections.to_coco` for None.
        image_ids: the COCO image id of each image that will be written, from `image_ids_of`.
        overwrite: replace an output that exists. Without it, the end of the block raises OutputError if there is one.

    Raises:
        InputError: the format is unknown.
    """
    results_of = _ResultsOf(annotations, image_ids)
    if file_format == "coco":
        return _coco(output, results_of, overwrite)
    if file_format == "jsonl":
        return _json_lines(output, results_of, overwrite)
    if file_format == "parquet":
        return _parquet(output, results_of, overwrite)
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


class _ResultsOf:
    """Makes COCO results of the detections of an image."""

    def __init__(self, annotations: Annotations | None, image_ids: Mapping[PurePath, int | str]) -> None:
        self.image_ids = image_ids
        self._annotations = annotations
        self._categories: dict[tuple[str, ...], dict[int, int] | None] = {}

    def __call__(self, name: PurePath, detections: Detections) -> list[dict[str, Any]]:
        names = detections.names
        if names not in self._categories:
            by_name = None if self._annotations is None else self._annotations.category_ids(names)
            self._categories[names] = by_name
        return detections.to_coco(self.image_ids[name], self._categories[names], name)


@contextlib.contextmanager
def _coco(output: Path, results_of: _ResultsOf, overwrite: bool) -> Iterator[Write]:
    with atomic_writer(output, "w", overwrite=overwrite) as file:
        file.write("[")
        separator = "\n"

        def write(name: PurePath, detections: Detections) -> None:
            nonlocal separator
            for result in results_of(name, detections):
                file.write(separator + _as_json(result))
                separator = ",\n"

        yield write
        file.write("\n]\n")


@contextlib.contextmanager
def _json_lines(output: Path, results_of: _ResultsOf, overwrite: bool) -> Iterator[Write]:
    with atomic_writer(output, "w", overwrite=overwrite) as file:

        def write(name: PurePath, detections: Detections) -> None:
            for result in results_of(name, detections):
                file.write(_as_json(result) + "\n")

        yield write


@contextlib.contextmanager
def _parquet(output: Path, results_of: _ResultsOf, overwrite: bool) -> Iterator[Write]:
    names = ((image_id, name.as_posix()) for name, image_id in results_of.image_ids.items())
    with atomic_writer(output, overwrite=overwrite) as file, ParquetResults(file, names) as results:
        yield lambda name, detections: results.write(results_of(name, detections))


def _as_json(result: Mapping[str, Any]) -> str:
    return json.dumps(result, separators=(",", ":"))


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
            """One line per box: class id, centre x, y, width, height as fractions of the image, score.

            Keypoints stand before the score: x and y as fractions of the image, and their score, as in ultralytics'
            `Results.save_txt`.
            """
            if detections.masks is not None:
                raise OutputError(
                    f"{output}: YOLO text does not hold masks; choose another `output`, like x.json, x.jsonl or "
                    "x.parquet, or x.csv for the boxes alone"
                )
            lines = []
            boxes = zip(detections.xyxy, detections.scores, detections.class_ids, _fractions(detections), strict=True)
            for box, score, class_id, points in boxes:
                left, top, right, bottom = map(float, box)
                centre = (left + right) / 2 / detections.width, (top + bottom) / 2 / detections.height
                size = (right - left) / detections.width, (bottom - top) / detections.height
                values = (*centre, *size, *points, score)
                lines.append(f"{class_id} " + " ".join(f"{value:.6f}" for value in values) + "\n")
            label = folder / f"{relative.as_posix()}{_YOLO_SUFFIX}"
            write_atomically(label, "".join(lines).encode(), overwrite=True)

        yield write


def _fractions(detections: Detections) -> npt.NDArray[np.float32]:
    """(N, 3 K): x and y of the keypoints as fractions of the image, and their scores; (N, 0) if there are none."""
    if detections.keypoints is None:
        return np.zeros((len(detections), 0), np.float32)
    count, points = detections.keypoints.shape[:2]
    size = np.array([detections.width, detections.height, 1], np.float32)
    return (detections.keypoints / size).reshape(count, 3 * points)
