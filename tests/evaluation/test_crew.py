"""The threads and the temporary file of a sweep."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from featcodec.errors import EncoderError, OutputError
from featcodec.evaluation.crew import Crew, Spool
from featcodec.video import process


def test_results_keep_their_order_and_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def work(number: int) -> int:
        if number < 2:
            meeting.wait()
        return number * number

    with Crew(2) as crew:
        assert list(crew.map(work, range(30))) == [number * number for number in range(30)]


@pytest.mark.slow
def test_an_error_ends_the_programs_that_run() -> None:
    errors: list[Exception] = []

    def work(number: int) -> None:
        if number == 0:
            time.sleep(0.3)
            raise EncoderError("broken")
        try:
            process.run([sys.executable, "-c", "import time; time.sleep(60)"])
        except EncoderError as error:
            errors.append(error)

    started = time.monotonic()
    with pytest.raises(EncoderError, match="broken"), Crew(2) as crew:
        list(crew.map(work, range(2)))
    assert time.monotonic() - started < 30
    assert "SIGKILL" in str(errors[0])


def test_arrays_come_back_and_no_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, shape, dtype=np.uint8) for shape in ((4, 6), (1, 1), (8, 8, 3))]
    spool = Spool()
    positions = [spool.write(array) for array in (*arrays, arrays[0].T)]
    for array, position in reversed(list(zip((*arrays, arrays[0].T), positions, strict=True))):
        np.testing.assert_array_equal(spool.read(position, array.shape), array)
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_no_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(OutputError, match="no room for temporary files"):
        Spool()
