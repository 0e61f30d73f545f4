"""The manifest of a run on a cluster: what is done already. A run that is started again goes on from there.

Without it, the run would have to open every file to see whether it is the right one. The manifest lies beside the
output folder, as FOLDER.manifest.jsonl; of an address, as objects below FOLDER.manifest. The first line has the
settings, and each further line one file. It is a hint only: a file counts as done if it has the size that the manifest
says, and its image has the size and the time of its last change.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from featcodec.bitstream import VVC, Standard
from featcodec.cluster.journal import journal_at
from featcodec.errors import OutputError
from featcodec.pipeline.coding import Encoded, output_path
from featcodec.system.addresses import Address, states_below
from featcodec.system.elsewhere import state_of
from featcodec.system.paths import Source, resolved

SUFFIX = ".manifest.jsonl"
_OBJECTS_SUFFIX = ".manifest"

_Row = tuple[int, int, int, int]  # bytes and pixels of the bitstream; size and time of the image


def manifest_path(folder: Path) -> Path:
    """Where the manifest of an output folder is."""
    if isinstance(folder, Address):
        return folder / _OBJECTS_SUFFIX if folder.is_bucket else folder.with_name(f"{folder.name}{_OBJECTS_SUFFIX}")
    target = resolved(folder)
    return target.parent / f"{target.name}{SUFFIX}"


class Manifest:
    """Open the manifest of a run for a `with` block, or begin a new one.

    Args:
        folder: the output folder.
        settings: what the files are made with, as JSON values. Files that were made with other settings do not count.
        overwrite: begin a new one in any case.
        standard: that of the bitstreams.

    Raises:
        OutputError: the manifest cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool, standard: Standard = VVC) -> None:
        self._folder = folder
        self._standard = standard
        self._journal = journal_at(manifest_path(folder))
        self._settings = json.loads(json.dumps(settings))
        self._rows: dict[str, _Row] = {} if overwrite else dict(self._read())
        self._present = states_below(folder)

    def __enter__(self) -> Manifest:
        rows = (json.dumps([name, *row]) for name, row in self._rows.items())
        self._journal.begin([json.dumps(self._settings), *rows])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._journal.close()
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

    def present(self, sources: Sequence[Source]) -> frozenset[Path] | None:
        """The outputs of these sources that are there. None means that whoever wants to know must look."""
        if not isinstance(self._folder, Address):
            return None
        outputs = (output_path(source, self._folder, self._standard) for source in sources)
        return frozenset(output for output in outputs if self._present(output) is not None)

    def add(self, outcome: Encoded) -> None:
        """Note an outcome. Failures are not noted, so that they are tried again."""
        image = state_of(outcome.source.path)
        if outcome.error is None and image is not None:
            row = [str(outcome.source.relative), outcome.bytes, outcome.pixels, *image]
            self._journal.write(json.dumps(row))

    def _outcome(self, source: Source) -> Encoded | None:
        row = self._rows.get(str(source.relative))
        if row is None:
            return None
        output, (size, pixels, *image) = output_path(source, self._folder, self._standard), row
        found = self._present(output)
        if found is None or found.size != size or state_of(source.path) != tuple(image):
            return None
        return Encoded(source, output, size, pixels, skipped=True)

    def _read(self) -> Iterator[tuple[str, _Row]]:
        is_same = False
        for line in self._journal.lines():
            match _json_of(line):
                case dict(settings):
                    is_same = settings == self._settings
                case [str(name), int(size), int(pixels), int(image_size), int(image_time)] if is_same:
                    yield name, (size, pixels, image_size, image_time)


def _json_of(line: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):  # the last line of a run that was killed
        return json.loads(line)
