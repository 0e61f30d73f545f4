"""COCO results as a Parquet table: a row per box, without lists: a small file must not claim to hold a long one.

A mask is the text of its counts, and keypoints are the text of a JSON list. They have columns where there are any.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from featcodec.errors import FeatcodecError, InputError, OutputError, reason_of
from featcodec.system.files import read_bounded

_ROWS_AT_ONCE = 1 << 16
_BYTES_PER_ROW = 4
"""Fewer cannot hold the six numbers of a row. A file of a few bytes may claim any number of equal rows."""
_WHOLE = ("image_id", "image_width", "image_height", "category_id")
_TEXTS = ("image_name", "category_name")
_FURTHER = ("segmentation", "keypoints")
_NUMBERS = ("left", "top", "width", "height", "score")
_ORDER = (
    "image_id", "image_name", "image_width", "image_height", "category_id", "category_name",
    "left", "top", "width", "height", "score", *_FURTHER,
)  # fmt: skip
_NEEDED = ("image_id", "category_id", *_NUMBERS)
_LONGEST_KEYPOINTS = 1 << 17
"""In characters. A longer text is more than any detector finds."""
_REMEDY = "make it with `featcodec decode -o x.parquet`"


class _Sink(Protocol):
    def write(self, data: Any) -> int: ...


def import_pyarrow() -> Any:
    """The module pyarrow, with pyarrow.parquet loaded.

    Raises:
        FeatcodecError: it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise FeatcodecError(f"Parquet needs pyarrow ({reason_of(error)}); pip install 'featcodec[parquet]'") from None


class ParquetResults:
    """Writes results, in a `with` block. Either all have masks or none, and either all have keypoints or none.

    Args:
        sink: where the bytes go.
        names: the image ids and names that will be written. If an id is a text, all are written as texts.

    Raises:
        OutputError: a name is not UTF-8; Parquet has no other texts.
    """

    def __init__(self, sink: _Sink, names: Iterable[tuple[int | str, str]]) -> None:
        self._arrow = import_pyarrow()
        ids_are_numbers = True
        for image_id, name in names:
            _check_text(name)
            ids_are_numbers = ids_are_numbers and isinstance(image_id, int) and abs(image_id) < 1 << 63
        kinds = {
            **dict.fromkeys(_WHOLE, self._arrow.int64()),
            **dict.fromkeys((*_TEXTS, *_FURTHER), self._arrow.string()),
            **dict.fromkeys(_NUMBERS, self._arrow.float64()),
        }
        if not ids_are_numbers:
            kinds["image_id"] = self._arrow.string()
        self._kinds = kinds
        self._id = int if ids_are_numbers else str
        self._rows: list[dict[str, Any]] = []
        self._sink = sink
        self._writer: Any = None

    def write(self, results: Sequence[dict[str, Any]]) -> None:
        """Add COCO results as `Detections.to_coco` makes them."""
        self._rows += map(self._row, results)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def __enter__(self) -> ParquetResults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
                self._writer = self._writer or self._open()
                self._writer.close()
        finally:
            if self._writer is not None:
                self._writer.is_open = False  # else it would try again when it is collected as garbage

    def _row(self, result: dict[str, Any]) -> dict[str, Any]:
        box = dict(zip(_NUMBERS, (*result["bbox"], result["score"]), strict=True))
        _check_text(result.get("category_name", ""))
        size = dict(zip(("image_width", "image_height"), result.get("image_size", ()), strict=False))
        further = {}
        if "segmentation" in result:
            further["segmentation"] = result["segmentation"]["counts"]  # its size is that of the image
        if "keypoints" in result:
            further["keypoints"] = json.dumps(result["keypoints"], separators=(",", ":"))
        return {**result, **box, **size, **further, "image_id": self._id(result["image_id"])}

    def _flush(self) -> None:
        if self._rows:
            self._writer = self._writer or self._open()
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._writer.schema))
            self._rows = []

    def _open(self) -> Any:
        """Begin the table, with columns for what the first rows have."""
        names = [name for name in _ORDER if name not in _FURTHER or any(name in row for row in self._rows)]
        schema = self._arrow.schema([(name, self._kinds[name]) for name in names])
        return self._arrow.parquet.ParquetWriter(_File(self._sink), schema, compression="zstd")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        problem = f"{text!r} is not UTF-8, so it cannot be in Parquet"
        raise OutputError(f"{problem}; choose another `output`, like x.jsonl") from None


class _File:
    """A sink as pyarrow wants it."""

    closed = False

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink

    def write(self, data: Any) -> int:
        return self._sink.write(bytes(data))

    def flush(self) -> None:
        """The sink is closed by whoever opened it."""

    close = flush


def read_parquet(path: Path, limit: int) -> list[dict[str, Any]]:
    """The rows of a Parquet table as COCO results. Their values are not checked yet.

    Columns of other names are left out.

    Args:
        path: the file.
        limit: the largest size in bytes.

    Raises:
        InputError: the file cannot be read, is not Parquet, lacks a column, a column is not of one number or text, or
            its masks and keypoints have more characters than `limit`.
        FeatcodecError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    data = read_bounded(path, limit, InputError, what="results", remedy="give a Parquet file")
    try:
        # Newer releases than 14.0 do not unpickle what a file says of its columns; pyproject.toml asks for one.
        with arrow.parquet.ParquetFile(arrow.BufferReader(data)) as table:
            columns = _columns(path, table, arrow)
            rows = table.metadata.num_rows
        if rows > len(data) // _BYTES_PER_ROW + _ROWS_AT_ONCE:
            raise InputError(f"{path}: claims {rows} rows in {len(data)} bytes; {_REMEDY}")
        texts = [name for name in columns if name in (*_TEXTS, *_FURTHER, "image_id")]
        with arrow.parquet.ParquetFile(arrow.BufferReader(data), read_dictionary=texts) as table:
            batches = table.iter_batches(_ROWS_AT_ONCE, columns=columns, use_threads=False)
            return list(_bounded(path, (result for batch in batches for result in _results(batch)), limit))
    except FeatcodecError:
        raise
    except Exception as error:  # a hostile file can make pyarrow raise any exception
        raise InputError(f"{path}: not a readable Parquet file ({reason_of(error)}); {_REMEDY}") from None


def _columns(path: Path, table: Any, arrow: Any) -> list[str]:
    """The columns that are read."""
    types = arrow.types
    found = {field.name: field.type for field in table.schema_arrow}
    for name in _NEEDED:
        if name not in found:
            raise InputError(f"{path}: has no column {name}; {_REMEDY}")
    columns = [name for name in _ORDER if name in found]
    for name in columns:
        kind = found[name].value_type if types.is_dictionary(found[name]) else found[name]
        is_text = types.is_string(kind) or types.is_large_string(kind)
        is_number = types.is_integer(kind) or types.is_floating(kind)
        of_texts = (*_TEXTS, *_FURTHER)
        if not (is_text and name in (*of_texts, "image_id")) and not (is_number and name not in of_texts):
            raise InputError(f"{path}: its column {name} is of the kind {kind}, which it cannot be; {_REMEDY}")
    if len(table.schema_arrow.names) != len(found):
        raise InputError(f"{path}: two columns have one name; {_REMEDY}")
    return columns


def _bounded(path: Path, results: Iterable[dict[str, Any]], limit: int) -> Iterator[dict[str, Any]]:
    """The results, as long as their masks and keypoints are not longer than a file of JSON with them may be.

    A few bytes may stand for a long text in many rows, and each of them takes time to check.
    """
    characters = 0
    for result in results:
        if "segmentation" in result or "keypoints" in result:
            characters += len(result.get("segmentation", {"counts": ""})["counts"]) + len(result.get("keypoints", ""))
            if characters > limit:
                raise InputError(f"{path}: has masks and keypoints of over {limit} characters; give a part of them")
        yield result


def _results(batch: Any) -> Iterator[dict[str, Any]]:
    values = {name: _values(batch.column(name), name) for name in batch.schema.names}
    for row in zip(*values.values(), strict=True):
        entry = dict(zip(values, row, strict=True))
        result: dict[str, Any] = {"image_id": entry["image_id"], "category_id": entry["category_id"]}
        result["bbox"] = [entry[side] for side in _NUMBERS[:4]]
        result["score"] = entry["score"]
        result |= {name: entry[name] for name in _TEXTS if entry.get(name) is not None}
        if entry.get("image_width") is not None or entry.get("image_height") is not None:
            result["image_size"] = [entry.get("image_width"), entry.get("image_height")]
        if (counts := entry.get("segmentation")) is not None:
            size = [entry.get("image_height"), entry.get("image_width")]
            result["segmentation"] = {"size": size, "counts": counts}
        if (keypoints := entry.get("keypoints")) is not None:
            result["keypoints"] = keypoints
        yield result


def _values(column: Any, name: str) -> list[Any]:
    """The values of a column. Of texts, each is made once: a few bytes may stand for a long text in many rows."""
    if not hasattr(column, "dictionary"):
        found: list[Any] = column.to_pylist()
        return found
    texts = column.dictionary.to_pylist()
    if name == "keypoints":
        texts = [_list_or_text(text) for text in texts]
    return [None if index is None else texts[index] for index in column.indices.to_pylist()]


def _list_or_text(text: str | None) -> Any:
    """The list that a text is in JSON. What is not one stays as it is, and is refused with its entry."""
    try:
        value = None if text is None or len(text) > _LONGEST_KEYPOINTS else json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, list) else text
