"""Encoder settings: what is accepted, in which order options are applied, and how settings are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from make_frames import make_frame

from featcodec.errors import InputError
from featcodec.video import CODECS, PRESETS, EncoderSettings, open_video_codec
from featcodec.video.settings import STILL_PICTURES, parse_parameters


def test_parameters_are_parsed_from_several_texts() -> None:
    assert parse_parameters(["TransformSkip=1:ISP=1", "QPs=a=b", ":"]) == {
        "TransformSkip": "1",
        "ISP": "1",
        "QPs": "a=b",
    }
    assert parse_parameters([]) == {}
    assert parse_parameters(("A=1", "A=1")) == {"A": "1"}


def test_a_parameter_without_equals_sign_is_refused() -> None:
    with pytest.raises(InputError, match="'ISP' is not of the form NAME=VALUE"):
        parse_parameters(["MIP=1:ISP"])
    with pytest.raises(InputError, match="encoder parameter A is there twice: 1 and 2; give it once"):
        parse_parameters(["A=1:B=3", "A=2"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "1"),
        ("A", ""),
        ("A B", "1"),
        ("A", "1 --output x"),
        ("A", "1:B=2"),
        ("A", "1\n"),
        ("A\n", "1"),
        ("-a", "1"),
        ("1A", "1"),
        ("A", "a=b"),
        ("A", "x" * 65),
        ("A", "/tmp/x"),
        ("Ä", "1"),
    ],
)
def test_parameters_that_could_smuggle_in_something_else_are_refused(name: str, value: str) -> None:
    with pytest.raises(InputError, match="not of the form NAME=VALUE"):
        EncoderSettings(parameters={name: value})


@pytest.mark.parametrize("preset", ["", "Faster", "slowest", "faster "])
def test_an_unknown_preset_is_refused(preset: str) -> None:
    with pytest.raises(InputError, match="choose one of faster, fast, medium, slow, slower"):
        EncoderSettings(preset)


def test_options_keep_their_order_and_may_be_overridden() -> None:
    options = EncoderSettings(parameters={"ISP": "1", "ALF": "1"}).options(30)
    assert list(options) == [*STILL_PICTURES, "ISP"]
    assert options["ALF"] == "1"
    assert list(options).index("BIM") < list(options).index("MCTF")


def test_pictures_stand_alone_and_qp_means_what_it_says() -> None:
    options = EncoderSettings().options(30)
    for name in ("BIM", "MCTF", "IntraQPOffset", "MaxParallelFrames", "AccessUnitDelimiter", "HrdParametersPresent"):
        assert options[name] == "0"
    assert options["IntraPeriod"] == "1"


def test_tags_tell_settings_apart() -> None:
    settings = [
        *(EncoderSettings(preset) for preset in PRESETS),
        EncoderSettings(parameters={"ISP": "1"}),
        EncoderSettings(parameters={"ISP": "2"}),
        EncoderSettings(parameters={"ALF": "1"}),
    ]
    tags = [each.tag(codec) for each in settings for codec in ("ffmpeg", "vvenc")]
    assert len(set(tags)) == len(tags)
    assert all(0 <= tag <= 0xFFFF for tag in tags)
    assert EncoderSettings(parameters={"ISP": "1"}).tag("ffmpeg") == settings[len(PRESETS)].tag("ffmpeg")


def test_codecs_carry_the_tag_of_their_settings() -> None:
    settings = EncoderSettings("fast", {"ISP": "1"})
    assert open_video_codec("ffmpeg", settings).tag == settings.tag("ffmpeg")
    assert open_video_codec("ffmpeg").tag == EncoderSettings().tag("ffmpeg")
    assert open_video_codec("none", settings).tag == 0


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(InputError, match="choose one of ffmpeg, vvenc, hevc, none"):
        open_video_codec("h264")
    assert CODECS == ("ffmpeg", "vvenc", "hevc", "none")


def test_the_lowest_qps_are_spared_rate_distortion_optimization() -> None:
    assert "RDOQ" not in EncoderSettings().options(4)
    assert EncoderSettings().options(0)["RDOQ"] == "0"
    assert EncoderSettings(parameters={"RDOQ": "2"}).options(0)["RDOQ"] == "2"


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS[:3])
def test_every_preset_codes_at_the_lowest_qps(preset: str) -> None:
    codec = open_video_codec("ffmpeg", EncoderSettings(preset))
    frame = make_frame((64, 96))
    for qp in (0, 3):
        (stream,) = codec.encode([frame], qp)
        assert np.abs(codec.decode(stream, frame.shape).astype(int) - frame).max() <= 2
