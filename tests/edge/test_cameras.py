"""Cameras give pictures in their own time, and say in one line what is wrong."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from pictures import save_texture
from rtsp_server import RtspServer
from videos import make_video

from featcodec.edge import cameras
from featcodec.edge.cameras import Camera, ImageFolder, RtspCamera, VideoFile, open_camera, shown
from featcodec.errors import InputError


class Stop(threading.Event):
    """An event that never waits, and remembers how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


def pictures(camera: Camera, notes: list[str] | None = None) -> list[np.ndarray | None]:
    return list(camera.pictures(Stop(), [].append if notes is None else notes.append))


def test_a_video_gives_its_pictures_at_its_own_rate(tmp_path: Path) -> None:
    stop = Stop()
    found = list(open_camera(str(make_video(tmp_path / "a.mp4", 10, rate=20))).pictures(stop, print))
    assert [each.shape for each in found if each is not None] == [(48, 64, 3)] * 10
    levels = [float(each.mean()) for each in found if each is not None]
    assert levels == pytest.approx(range(0, 100, 10), abs=3)
    assert 0.3 < max(stop.waits) <= 0.45  # the last of 10 pictures at 20 per second; decoding took the rest


@pytest.mark.parametrize(("fps", "count"), [(5, 5), (10, 10), (7, 7), (20, 20), (1000, 20), (0.5, 1)])
def test_fps_leaves_pictures_out_and_keeps_the_time(tmp_path: Path, fps: float, count: int) -> None:
    found = pictures(open_camera(str(make_video(tmp_path / "a.mp4", 20, rate=20)), fps=fps))
    assert len(found) == count


def test_a_loop_begins_again(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", 3)
    save_texture(tmp_path / "in/a.png", 32, 24)
    for source in ("a.mp4", "in"):
        given = open_camera(str(tmp_path / source), loop=True).pictures(Stop(), print)
        assert len([next(given) for _ in range(8)]) == 8  # type: ignore[call-overload]
        given.close()


def test_a_folder_gives_its_images_sorted_and_goes_on_after_a_bad_one(tmp_path: Path) -> None:
    for name, width in (("b.png", 40), ("a.jpg", 48)):
        save_texture(tmp_path / name, width, 24)
    (tmp_path / "c.png").write_bytes(b"no image")
    notes: list[str] = []
    camera = open_camera(str(tmp_path))
    assert isinstance(camera, ImageFolder)
    first, second, third = pictures(camera, notes)
    assert first is not None
    assert second is not None
    assert (first.shape, second.shape, third) == ((24, 48, 3), (24, 40, 3), None)
    assert len(notes) == 1
    assert "c.png" in notes[0]


def test_a_rotated_video_is_upright(tmp_path: Path) -> None:
    import av

    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, :32] = 255
    make_video(tmp_path / "a.mp4", [wide] * 2)
    # A display matrix: the player is to turn the picture.
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    turn = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turn)
    (tmp_path / "b.mp4").write_bytes(data)
    with av.open(str(tmp_path / "b.mp4")) as container:
        if not next(container.decode(video=0)).rotation:
            pytest.skip("this PyAV does not read the rotation")
    first = pictures(VideoFile(tmp_path / "b.mp4", None, False))[0]
    assert first is not None
    assert first.shape == (64, 32, 3)
    above, below = first[:28].mean(), first[36:].mean()
    assert above > 200  # the left half, after a quarter turn clockwise
    assert below < 50


def test_a_video_of_too_many_pixels_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "a.mp4", [np.zeros((48, 64, 3), np.uint8)] * 2)
    monkeypatch.setattr(cameras, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(InputError, match="64x48 pixels are too many; use a smaller video"):
        pictures(VideoFile(tmp_path / "a.mp4", None, False))


def test_a_damaged_part_of_a_video_is_left_out(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    noise = [chance.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(20)]
    data = bytearray(make_video(tmp_path / "a.avi", noise).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    (tmp_path / "a.avi").write_bytes(data)
    found = pictures(VideoFile(tmp_path / "a.avi", None, False))
    assert sum(each is not None for each in found) >= 5


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere.mp4", "no such file"),
        ("", "no such file"),
        ("http://127.0.0.1/a.mp4", "not an rtsp:// address"),
        ("file:///etc/passwd", "not an rtsp:// address"),
        ("x" * 300, "no such file"),
    ],
)
def test_what_is_no_camera_is_refused_at_once(source: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        open_camera(source)


@pytest.mark.parametrize("source", ["987", "/dev/video987"])
def test_a_device_that_is_not_there_is_one_line(source: str) -> None:
    with pytest.raises(InputError, match=r"/dev/video987: no such device"):
        open_camera(source)


def test_a_device_that_is_no_camera_is_one_line() -> None:
    with pytest.raises(InputError, match=r"/dev/null: cannot be read as a video"):
        pictures(open_camera("/dev/null"))


def test_a_file_that_is_no_video_is_one_line(tmp_path: Path) -> None:
    for name, content in (("a.mp4", b"no video"), ("b.mp4", b""), ("c.m3u8", b"#EXTM3U\n#EXTINF:1,\na.ts\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: cannot be read as a video"):
            pictures(open_camera(str(tmp_path / name)))


def test_a_playlist_does_not_lead_to_other_files(tmp_path: Path) -> None:
    make_video(tmp_path / "secret.mp4")
    for name, content in (
        ("a.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n"),
        ("b.ffconcat", f"ffconcat version 1.0\nfile {tmp_path}/secret.mp4\n"),
        ("c.mp4", "ffconcat version 1.0\nfile secret.mp4\n"),
        ("d.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 26\n"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="cannot be read as a video"):
            pictures(open_camera(str(tmp_path / name)))


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images found"):
        open_camera(str(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="no such file"):
        open_camera(str(tmp_path / "a.mp4"))


def test_an_rtsp_camera_gives_its_pictures(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    noise = [chance.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(8)]  # pictures of several packets
    notes: list[str] = []
    with RtspServer(make_video(tmp_path / "a.mp4", noise)) as server:
        found = open_camera(f"rtsp://user:secret@127.0.0.1:{server.port}/camera").pictures(Stop(), notes.append)
        first = [picture for picture, _ in zip(found, range(4), strict=False)]
        found.close()
    assert [picture.shape for picture in first if picture is not None] == [(96, 128, 3)] * 4
    assert notes == []


def test_an_rtsp_camera_that_is_lost_is_opened_again(tmp_path: Path) -> None:
    notes: list[str] = []
    with RtspServer(make_video(tmp_path / "a.mp4", 12), most=8) as server:
        found = open_camera(f"rtsp://127.0.0.1:{server.port}/camera").pictures(Stop(), notes.append)
        while server.viewers < 3:
            next(found)
        found.close()
    assert 2 <= len(notes) <= 3
    assert all(f"rtsp://127.0.0.1:{server.port}/camera: lost (" in note for note in notes)


def test_messages_do_not_show_the_password_of_a_camera() -> None:
    camera = open_camera("rtsp://user:secret@127.0.0.1:9/x@y")
    assert isinstance(camera, RtspCamera)
    assert camera.name == "rtsp://127.0.0.1:9/x@y"
    with pytest.raises(InputError) as error:
        pictures(camera)
    assert "secret" not in str(error.value)
    assert "rtsp://127.0.0.1:9/x@y: cannot be read" in str(error.value)
    assert shown("a@b") == "a@b"
