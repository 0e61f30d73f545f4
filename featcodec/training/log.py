"""The logs of a training run: CSV tables for scripts, TensorBoard for people."""

from __future__ import annotations

import contextlib
import csv
import io
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from featcodec.errors import InputError, OutputError
from featcodec.system.csv_tables import number_of, parse_csv
from featcodec.system.files import explained, read_bounded, write_atomically
from featcodec.system.locks import locked

TRAINING_TABLE = "log.csv"
_TENSORBOARD = "tensorboard"
_STEP = "step"
_MAX_BYTES = 1 << 30
_REMEDY = "move it away, and the run goes on with a new one"


class TrainingLog:
    """Writes `log.csv`, `held-out.csv` and `tensorboard/` in a folder.

    Args:
        folder: created if needed. Until the log is closed, no other run can open a log in this folder.
        first_step: rows of later steps are dropped, because a resumed run writes them again.
        is_writing: true on one process, false on all others.
    """

    def __init__(self, folder: Path, first_step: int, *, is_writing: bool) -> None:
        self._folder = folder
        self._first_step = first_step
        self._is_writing = is_writing
        self._rows: dict[str, list[dict[str, str]]] = {}
        self._board: Any = None
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> TrainingLog:
        if self._is_writing:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (slow to import)

            with explained(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._lock.enter_context(locked(self._folder, wait=False))
                self._lock.enter_context(_quiet_writer())
            with self._explained():
                self._board = SummaryWriter(str(self._folder / _TENSORBOARD), purge_step=self._first_step + 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._board is not None:
                try:
                    with self._explained():
                        self._board.close()
                except OutputError:
                    if error is None:  # else the run has failed already, perhaps for the same reason
                        raise

    def row(self, step: int, values: Mapping[str, float], table: str = TRAINING_TABLE) -> None:
        """Append a row to a table, and scalars to TensorBoard.

        Raises:
            InputError: a resumed run cannot read the table of the run before it.
            OutputError: the table cannot be written.
        """
        if not self._is_writing:
            return
        path = self._folder / table
        if table not in self._rows:
            self._rows[table] = self._kept(path)
        self._rows[table].append({_STEP: str(step), **{name: f"{value:.6g}" for name, value in values.items()}})
        columns = list(dict.fromkeys(name for row in self._rows[table] for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows[table])
        write_atomically(path, text.getvalue().encode(), overwrite=True)
        with self._explained():
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def pictures(self, step: int, name: str, pictures: Tensor) -> None:
        """Add pictures to TensorBoard: (B, 3, H, W) RGB in [0, 1]."""
        if self._is_writing:
            with self._explained():
                self._board.add_images(name, pictures.detach().float().clamp(0, 1).cpu(), step)

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(self._folder / _TENSORBOARD)

    def _kept(self, path: Path) -> list[dict[str, str]]:
        """The rows that a resumed run does not write again."""
        if not self._first_step or not path.exists():
            return []
        data = read_bounded(path, _MAX_BYTES, InputError, what="log", remedy=_REMEDY)
        table = parse_csv(path, data, InputError, _REMEDY)
        kept = []
        for row in table.rows:
            values = dict(zip(table.columns, row.values, strict=False))
            step = number_of(values.get(_STEP, ""))
            if row.problem or step is None:
                raise InputError(f"{path}: {row.place} {row.problem or f'has no number of a {_STEP}'}; {_REMEDY}")
            if step <= self._first_step:
                kept.append(values)
        return kept


@contextlib.contextmanager
def _quiet_writer() -> Iterator[None]:
    """Keep TensorBoard's thread from printing why it ends. It tells the same to the next call."""
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs, /) -> None:
        if not type(failure.thread).__module__.startswith("tensorboard."):
            before(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
