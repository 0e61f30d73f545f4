"""The logs of a training run: CSV tables for scripts, TensorBoard for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from featcodec.errors import OutputError
from featcodec.system.files import write_atomically

TRAINING_TABLE = "log.csv"
_TENSORBOARD = "tensorboard"
_STEP = "step"


class TrainingLog:
    """Writes `log.csv`, `held-out.csv` and `tensorboard/` in a folder.

    Args:
        folder: created if needed.
        first_step: rows of later steps are dropped, because a resumed run writes them again.
        is_writing: true on one process, false on all others.
    """

    def __init__(self, folder: Path, first_step: int, *, is_writing: bool) -> None:
        self._folder = folder
        self._first_step = first_step
        self._is_writing = is_writing
        self._rows: dict[str, list[dict[str, str]]] = {}
        self._board: Any = None

    def __enter__(self) -> TrainingLog:
        if self._is_writing:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (slow to import)

            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._board = SummaryWriter(str(self._folder / _TENSORBOARD), purge_step=self._first_step + 1)
            except OSError as error:
                raise OutputError(
                    f"{self._folder}: cannot be written ({error.strerror}); choose another `output`"
                ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()

    def row(self, step: int, values: Mapping[str, float], table: str = TRAINING_TABLE) -> None:
        """Append a row to a table, and scalars to TensorBoard.

        Raises:
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
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def pictures(self, step: int, name: str, pictures: Tensor) -> None:
        """Add pictures to TensorBoard: (B, 3, H, W) RGB in [0, 1]."""
        if self._is_writing:
            self._board.add_images(name, pictures.detach().float().clamp(0, 1).cpu(), step)

    def _kept(self, path: Path) -> list[dict[str, str]]:
        """The rows that a resumed run does not write again."""
        if not self._first_step or not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if int(row[_STEP]) <= self._first_step]
