"""Profiles: what a name stands for, and that every set of options keeps the contract of `featcodec.video`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from make_frames import make_frame
from pictures import save_texture
from sweep_set import SIDE, make_sweep_set

from featcodec.bitstream import read_file, unpack
from featcodec.codec import FeatureCodec
from featcodec.errors import BitstreamError, EncoderError, InputError
from featcodec.evaluation.anchors import InputVvcMethod
from featcodec.images.reading import read_image
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.video import (
    DEFAULT_PROFILE,
    PROFILES,
    EncoderSettings,
    Frame,
    VideoCodec,
    choose_profile,
    open_video_codec,
)
from featcodec.video.profiles import describe
from featcodec.video.settings import NEAR_LOSSLESS_QP, parse_parameters

SHAPE = (64, 96)
"""Of preset faster by itself, as it stands in streams that were made before there were profiles."""
ROOT = Path(__file__).resolve().parents[2]
SETS = [(name, kind) for name in PROFILES for kind in ("latent", "bottleneck")]


def settings_of(name: str, kind: str) -> EncoderSettings:
    return PROFILES[name].settings(bottleneck=kind == "bottleneck")


@pytest.fixture(params=["ffmpeg", "vvenc"])
def backend(request: pytest.FixtureRequest) -> str:
    try:
        open_video_codec(request.param)
    except EncoderError as error:
        pytest.skip(str(error))
    name: str = request.param
    return name


SLOW = ("faithful", "dense")


def some_are_slow(sets: Iterable[Any]) -> list[Any]:
    """Marks those that belong to a slow profile."""
    return [pytest.param(one, marks=[pytest.mark.slow] if {one, one[0]} & {*SLOW} else []) for one in sets]


@pytest.fixture(params=some_are_slow(SETS), ids="-".join)
def vvc(request: pytest.FixtureRequest, backend: str) -> VideoCodec:
    return open_video_codec(backend, settings_of(*request.param))


@pytest.fixture(scope="module")
def scene_mosaics(drawn_scenes: Path) -> dict[bool, Frame]:
    """A scene's frame by whether there is a bottleneck; a quarter as wide as usual, as `dense` takes its time."""
    image = read_image(min((drawn_scenes / "images").iterdir()))
    frames = {}
    for bottleneck in (False, True):
        codec = FeatureCodec.load("scenes", bottleneck="street" if bottleneck else None, device="cpu", image_size=128)
        ((_, frames[bottleneck]),) = codec.front_end([codec.letterbox(image)], 0)
    return frames


# Every set keeps the contract.


@pytest.mark.parametrize("shape", [(96, 64), (31, 70), (8, 8)])
def test_qp_0_is_near_lossless(vvc: VideoCodec, shape: tuple[int, int]) -> None:
    frame = make_frame(shape)
    off = np.abs(vvc.decode(vvc.encode([frame], 0)[0], shape).astype(int) - frame)
    # As of every codec in tests/test_codecs.py: VVenC misses by 2 in about one of 10,000 samples as noisy as these.
    assert off.max() <= 2
    assert np.count_nonzero(off > 1) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("qp", [0, NEAR_LOSSLESS_QP])
@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("name", some_are_slow(PROFILES))
def test_features_of_a_scene_are_within_1_or_2(
    backend: str, name: str, bottleneck: bool, qp: int, scene_mosaics: dict[bool, Frame]
) -> None:
    frame, codec = scene_mosaics[bottleneck], open_video_codec(backend, PROFILES[name].settings(bottleneck=bottleneck))
    off = np.abs(codec.decode(codec.encode([frame], qp)[0], frame.shape).astype(int) - frame)
    assert off.max() <= (1 if qp == 0 else 2)


@pytest.mark.slow
def test_streams_of_a_batch_equal_single_streams(vvc: VideoCodec) -> None:
    frames = [make_frame((64, 64), seed) for seed in range(4)]
    batch = vvc.encode(frames, 36)
    assert batch == [vvc.encode([frame], 36)[0] for frame in frames]
    assert len(set(batch)) == len(frames)


def test_every_decoder_gets_the_samples_that_the_encoder_meant(vvc: VideoCodec, tmp_path: Path) -> None:
    """ffmpeg's own decoder in a process of its own, which nothing of featcodec stands around."""
    frame = make_frame(SHAPE)
    for qp in (NEAR_LOSSLESS_QP + 1, 40):
        (stream,) = vvc.encode([frame], qp)
        path = tmp_path / "picture.266"
        path.write_bytes(stream)
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        luma = np.frombuffer(raw, "<u2", count=frame.size).reshape(frame.shape).astype(int)
        assert np.array_equal(vvc.decode(stream, frame.shape), np.minimum((luma + 2) >> 2, 255))


def test_threads_change_no_byte(vvc: VideoCodec) -> None:
    frames = [make_frame((64, 160))]
    assert vvc.encode(frames, 40, threads=2) == vvc.encode(frames, 40)


def test_a_damaged_stream_is_refused_or_decodes_in_shape(vvc: VideoCodec) -> None:
    (stream,) = vvc.encode([make_frame(SHAPE)], 36)
    with pytest.raises(BitstreamError):
        vvc.decode(stream[: len(stream) // 2], (128, 128))


# What names stand for.


def test_the_names_are_those_that_the_documents_know() -> None:
    assert list(PROFILES) == ["faithful", "fast", "balanced", "dense"]
    assert DEFAULT_PROFILE == "fast"
    assert all(profile.summary for profile in PROFILES.values())


def test_no_profile_holds_what_is_the_users() -> None:
    for name, kind in SETS:
        settings = settings_of(name, kind)
        assert not settings.parameters
        # The same options are accepted from a user: none of them is reserved.
        assert EncoderSettings(settings.preset, dict(settings.tools)).options(40) == settings.options(40)


def test_a_preset_by_itself_is_what_it_was() -> None:
    for kind in (False, True):
        settings = choose_profile(preset="fast", parameters={"ISP": "1"}).settings(bottleneck=kind)
        before = EncoderSettings("fast", {"ISP": "1"})
        assert settings == before
        assert settings.tag("ffmpeg") == before.tag("ffmpeg")


def test_parameters_go_before_tools() -> None:
    profile = choose_profile("faithful", parameters={"ALF": "0", "RDOQ": "2"})
    for qp in (0, 40):
        options = profile.latent.options(qp)
        assert (options["ALF"], options["RDOQ"]) == ("0", "2")
    assert choose_profile("faithful").latent.options(40)["ALF"] == "1"


def test_the_lowest_qps_are_spared_tools() -> None:
    for name, kind in SETS:
        settings = settings_of(name, kind)
        assert settings.options(NEAR_LOSSLESS_QP) == EncoderSettings(settings.preset).options(NEAR_LOSSLESS_QP)


def test_nothing_given_means_the_default() -> None:
    assert choose_profile() == choose_profile(DEFAULT_PROFILE)


@pytest.mark.parametrize("name", ["", "Fast", "slow"])
def test_an_unknown_name_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(InputError, match="choose one of faithful, fast, balanced, dense"):
        choose_profile(name)


def test_profile_and_preset_are_not_both_given() -> None:
    with pytest.raises(InputError, match="give one of the two"):
        choose_profile("fast", "faster")


def test_settings_are_described_by_what_people_would_say() -> None:
    for name, kind in SETS:
        settings, bottleneck = settings_of(name, kind), kind == "bottleneck"
        assert describe(settings.preset, settings.chosen_text, bottleneck=bottleneck) == f"profile {name}"
    assert describe("faster", "", bottleneck=True) == ""
    assert describe("slow", "ISP=1:MTS=1", bottleneck=True) == "preset slow  ISP=1:MTS=1"


# Codec, commands.


@pytest.mark.slow
def test_a_codec_takes_the_set_that_fits_its_bottleneck(tiny_yolov5: Path, tmp_path: Path) -> None:
    fingerprint = FeatureCodec.load(tiny_yolov5, bottleneck=None).model.detector.fingerprint.hex()
    path = tmp_path / "b.safetensors"
    save_bottleneck(path, Bottleneck(BottleneckConfig(16, 10, 6, -3.0, 3.0, 4, fingerprint, {})))
    for name in PROFILES:
        for bottleneck, kind in ((None, "latent"), (path, "bottleneck")):
            codec = FeatureCodec.load(tiny_yolov5, bottleneck=bottleneck, profile=name)
            assert codec.video_codec.tag == open_video_codec("ffmpeg", settings_of(name, kind)).tag
    assert FeatureCodec.load(tiny_yolov5, bottleneck=path).video_codec.tag == settings_of(
        DEFAULT_PROFILE, "bottleneck"
    ).tag("ffmpeg")


def test_pictures_are_coded_without_tools(tiny_yolov5: Path) -> None:
    row = InputVvcMethod(FeatureCodec.load(tiny_yolov5, bottleneck=None, profile="balanced")).identity()
    assert (row["preset"], row["encoder_params"]) == (PROFILES["balanced"].latent.preset, "")


@pytest.mark.slow
def test_encode_takes_a_profile_and_its_streams_decode(run: Any, tmp_path: Path, tiny_yolov5: Path) -> None:
    save_texture(tmp_path / "in/a.png")
    tags = {}
    for choice in (["--profile", "fast"], ["--profile", "balanced"], ["--preset", "faster"], []):
        folder = tmp_path / "-".join(["out", *choice])
        options = ["--detector", tiny_yolov5, "--image-size", 96, "--qp", 36, *choice]
        code, _, err = run("encode", tmp_path / "in", "-o", folder, *options)
        assert (code, err) == (0, "")
        tags[tuple(choice)] = unpack(read_file(folder / "a.266"))[0].encoder_tag
        assert run("decode", folder, "-o", tmp_path / f"{folder.name}.json", "--detector", tiny_yolov5)[0] == 0
    assert tags.pop(()) == tags["--profile", "fast"]
    assert len(set(tags.values())) == 3


def test_encode_refuses_unknown_and_contradicting_choices(run: Any, tmp_path: Path, tiny_yolov5: Path) -> None:
    save_texture(tmp_path / "in/a.png")
    arguments = ["encode", tmp_path / "in", "-o", tmp_path / "out", "--detector", tiny_yolov5]
    code, _, err = run(*arguments, "--profile", "best")
    assert code == 2
    assert "balanced" in err
    code, _, err = run(*arguments, "--profile", "fast", "--preset", "faster")
    assert code == 1
    assert "give one of the two" in err


@pytest.mark.slow
def test_sweep_takes_profiles_and_presets(run: Any, tmp_path: Path, tiny_yolov5: Path) -> None:
    folder = make_sweep_set(tmp_path / "set", tiny_yolov5, 2)
    arguments = ["sweep", folder / "in", "--annotations", folder / "annotations.json", "-o", tmp_path / "points.csv"]
    arguments += ["--detector", tiny_yolov5, "--image-size", SIDE, "--qp", 40, "--json"]

    def swept(*options: str) -> list[tuple[str, str, dict[str, str]]]:
        code, out, _ = run(*arguments, *options)
        assert code == 0
        points = json.loads(out)["points"]
        return [(row["method"], row["preset"], parse_parameters([row["encoder_params"]])) for row in points]

    def expected(name: str) -> tuple[str, str, dict[str, str]]:
        return "latent", PROFILES[name].latent.preset, dict(PROFILES[name].latent.tools)

    plain = ("latent", "faster", {})
    assert swept("--method", "latent") == [expected("fast")]
    both = ["--method", "latent", "--profile", "fast", "--profile", "balanced"]
    assert swept(*both, "--preset", "faster") == [expected("fast"), expected("balanced"), plain]
    assert swept("--method", "latent", "--preset", "faster") == [plain]
    assert swept("--method", "input-vvc", "--profile", "fast", "--profile", "faithful") == [("input-vvc", "faster", {})]


# The search.


@pytest.mark.slow
def test_the_search_runs_on_a_few_pictures(tmp_path: Path, tiny_yolov5: Path) -> None:
    for number in range(6):
        save_texture(tmp_path / f"in/{number}.png", seed=number)
    command = [sys.executable, str(ROOT / "benchmarks/vvc_profiles.py"), "--quick", "--kind", "latent", "tools"]
    command += ["--folder", str(tmp_path / "in"), "--detector", str(tiny_yolov5), "--cache", str(tmp_path / "cache")]
    command += ["--images", "2", "--image-size", "96"]
    outputs = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    # The second run recalls everything, times included.
    assert outputs[0] == outputs[1]
    assert "| faster LoopFilterDisable=1 SAO=0 |" in outputs[0]
