"""Decoding in worker processes: the same samples, and a worker that is lost costs one stream at most."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from make_frames import make_frame
from PIL import Image

from featcodec import bitstream
from featcodec.errors import BitstreamError, EncoderError, InputError
from featcodec.video import EncoderSettings, open_video_codec, worker
from featcodec.video.isolated import IsolatedCodec

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPE = (64, 96)
pytestmark = pytest.mark.slow


@pytest.fixture
def isolated() -> Iterator[IsolatedCodec]:
    codec = IsolatedCodec(open_video_codec("ffmpeg"))
    yield codec
    codec.close()


@pytest.fixture(scope="module")
def stream() -> bytes:
    return open_video_codec("ffmpeg").encode([make_frame(SHAPE)], 38)[0]


def workers(codec: IsolatedCodec) -> list[int]:
    return [worker.process.pid for worker in codec._workers._all]


def gone_soon(program: int) -> bool:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{program}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not Path(f"/proc/{program}").exists()


def test_golden_files_decode_to_their_samples(isolated: IsolatedCodec) -> None:
    for path in sorted(GOLDEN.glob("*.266")):
        side_info, data = bitstream.unpack(path.read_bytes())
        if not side_info.is_raw:
            samples = isolated.decode(data, side_info.frame_shape)
            assert np.array_equal(samples, np.asarray(Image.open(path.with_suffix(".png"))))
    assert len(workers(isolated)) == 1


def test_a_pickled_copy_has_workers_of_its_own(isolated: IsolatedCodec, stream: bytes) -> None:
    isolated.seconds = 7.0
    samples = isolated.decode(stream, SHAPE)
    copied = pickle.loads(pickle.dumps(isolated))
    assert (copied.name, copied.tag, copied.seconds) == (isolated.name, isolated.tag, 7.0)
    assert workers(copied) == []
    assert np.array_equal(copied.decode(stream, SHAPE), samples)
    copied.close()
    assert len(workers(isolated)) == 1


def test_the_official_decoder_can_be_isolated(stream: bytes) -> None:
    try:
        plain = open_video_codec("vvenc")
    except EncoderError as error:
        pytest.skip(str(error))
    codec = IsolatedCodec(plain)
    assert np.array_equal(codec.decode(stream, SHAPE), plain.decode(stream, SHAPE))
    codec.close()


def test_name_tag_and_streams_are_those_of_the_codec() -> None:
    plain = open_video_codec("ffmpeg", EncoderSettings("faster", {"ISP": "1"}))
    codec = IsolatedCodec(plain)
    assert (codec.name, codec.standard, codec.tag) == (plain.name, plain.standard, plain.tag)
    assert codec.encode([make_frame(SHAPE)], 40) == plain.encode([make_frame(SHAPE)], 40)
    assert workers(codec) == []
    with pytest.raises(InputError, match="`isolate` needs a video decoder"):
        IsolatedCodec(open_video_codec("none"))


def test_a_refused_stream_has_the_same_message_and_costs_no_worker(isolated: IsolatedCodec, stream: bytes) -> None:
    for data, shape in ((stream, (96, 64)), (b"garbage", SHAPE), (b"", SHAPE), (stream + stream, SHAPE)):
        with pytest.raises(BitstreamError) as plain:
            isolated.codec.decode(data, shape)
        with pytest.raises(BitstreamError) as caught:
            isolated.decode(data, shape)
        assert str(caught.value) == str(plain.value)
    assert len(workers(isolated)) == 1


def test_a_worker_that_was_killed_while_it_waited_costs_nothing(isolated: IsolatedCodec, stream: bytes) -> None:
    isolated.decode(stream, SHAPE)
    (worker,) = workers(isolated)
    os.kill(worker, signal.SIGKILL)
    time.sleep(0.1)
    assert isolated.decode(stream, SHAPE).shape == SHAPE
    assert worker not in workers(isolated)


def test_a_worker_that_dies_costs_one_stream(isolated: IsolatedCodec, stream: bytes) -> None:
    isolated.decode(stream, SHAPE)
    (worker,) = workers(isolated)
    os.kill(worker, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (worker, signal.SIGSEGV))
    resumer = threading.Timer(0.4, os.kill, (worker, signal.SIGCONT))
    killer.start()
    resumer.start()
    with pytest.raises(BitstreamError, match=r"ends the decoder \(it was killed by SIGSEGV\); encode the image again"):
        isolated.decode(stream, SHAPE)
    killer.join()
    resumer.join()
    assert isolated.decode(stream, SHAPE).shape == SHAPE


def test_a_worker_that_hangs_is_replaced(isolated: IsolatedCodec, stream: bytes) -> None:
    isolated.decode(stream, SHAPE)
    (worker,) = workers(isolated)
    os.kill(worker, signal.SIGSTOP)
    isolated.seconds = 0.3
    with pytest.raises(BitstreamError, match=r"takes over 0.3 s to decode"):
        isolated.decode(stream * 4000, SHAPE)  # more than a pipe holds: writing hangs, too
    isolated.seconds = 60
    assert gone_soon(worker)
    assert isolated.decode(stream, SHAPE).shape == SHAPE


class _FullDisk:
    def decode(self, stream: bytes, shape: tuple[int, int]) -> np.ndarray:
        raise EncoderError("no room for temporary files in /tmp/\udcff; free disk space")


def test_what_is_no_fault_of_the_stream_is_said(
    isolated: IsolatedCodec, stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = worker._decode(_FullDisk(), stream, SHAPE)  # type: ignore[arg-type]
    monkeypatch.setattr("featcodec.video.isolated._Worker.ask", lambda *_: reply)
    with pytest.raises(EncoderError, match="no room for temporary files in /tmp/\udcff; free disk space"):
        isolated.decode(stream, SHAPE)


def test_a_picture_that_takes_too_much_memory_is_refused() -> None:
    shape = (2048, 2048)
    large = open_video_codec("ffmpeg").encode([np.full(shape, 7, np.uint8)], 50)[0]
    small = open_video_codec("ffmpeg").encode([make_frame(SHAPE)], 38)[0]
    codec = IsolatedCodec(open_video_codec("ffmpeg"))
    assert (codec.decode(large, shape) == 7).all()
    codec.close()
    (before,) = _address_space(codec, small)
    codec = IsolatedCodec(open_video_codec("ffmpeg"), memory=before + (8 << 20))
    with pytest.raises(BitstreamError):
        codec.decode(large, shape)
    assert codec.decode(small, SHAPE).shape == SHAPE
    codec.close()


def _address_space(codec: IsolatedCodec, small: bytes) -> list[int]:
    """Bytes of address space of each worker that has decoded a small stream."""
    codec.decode(small, SHAPE)
    lines = [Path(f"/proc/{worker}/status").read_text().splitlines() for worker in workers(codec)]
    codec.close()
    return [int(line.split()[1]) << 10 for status in lines for line in status if line.startswith("VmPeak")]


def test_threads_have_a_worker_each(isolated: IsolatedCodec, stream: bytes) -> None:
    expected = isolated.codec.decode(stream, SHAPE)
    with ThreadPoolExecutor(3) as pool:
        for samples in pool.map(lambda _: isolated.decode(stream, SHAPE), range(30)):
            assert np.array_equal(samples, expected)
    assert 1 <= len(workers(isolated)) <= 3


def test_workers_end_with_the_codec(stream: bytes) -> None:
    codec = IsolatedCodec(open_video_codec("ffmpeg"))
    codec.decode(stream, SHAPE)
    (worker,) = workers(codec)
    del codec
    gc.collect()
    assert gone_soon(worker)


def test_workers_end_when_their_process_is_killed(stream: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.266").write_bytes(stream)
    code = f"""
import time
from pathlib import Path
from featcodec.video import open_video_codec
from featcodec.video.isolated import IsolatedCodec
codec = IsolatedCodec(open_video_codec("ffmpeg"))
codec.decode(Path({str(tmp_path / "a.266")!r}).read_bytes(), {SHAPE})
print(*(worker.process.pid for worker in codec._workers._all), flush=True)
time.sleep(300)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    assert gone_soon(worker)


def test_a_worker_knows_no_torch_and_no_module_of_the_working_folder(
    stream: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    codec = IsolatedCodec(open_video_codec("ffmpeg"))
    assert codec.decode(stream, SHAPE).shape == SHAPE
    (worker,) = workers(codec)
    assert "torch" not in Path(f"/proc/{worker}/maps").read_text()
    codec.close()
