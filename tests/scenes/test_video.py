"""Drives as files: videos and folders of pictures, by the library and by `featcodec scenes --drive`."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from featcodec.cli.scenes import command
from featcodec.errors import OutputError
from featcodec.scenes.drive import HEIGHT, WIDTH, Drive
from featcodec.scenes.video import write_drive
from featcodec.system.files import ExistsError


def test_a_video_has_the_pictures_of_the_drive(tmp_path: Path) -> None:
    path = tmp_path / "new/drive.mp4"
    assert list(write_drive(path, 3, 5, seed=2, workers=1)) == [0, 1, 2]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (WIDTH, HEIGHT, 5)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    drive = Drive.plan(2)
    assert len(frames) == 3
    for number, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - drive.picture(number / 5)).mean() < 8
    assert [entry.name for entry in path.parent.iterdir()] == ["drive.mp4"]


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        list(write_drive(tmp_path / f"{workers}.mp4", 3, 10, workers=workers))
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "2.mp4").read_bytes()


def test_a_folder_gets_jpeg_files(tmp_path: Path) -> None:
    assert list(write_drive(tmp_path / "out", 2, 10, workers=1)) == [0, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000000.jpg", "000001.jpg"]
    with Image.open(tmp_path / "out/000001.jpg") as picture:
        assert (picture.size, picture.format) == ((WIDTH, HEIGHT), "JPEG")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"mine")
    with pytest.raises(ExistsError, match=r"drive\.mp4"):
        list(write_drive(path, 1, 10, workers=1))
    assert path.read_bytes() == b"mine"
    list(write_drive(path, 1, 10, workers=1, overwrite=True))
    assert path.read_bytes() != b"mine"
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is not a folder"):
        list(write_drive(tmp_path / "file", 1, 10, workers=1))


def test_an_interrupted_video_leaves_nothing(tmp_path: Path) -> None:
    drawing = write_drive(tmp_path / "drive.mp4", 100, 10, workers=1)
    next(drawing)
    drawing.close()
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_drives(tmp_path: Path) -> None:
    arguments = ["-o", str(tmp_path / "d.mp4"), "--drive", "-n", "2", "--seed", "3", "--workers", "1"]
    done = CliRunner().invoke(command, [*arguments, "--json"], standalone_mode=False)
    assert done.return_value == 0
    summary = json.loads(done.output)
    assert {name: summary[name] for name in ("pictures", "fps", "seed")} == {"pictures": 2, "fps": 10, "seed": 3}
    assert (tmp_path / "d.mp4").is_file()
    words = CliRunner().invoke(command, [*arguments, "--overwrite", "--fps", "5"], standalone_mode=False)
    assert words.output.startswith("2 pictures, 0.4 s of video, ")


def test_pictures_per_second_are_for_drives(tmp_path: Path) -> None:
    refused = CliRunner().invoke(command, ["-o", str(tmp_path / "s"), "--fps", "5"])
    assert refused.exit_code == 2
    assert "--fps is for --drive" in refused.output
