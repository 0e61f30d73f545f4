"""Many pictures: completeness, order, resume, and one failure at a time."""

from __future__ import annotations

import dataclasses
import os
import stat
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import make_bad_pictures, make_good_pictures, save_texture, texture
from PIL import Image

from featcodec import FeatureCodec, bitstream
from featcodec.detections import BoxFilter
from featcodec.detectors.split import Predictions
from featcodec.errors import BitstreamError
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.pipeline import Encoded, decode_files, encode_files
from featcodec.system.paths import Source, expand_sources
from featcodec.video.isolated import IsolatedCodec
from featcodec.video.raw import RawCodec

QP = 38


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, image_size=96)


def pictures_in(folder: Path) -> list[Source]:
    return expand_sources([str(folder)], IMAGE_SUFFIXES, "pictures")


def streams_in(folder: Path) -> list[Source]:
    return expand_sources([str(folder)], frozenset({".266"}), "bitstreams")


def make_set(folder: Path, count: int) -> Path:
    """Pictures of several shapes, so that batches of equal shape have to be found."""
    shapes = [(120, 90), (90, 120), (100, 100), (200, 50)]
    for number in range(count):
        save_texture(folder / f"{number % 3}" / f"{number:04d}.jpg", *shapes[number * 7 % 4], seed=number)
    return folder


def run(codec: FeatureCodec, source: Path, output: Path, **options: object) -> list[Encoded]:
    return list(encode_files(codec, pictures_in(source), output, QP, **options))


@pytest.mark.slow
def test_every_picture_becomes_a_file_that_equals_the_single_encode(tmp_path: Path, codec: FeatureCodec) -> None:
    source = make_set(tmp_path / "in", 23)
    outcomes = run(codec, source, tmp_path / "out", batch=5, workers=2)
    assert [outcome.error for outcome in outcomes] == [None] * 23
    for outcome in outcomes:
        assert outcome.output == tmp_path / "out" / outcome.source.relative.with_suffix(".266")
        assert outcome.output.stat().st_size == outcome.bytes
        with Image.open(outcome.source.path) as image:
            assert outcome.output.read_bytes() == codec.encode(np.array(image), QP)


@pytest.mark.slow
def test_decoding_keeps_the_order_and_equals_the_single_decode(tmp_path: Path, codec: FeatureCodec) -> None:
    run(codec, make_set(tmp_path / "in", 14), tmp_path / "out")
    sources = streams_in(tmp_path / "out")
    outcomes = list(decode_files(codec, sources, workers=2))
    assert [outcome.source for outcome in outcomes] == sources
    for outcome in outcomes:
        single = codec.decode(outcome.source.path.read_bytes())
        assert outcome.detections is not None
        assert len(outcome.detections) == len(single)
        np.testing.assert_array_equal(outcome.detections.scores, single.scores)


@pytest.mark.slow
def test_a_run_resumes_and_overwrites_only_when_asked(tmp_path: Path, codec: FeatureCodec) -> None:
    source, output = make_set(tmp_path / "in", 6), tmp_path / "out"
    run(codec, source, output)
    victim = output / "0" / "0000.266"
    before = victim.read_bytes()
    victim.unlink()
    outcomes = run(codec, source, output)
    assert sorted(outcome.skipped for outcome in outcomes) == [False] + [True] * 5
    assert victim.read_bytes() == before
    assert sum(outcome.bytes for outcome in outcomes) == sum(path.stat().st_size for path in output.rglob("*.266"))

    other = list(encode_files(codec, pictures_in(source), output, QP + 1))
    assert all("with other weights or settings" in str(outcome.error) for outcome in other)
    assert victim.read_bytes() == before
    forced = list(encode_files(codec, pictures_in(source), output, QP + 1, overwrite=True))
    assert not any(outcome.error for outcome in forced)
    assert bitstream.unpack(victim.read_bytes())[0].qp == QP + 1


def test_what_is_in_the_way_is_not_overwritten(tmp_path: Path, codec: FeatureCodec) -> None:
    save_texture(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.266").write_bytes(b"somebody's work")
    (outcome,) = run(codec, tmp_path / "in", tmp_path / "out")
    assert "not an intact bitstream" in str(outcome.error)
    assert (tmp_path / "out/a.266").read_bytes() == b"somebody's work"


class Overtaken:
    """A video codec whose first call takes so long that another run writes its files meanwhile."""

    name = RawCodec.name
    standard = RawCodec.standard
    tag = RawCodec.tag

    def __init__(self, other_run: Callable[[], object]) -> None:
        self._others = [other_run]

    def encode(self, frames: Any, qp: int = 0, *, threads: int = 1) -> list[bytes]:
        while self._others:
            self._others.pop()()
        return RawCodec().encode(frames, qp, threads=threads)

    def decode(self, stream: bytes, shape: tuple[int, int]) -> Any:
        return RawCodec().decode(stream, shape)


def test_two_runs_at_once_do_not_replace_each_others_files(tmp_path: Path, tiny_yolov5: Path) -> None:
    for number in range(3):
        save_texture(tmp_path / f"in/{number}.png", 64, 48, seed=number)
    codecs = [FeatureCodec.load(tiny_yolov5, image_size=96, video_codec="none", bits=bits) for bits in (8, 6)]
    first, second = codecs
    found: list[Encoded] = []

    def other(codec: FeatureCodec) -> Callable[[], object]:
        return lambda: found.extend(run(codec, tmp_path / "in", tmp_path / "out"))

    slow = dataclasses.replace(first, video_codec=Overtaken(other(second)))
    outcomes = run(slow, tmp_path / "in", tmp_path / "out", workers=1)
    assert [outcome.error for outcome in found] == [None] * 3
    assert all("exists, but was made from another image or with other" in str(outcome.error) for outcome in outcomes)
    kept = [bitstream.unpack(path.read_bytes())[0].bits for path in (tmp_path / "out").iterdir()]
    assert kept == [6] * 3


def test_a_file_that_another_run_made_meanwhile_with_the_same_settings_is_already_there(
    tmp_path: Path, tiny_yolov5: Path
) -> None:
    save_texture(tmp_path / "in/a.png", 64, 48)
    codec = FeatureCodec.load(tiny_yolov5, image_size=96, video_codec="none")
    slow = Overtaken(lambda: run(codec, tmp_path / "in", tmp_path / "out"))
    (outcome,) = run(dataclasses.replace(codec, video_codec=slow), tmp_path / "in", tmp_path / "out", workers=1)
    assert (outcome.error, outcome.skipped) == (None, True)
    assert outcome.bytes == (tmp_path / "out/a.266").stat().st_size


@pytest.mark.parametrize("size", [(90, 120), (120, 90)], ids=["other size", "same size"])
def test_a_stream_of_another_image_is_not_taken_for_this_ones(
    tmp_path: Path, codec: FeatureCodec, size: tuple[int, int]
) -> None:
    save_texture(tmp_path / "monday/a.png", 120, 90, seed=1)
    save_texture(tmp_path / "tuesday/a.png", *size, seed=2)
    run(codec, tmp_path / "monday", tmp_path / "out")
    before = (tmp_path / "out/a.266").read_bytes()
    (outcome,) = run(codec, tmp_path / "tuesday", tmp_path / "out")
    assert not outcome.skipped
    assert "a.266: exists, but was made from another image" in str(outcome.error)
    assert (tmp_path / "out/a.266").read_bytes() == before
    (again,) = run(codec, tmp_path / "monday", tmp_path / "out")
    assert again.skipped
    (forced,) = run(codec, tmp_path / "tuesday", tmp_path / "out", overwrite=True)
    assert forced.error is None
    assert (tmp_path / "out/a.266").read_bytes() != before


@pytest.mark.slow
def test_bad_pictures_cost_one_line_each_and_the_others_are_done(tmp_path: Path, codec: FeatureCodec) -> None:
    good, bad = make_good_pictures(tmp_path / "in/good"), make_bad_pictures(tmp_path / "in/bad")
    outcomes = {outcome.source.path.name: outcome for outcome in run(codec, tmp_path / "in", tmp_path / "out")}
    assert sorted(outcomes) == sorted(good + bad)
    for name in good:
        assert outcomes[name].error is None
    for name in bad:
        message = str(outcomes[name].error)
        assert name in message
        assert "\n" not in message
        assert ";" in message  # the remedy follows the cause
        assert not outcomes[name].output.exists()
    sizes = {
        name: bitstream.unpack(outcomes[name].output.read_bytes())[0] for name in ("rotated.jpg", "one.png", "wide.png")
    }
    assert (sizes["rotated.jpg"].original_width, sizes["rotated.jpg"].original_height) == (64, 96)
    assert (sizes["one.png"].original_width, sizes["one.png"].letterboxed_width) == (1, 96)
    assert (sizes["wide.png"].original_width, sizes["wide.png"].letterboxed_height) == (20_000, 32)
    decoded = list(decode_files(codec, streams_in(tmp_path / "out")))
    assert len(decoded) == len(good)
    assert not any(outcome.error for outcome in decoded)
    assert not list((tmp_path / "out").rglob("*.part"))


def test_damaged_streams_cost_one_line_each_and_the_others_are_done(tmp_path: Path, codec: FeatureCodec) -> None:
    output = tmp_path / "out"
    run(codec, make_set(tmp_path / "in", 6), output)
    paths = sorted(output.rglob("*.266"))
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(paths[1].read_bytes())
    flipped[-20] ^= 4
    paths[1].write_bytes(flipped)
    paths[2].write_bytes(b"\x00\x00\x01\x67 not ours")
    (output / "empty.266").write_bytes(b"")
    (output / "folder.266").mkdir()
    outcomes = list(decode_files(codec, streams_in(output)))
    failed = [outcome for outcome in outcomes if outcome.error]
    assert len(outcomes) == 7
    assert {outcome.source.path for outcome in failed} == {*paths[:3], output / "empty.266"}
    for outcome in failed:
        assert str(outcome.source.path) in str(outcome.error)
        assert outcome.detections is None


@pytest.mark.slow
def test_other_weights_are_refused_with_both_fingerprints(
    tmp_path: Path, codec: FeatureCodec, tiny_yolov5u: Path
) -> None:
    run(codec, make_set(tmp_path / "in", 1), tmp_path / "out")
    other = FeatureCodec.load(tiny_yolov5u, image_size=96)
    (outcome,) = decode_files(other, streams_in(tmp_path / "out"))
    assert codec.fingerprint.hex() in str(outcome.error)
    assert other.fingerprint.hex() in str(outcome.error)


@pytest.mark.slow
def test_a_rare_shape_holds_back_a_bounded_number_of_results(
    tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    total, ahead = 100, 64  # 32 that overtake, and what is read or computed beside them
    rare, usual = (codec.encode(texture(*size), QP) for size in ((50, 120), (120, 50)))
    for number in range(total):
        (tmp_path / f"{number:03d}.266").write_bytes(rare if number in (0, 60) else usual)
    read: list[Path] = []
    original = bitstream.read_file

    def counted(path: Path) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(bitstream, "read_file", counted)
    sources = streams_in(tmp_path)
    for done, outcome in enumerate(decode_files(codec, sources, workers=1)):
        assert outcome.source == sources[done]
        assert outcome.error is None
        assert len(read) <= done + ahead
    assert len(read) == total


def mark(folder: Path) -> Path:
    """Pictures of one shape, so of one batch, of which the marked one is white."""
    for number in range(5):
        save_texture(folder / f"{number}.png", 96, 64, seed=number)
    Image.new("RGB", (96, 64), "white").save(folder / "2.png")
    return folder


FAILURES = [
    (RuntimeError("DefaultCPUAllocator: can't allocate memory\nand a long trace"), "can't allocate memory"),
    (MemoryError(), "out of memory"),
]


@pytest.mark.slow
def test_each_picture_is_decoded_once_even_beside_a_bad_one(
    tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):  # of one shape, so they are one batch
        save_texture(tmp_path / f"in/{number}.png", 96, 64, seed=number)
    run(codec, tmp_path / "in", tmp_path / "out")
    sources = streams_in(tmp_path / "out")
    bad, decoded, decode = sources[1].path.read_bytes(), [], FeatureCodec.decode_frame

    def counted(codec: FeatureCodec, data: bytes) -> object:
        decoded.append(data)
        if data == bad:
            raise BitstreamError("its VVC picture takes over 120 s to decode; encode the image again")
        return decode(codec, data)

    monkeypatch.setattr(FeatureCodec, "decode_frame", counted)
    outcomes = list(decode_files(codec, sources, workers=1))
    assert [bool(outcome.error) for outcome in outcomes] == [source is sources[1] for source in sources]
    assert sorted(decoded) == sorted(source.path.read_bytes() for source in sources)


@pytest.mark.parametrize(("failure", "reason"), FAILURES)
def test_networks_that_fail_on_one_image_cost_that_image(
    tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
) -> None:
    front = codec.model.detector.front

    def failing(images: torch.Tensor) -> torch.Tensor:
        if (images.flatten(1).mean(1) > 0.99).any():
            raise failure
        return front(images)

    monkeypatch.setattr(codec.model.detector, "front", failing)
    outcomes = run(codec, mark(tmp_path / "in"), tmp_path / "out", workers=1)
    assert sorted(outcome.source.path.name for outcome in outcomes) == [f"{number}.png" for number in range(5)]
    (failed,) = [outcome for outcome in outcomes if outcome.error]
    assert_one_line(str(failed.error), tmp_path / "in/2.png", reason)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.266", "1.266", "3.266", "4.266"]


@pytest.mark.parametrize(("failure", "reason"), FAILURES)
def test_networks_that_fail_on_one_stream_cost_that_stream(
    tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
) -> None:
    run(codec, mark(tmp_path / "in"), tmp_path / "out")
    predict = codec.model.detector.predict
    seen: list[torch.Tensor] = []

    def failing(features: torch.Tensor, conf: float | None = None) -> Predictions:
        seen.append(features)
        if any(torch.equal(feature, seen[0][0]) for feature in features) and len(seen) > 1:
            raise failure
        return predict(features, conf)

    monkeypatch.setattr(codec.model.detector, "predict", failing)
    marked = tmp_path / "out/2.266"
    codec.decode(marked.read_bytes())
    sources = streams_in(tmp_path / "out")
    outcomes = list(decode_files(codec, sources, workers=1))
    assert [outcome.source for outcome in outcomes] == sources
    (failed,) = [outcome for outcome in outcomes if outcome.detections is None]
    assert failed.source.path == marked
    assert_one_line(str(failed.error), marked, reason)


def assert_one_line(message: str, path: Path, reason: str) -> None:
    assert message.startswith(f"{path}: the networks failed on it (")
    assert reason in message
    assert "long trace" not in message
    assert "\n" not in message


def test_a_stream_that_claims_a_huge_image_is_refused_before_memory_is_spent(
    tmp_path: Path, codec: FeatureCodec
) -> None:
    """Fingerprint, checksum and proportions are right: anybody can copy them. No image is letterboxed to 8192."""
    side_info, stream = bitstream.unpack(codec.encode(texture(96, 64), QP))
    forged = dataclasses.replace(
        side_info, letterboxed_width=8192, letterboxed_height=8192, feature_width=1024, feature_height=1024
    )
    data = bitstream.pack(forged, stream)
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError, match=r"claims a tensor of \(16, 1024, 1024\) for 8192x8192 pixels"):
            codec.decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20, "the frame alone has 16 MiB"
    (tmp_path / "forged.266").write_bytes(data)
    (tmp_path / "good.266").write_bytes(bitstream.pack(side_info, stream))
    first, second = decode_files(codec, streams_in(tmp_path), workers=1)
    assert "forged.266: claims a tensor" in str(first.error)
    assert second.error is None


def wrapper(path: Path, body: str) -> str:
    """An executable script in place of ffmpeg."""
    path.write_text(f"#!{sys.executable}\nimport os, signal, sys\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def with_encoder(codec: FeatureCodec, executable: str) -> FeatureCodec:
    settings = codec.video_codec.settings  # type: ignore[attr-defined]
    video = type(codec.video_codec)(settings)  # type: ignore[call-arg]
    video.executable = executable
    return dataclasses.replace(codec, video_codec=video)


def test_a_killed_encoder_costs_its_pictures_and_nothing_hangs(tmp_path: Path, codec: FeatureCodec) -> None:
    killed = with_encoder(codec, wrapper(tmp_path / "ffmpeg", "os.kill(os.getpid(), signal.SIGKILL)"))
    outcomes = run(killed, make_set(tmp_path / "in", 4), tmp_path / "out")
    assert len(outcomes) == 4
    for outcome in outcomes:
        assert "SIGKILL" in str(outcome.error)
        assert outcome.source.path.name in str(outcome.error)
    assert not list((tmp_path / "out").rglob("*"))


def test_an_encoder_killed_once_is_tried_again_picture_by_picture(tmp_path: Path, codec: FeatureCodec) -> None:
    real = codec.video_codec.executable  # type: ignore[attr-defined]
    body = f"""
mark = {str(tmp_path / "killed")!r}
if not os.path.exists(mark):
    open(mark, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
os.execv({real!r}, [{real!r}, *sys.argv[1:]])"""
    for number in range(3):
        save_texture(tmp_path / f"in/{number}.png", 100, 100, seed=number)
    once = with_encoder(codec, wrapper(tmp_path / "ffmpeg", body))
    outcomes = run(once, tmp_path / "in", tmp_path / "out", workers=1)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    # The killed process may have held one picture only: that one is lost and says so, the others are done.
    assert len(errors) <= 1
    assert len(list((tmp_path / "out").glob("*.266"))) == 3 - len(errors)


@pytest.mark.slow
def test_noise_that_outgrows_the_encoders_buffer_is_coded_with_its_batch(tmp_path: Path, tiny_yolov5: Path) -> None:
    """Split 0 with a tight clip range makes noise of a noisy picture; at QP 0 the encoder's buffer is too small."""
    boxes = BoxFilter(conf=0.5)  # untrained, the detector sees something everywhere, and sorting that takes seconds
    codec = FeatureCodec.load(tiny_yolov5, image_size=320, split=0, clip=(-0.05, 0.05), boxes=boxes)
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(noise).save(tmp_path / "in/noise.png")
    Image.fromarray(np.full((320, 320, 3), 90, np.uint8)).save(tmp_path / "in/flat.png")
    outcomes = list(encode_files(codec, pictures_in(tmp_path / "in"), tmp_path / "out", 0, workers=1))
    assert not any(outcome.error for outcome in outcomes)
    assert not any(outcome.error for outcome in decode_files(codec, streams_in(tmp_path / "out")))


def test_an_unwritable_folder_is_said(tmp_path: Path, codec: FeatureCodec) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    (outcome,) = run(codec, make_set(tmp_path / "in", 1), tmp_path / "out")
    assert "cannot be written" in str(outcome.error)


def test_abandoning_a_run_leaves_no_process_and_no_part_file(tmp_path: Path, codec: FeatureCodec) -> None:
    before = children()  # multiprocessing keeps a tracker, once anything has used it
    outcomes = encode_files(codec, pictures_in(make_set(tmp_path / "in", 24)), tmp_path / "out", QP, workers=2)
    next(outcomes)
    outcomes.close()
    assert not list((tmp_path / "out").rglob("*.part"))
    assert children() == before
    for path in (tmp_path / "out").rglob("*.266"):
        bitstream.unpack(path.read_bytes())


@pytest.mark.slow
def test_abandoning_one_run_does_not_hurt_another_of_the_same_process(tmp_path: Path, codec: FeatureCodec) -> None:
    real = codec.video_codec.executable  # type: ignore[attr-defined]
    encode = f"os.execv({real!r}, [{real!r}, *sys.argv[1:]])"
    wait = "\nimport time\nfor _ in range(2000):\n    if os.path.exists({go!r}): break\n    time.sleep(0.01)\n"
    started, go, first = (str(tmp_path / name) for name in ("started", "go", "first"))
    patient = with_encoder(codec, wrapper(tmp_path / "a", f"open({started!r}, 'w')" + wait.format(go=go) + encode))
    # Its first process codes, the others hang.
    hanging = f"try: os.mkdir({first!r})\nexcept FileExistsError:" + wait.format(go="never").replace("\n", "\n    ")
    abandoned = with_encoder(codec, wrapper(tmp_path / "b", f"{hanging}\n{encode}"))
    source = tmp_path / "in"
    for number in range(4):
        save_texture(source / f"{number}.png", 100, 100, seed=number)

    outcomes: list[Encoded] = []
    thread = threading.Thread(
        target=lambda: outcomes.extend(run(patient, source, tmp_path / "kept", batch=1, workers=1))
    )
    thread.start()
    wait_until(lambda: Path(started).exists())
    doomed = encode_files(abandoned, pictures_in(source), tmp_path / "doomed", QP, workers=2, batch=1)
    assert next(doomed).error is None
    before = time.monotonic()
    doomed.close()
    assert time.monotonic() - before < 10
    Path(go).touch()
    thread.join(60)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert len(list((tmp_path / "kept").glob("*.266"))) == 4
    assert len(list((tmp_path / "doomed").iterdir())) == 1


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children() -> list[str]:
    """Command names of this process's children."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(fields[1].split()[1]) == os.getpid():
            found.append(fields[0].split("(", 1)[1])
    return found


@pytest.mark.slow
def test_abandoning_isolated_decoding_leaves_no_worker(tmp_path: Path, tiny_yolov5: Path) -> None:
    codec = FeatureCodec.load(tiny_yolov5, image_size=160, isolate=True)
    isolated = codec.video_codec
    assert isinstance(isolated, IsolatedCodec)
    for number in range(4):
        save_texture(tmp_path / f"in/{number}.png", 160, 120, seed=number)
    sources = expand_sources([str(tmp_path / "in")], frozenset({".png"}), "images")
    assert not any(outcome.error for outcome in encode_files(codec, sources, tmp_path / "out", 38))
    streams = expand_sources([str(tmp_path / "out")], frozenset({".266"}), "bitstreams")
    run = decode_files(codec, streams, workers=2)
    assert next(run).detections is not None
    assert isolated._workers._all
    run.close()
    assert not isolated._workers._all
    assert [outcome.error for outcome in decode_files(codec, streams, workers=2)] == [None] * 4
    isolated.close()
