"""The manifest of a run on a cluster: what is done already. A run that is started again goes on from there.

Without it, the run would have to open every file to see whether it is the right one. The manifest lies beside the
output folder, as FOLDER.manifest.jsonl. Its first line has the settings, and each further line one file. It is a hint
only: a file counts as done if it has the size that the manifest says, and its image has the size and the time of its
last change.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from featcodec.errors import OutputError
from featcodec.pipeline.coding import Encoded, output_path
from featcodec.system.files import explained
from featcodec.system.paths import Source, resolved

SUFFIX = ".manifest.jsonl"
_LONGEST_LINE = 1 << 16

_Row = tuple[int, int, int, int]  # bytes and pixels of the bitstream; size and time of the image


def manifest_path(folder: Path) -> Path:
    """Where the manifest of an output folder is."""
    target = resolved(folder)
    return target.parent / f"{target.name}{SUFFIX}"


class Manifest:
    """Open the manifest of a run for a `with` block, or begin a new one.

    Args:
        folder: the output folder.
        settings: what the files are made with, as JSON values. Files that were made with other settings do not count.
        overwrite: begin a new one in any case.

    Raises:
        OutputError: the manifest cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        self._folder = folder
        self._path = manifest_path(folder)
        self._settings = json.loads(json.dumps(settings))
        self._rows: dict[str, _Row] = {} if overwrite else dict(self._read())
        self._file: IO[str] | None = None

    def __enter__(self) -> Manifest:
        with explained(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            mode = "a" if self._rows else "w"
            self._file = self._path.open(mode, buffering=1, encoding="utf-8", errors="surrogateescape")
        if self._rows:
            self._file.write("\n")  # the last line of a run that was killed may lack its end
        else:
            self._write(self._settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None  # noqa: S101
        try:
            with explained(self._path):
                self._file.close()
        except OutputError:
            if error is None:
                raise

    def split(self, sources: Sequence[Source]) -> tuple[list[Encoded], list[Source]]:
        """The outcomes of the sources that are done, and the sources that are not."""
        done, waiting = list[Encoded](), list[Source]()
        for source in sources:
            outcome = self._outcome(source)
            if outcome is None:
                waiting.append(source)
            else:
                done.append(outcome)
        return done, waiting

    def add(self, outcome: Encoded) -> None:
        """Note an outcome. Failures are not noted, so that they are tried again."""
        image = _state(outcome.source.path)
        if outcome.error is None and image is not None:
            self._write([str(outcome.source.relative), outcome.bytes, outcome.pixels, *image])

    def _outcome(self, source: Source) -> Encoded | None:
        row = self._rows.get(str(source.relative))
        if row is None:
            return None
        output, (size, pixels, *image) = output_path(source, self._folder), row
        found = _state(output)
        if found is None or found[0] != size or _state(source.path) != tuple(image):
            return None
        return Encoded(source, output, size, pixels, skipped=True)

    def _write(self, row: Any) -> None:
        assert self._file is not None  # noqa: S101
        with explained(self._path):
            self._file.write(json.dumps(row) + "\n")

    def _read(self) -> Iterator[tuple[str, _Row]]:
        try:
            file = self._path.open(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
        with file:
            if _json_of(file.readline(_LONGEST_LINE)) != self._settings:
                return
            while line := file.readline(_LONGEST_LINE):
                match _json_of(line):
                    case [str(name), int(size), int(pixels), int(image_size), int(image_time)]:
                        yield name, (size, pixels, image_size, image_time)


def _json_of(line: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):  # the last line of a run that was killed
        return json.loads(line)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns
