"""The video with boxes: whole or not there, whatever a server answers."""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np
import pytest

from featcodec.edge.messages import Answer
from featcodec.edge.newest import Shot
from featcodec.edge.recording import Recording
from featcodec.edge.tally import Outcome
from featcodec.errors import OutputError

BOX = {"category_id": 0, "category_name": "car", "bbox": [8, 8, 30, 20], "score": 0.9}


def outcome(number: int, width: int = 64, height: int = 48, status: int = 200, **answer: object) -> Outcome:
    """The answer to a gray picture that was captured 50 ms after the one before."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    said = {"width": width, "height": height, "detections": [BOX], **answer}
    shot = Shot(number, 1_000_000 + 50_000 * number, 0.0, pixels)
    return Outcome(shot, 38, 100, 0.1, False, Answer(number, 0, status, **said))  # type: ignore[arg-type]


def record(path: Path, outcomes: list[Outcome], *, overwrite: bool = False) -> Recording:
    """Record, one outcome after the other, so that none is left out."""
    recording = Recording(path, 0.25, overwrite=overwrite)
    with recording:
        for each in outcomes:
            recording._waiting.put(each)
    return recording


def frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_every_picture_is_there_at_its_time_with_its_boxes(tmp_path: Path) -> None:
    recording = record(tmp_path / "a.mp4", [outcome(number) for number in range(10)])
    found = frames(tmp_path / "a.mp4")
    assert (recording.drawn, recording.skipped) == (10, 0)
    assert [frame.time for frame in found] == pytest.approx([number / 20 for number in range(10)])
    pixels = found[5].to_ndarray(format="rgb24")
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels[8, 12:36].astype(int) - 128).max() > 20  # the line of a box
    assert np.abs(pixels[40:].astype(int) - 128).max() < 12
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_odd_and_changing_sizes_fit_into_one_video(tmp_path: Path) -> None:
    record(tmp_path / "a.mp4", [outcome(0, 33, 21), outcome(1, 64, 48), outcome(2, 1, 1), outcome(3, 3000, 20)])
    assert {(frame.width, frame.height) for frame in frames(tmp_path / "a.mp4")} == {(32, 20)}


def test_refused_pictures_and_late_answers_are_left_out(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "a.mp4", 0.25, overwrite=False)
    with recording:
        recording.add(outcome(0, status=429))
        for number in (1, 3, 2):
            recording._waiting.put(outcome(number))
        recording._waiting.put(outcome(4, width=64, height=48, detections=[]))
    assert len(frames(tmp_path / "a.mp4")) == 3
    assert recording.skipped == 1


def test_without_a_picture_there_is_no_file(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "a.mp4", 0.25, overwrite=False)
    with recording:
        recording.add(outcome(0, status=429))
    assert not list(tmp_path.iterdir())


def test_after_an_interruption_the_file_is_whole(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Recording(tmp_path / "a.mp4", 0.25, overwrite=False) as recording:
            recording._waiting.put(outcome(0))
            recording._waiting.put(outcome(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(frames(tmp_path / "a.mp4")) == 2


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"somebody's work")
    with pytest.raises(OutputError, match="exists"):
        record(tmp_path / "a.mp4", [outcome(0)])
    assert (tmp_path / "a.mp4").read_bytes() == b"somebody's work"
    record(tmp_path / "a.mp4", [outcome(0)], overwrite=True)
    assert len(frames(tmp_path / "a.mp4")) == 1


def test_a_failed_drawing_is_said_at_once_and_once(small_disk: Path) -> None:
    said: list[str] = []
    chance = np.random.default_rng(0)

    def record_noise() -> None:
        with Recording(small_disk / "a.mp4", 0.25, overwrite=False, note=said.append) as recording:
            for number in range(2000):
                each = outcome(number, 256, 256)
                each.shot.pixels[:] = chance.integers(0, 256, (256, 256, 3), np.uint8)
                recording.add(each)
                if said:
                    break
                time.sleep(0.005)
            recording.add(outcome(2001, 256, 256))

    with pytest.raises(OutputError, match="No space left"):
        record_noise()
    assert len(said) == 1
    assert "No space left" in said[0]


def test_a_full_disk_is_one_error_and_leaves_nothing(small_disk: Path) -> None:
    chance = np.random.default_rng(0)
    noisy = []
    for number in range(30):
        each = outcome(number, 256, 256)
        each.shot.pixels[:] = chance.integers(0, 256, (256, 256, 3), np.uint8)
        noisy.append(each)
    with pytest.raises(OutputError, match="No space left"):
        record(small_disk / "a.mp4", noisy)
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize("bbox", [[60, 40, -100, -100], [-1e300, -1e300, 1e308, 1e308], [0, 0, 0, 0]])
def test_hostile_boxes_can_be_drawn(tmp_path: Path, bbox: list[float]) -> None:
    hostile = [{"category_name": "\n\x00" * 500, "bbox": bbox, "score": 0.5}]
    recording = record(tmp_path / "a.mp4", [outcome(0, detections=hostile), outcome(1, width=64)])
    assert recording.drawn == 2


def test_another_size_than_that_of_the_picture_is_left_out(tmp_path: Path) -> None:
    wrong = outcome(1)
    for width in (640, 10**400):
        object.__setattr__(wrong.answer, "width", width)
        assert record(tmp_path / "a.mp4", [outcome(0), wrong], overwrite=True).skipped == 1
