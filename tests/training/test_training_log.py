"""Logs of a run: CSV tables, TensorBoard, and what a resumed run finds and leaves."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import rows

from featcodec.errors import InputError, OutputError
from featcodec.training.log import TrainingLog


def board(folder: Path) -> Any:
    """What TensorBoard reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in board(folder).Scalars(name)]


def test_rows_become_csv_and_scalars(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "run", 0, is_writing=True) as log:
        log.row(1, {"loss": 0.5, "rate": 1 / 3})
        log.row(2, {"loss": 0.25, "rate": 1e-9})
        log.row(2, {"loss": 4.0}, table="held-out.csv")
    text = (tmp_path / "run/log.csv").read_text()
    assert text == "step,loss,rate\n1,0.5,0.333333\n2,0.25,1e-09\n"
    assert (tmp_path / "run/held-out.csv").read_text() == "step,loss\n2,4\n"
    assert scalars(tmp_path / "run", "rate") == [(1, pytest.approx(1 / 3)), (2, pytest.approx(1e-9))]


@pytest.mark.parametrize("is_last", [False, True])
def test_a_disk_that_gets_full_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], is_last: bool) -> None:
    """/dev/full takes every write and says that the disk is full. TensorBoard writes in a thread of its own."""

    def log_on_a_full_disk() -> None:
        with TrainingLog(tmp_path, 0, is_writing=True) as log:
            (events,) = (tmp_path / "tensorboard").iterdir()
            full = tmp_path / "full"
            full.symlink_to("/dev/full")
            full.replace(events)  # in one step, because the thread makes a file that is not there
            log.row(1, {"loss": 0.5})
            if not is_last:
                with contextlib.suppress(OSError):
                    log._board.flush()
                log.row(2, {"loss": 0.5})

    with pytest.raises(OutputError, match=r"tensorboard: cannot be written \(No space left on device\)"):
        log_on_a_full_disk()
    assert capsys.readouterr().err == ""
    with (tmp_path / "log.csv").open() as table:
        assert len(table.readlines()) == (2 if is_last else 3)


def test_a_row_is_on_disk_at_once(tmp_path: Path) -> None:
    """A killed run loses none."""
    with TrainingLog(tmp_path, 0, is_writing=True) as log:
        log.row(1, {"loss": 0.5})
        assert rows(tmp_path / "log.csv") == [{"step": 1, "loss": 0.5}]
        log.row(2, {"loss": 0.4})
        assert len(rows(tmp_path / "log.csv")) == 2
    assert not list(tmp_path.glob("*.part"))


def test_columns_may_come_later_and_rows_may_lack_some(tmp_path: Path) -> None:
    """As behind a warm-up, or where a batch has no labels."""
    with TrainingLog(tmp_path, 0, is_writing=True) as log:
        log.row(1, {"loss": 1})
        log.row(2, {"loss": 2, "detection": 3})
        log.row(3, {"detection": 5})
    assert (tmp_path / "log.csv").read_text() == "step,loss,detection\n1,1,\n2,2,3\n3,,5\n"


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0, is_writing=True) as log:
        for step in range(1, 7):
            log.row(step, {"loss": step, "gone": 1})
    with TrainingLog(tmp_path, 4, is_writing=True) as log:
        for step in range(5, 9):
            log.row(step, {"loss": 10 * step})
    steps = [(row["step"], row["loss"]) for row in rows(tmp_path / "log.csv")]
    assert steps == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 50), (6, 60), (7, 70), (8, 80)]
    assert scalars(tmp_path, "loss") == steps


def test_a_run_that_starts_anew_keeps_nothing(tmp_path: Path) -> None:
    for loss in (1, 2):
        with TrainingLog(tmp_path, 0, is_writing=True) as log:
            log.row(1, {"loss": loss})
    assert rows(tmp_path / "log.csv") == [{"step": 1, "loss": 2}]


def test_pictures_are_clipped_and_shown(tmp_path: Path) -> None:
    import io

    import numpy as np
    from PIL import Image

    pictures = torch.full((2, 3, 8, 8), -1.0)
    pictures[0, 0] = 7.0
    with TrainingLog(tmp_path, 0, is_writing=True) as log:
        log.pictures(3, "original, reconstruction", pictures.requires_grad_())
    found = board(tmp_path)
    (name,) = found.Tags()["images"][:1]
    assert len(found.Tags()["images"]) == 1
    (event,) = found.Images(name)
    assert event.step == 3
    with Image.open(io.BytesIO(event.encoded_image_string)) as image:
        pixels = np.asarray(image)
    assert {tuple(pixel) for pixel in pixels.reshape(-1, 3)} == {(255, 0, 0), (0, 0, 0)}


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "run", 0, is_writing=False) as log:
        log.row(1, {"loss": 1})
        log.pictures(1, "x", torch.zeros(1, 3, 8, 8))
    assert not (tmp_path / "run").exists()


def test_a_log_that_was_edited_is_read_and_a_broken_one_is_one_line(tmp_path: Path) -> None:
    def resume() -> None:
        with TrainingLog(tmp_path, 4, is_writing=True) as log:
            log.row(5, {"loss": 5})

    path = tmp_path / "log.csv"
    for text in ("\ufeffstep,loss\r\n4,1\r\n9,2\r\n", "step,loss\n4,1"):
        path.write_bytes(text.encode())
        resume()
        assert path.read_text() == "step,loss\n4,1\n5,5\n"
    for text, reason in (
        ("step,loss\n4\n", r"row 1 \(line 2\) has 1 value, but there are 2 columns"),
        ("step,loss\n4,1\nfour,2\n", r"row 2 \(line 3\) has no number of a step"),
        ("step;loss\n4;1\n", "separated by semicolons"),
        ("loss\n4\n", "has no number of a step"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=reason):
            resume()
        assert path.read_text() == text


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0, is_writing=True) as log:
        log.row(1, {"loss": 1})
        with pytest.raises(OutputError, match="is in use by another run"), TrainingLog(tmp_path, 0, is_writing=True):
            pass
        log.row(2, {"loss": 2})
    assert len(rows(tmp_path / "log.csv")) == 2
    with TrainingLog(tmp_path, 2, is_writing=True):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(OutputError, match="choose another `output`"),
        TrainingLog(tmp_path / "file", 0, is_writing=True),
    ):
        pass
    with pytest.raises(OutputError), TrainingLog(tmp_path / "file/run", 0, is_writing=True):
        pass
