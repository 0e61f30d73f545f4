"""Encoder parameters: which are allowed, and that none of them changes the QP, the format or the number of pictures."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from make_frames import make_frame

from featcodec.bitstream import nal
from featcodec.errors import EncoderError, InputError
from featcodec.video import PRESETS, PROFILES, EncoderSettings, open_video_codec
from featcodec.video.parameters import VVENC_ALLOWED, checked

SHAPE = (64, 96)


def headers_of(stream: bytes, folder: Path) -> dict[str, int]:
    """Every field of a stream's headers by its name in H.266, read by ffmpeg."""
    path = folder / "picture.266"
    path.write_bytes(stream)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-f", "vvc", "-i", path, "-c", "copy"]
    command += ["-bsf:v", "trace_headers", "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {name: int(value) for name, value in re.findall(r"\] \d+ +(\S+) +[01]* = (-?\d+)$", said, re.MULTILINE)}


def slice_qp(headers: dict[str, int]) -> int:
    """SliceQpY (clause 7.4.8), where no coding unit has a QP of its own."""
    assert headers["pps_cu_qp_delta_enabled_flag"] == 0
    return 26 + headers["pps_init_qp_minus26"] + headers["sh_qp_delta"]


# What is allowed.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("IntraQPOffset", "-10"), ("intraqpoffset", "0"), ("QP", "30"), ("qp", "30"), ("MaxDeltaQP", "4")),
        *(("PerceptQPA", "1"), ("qpa", "1"), ("LumaLevelToDeltaQPMode", "1"), ("MaxCuDQPSubdiv", "1"), ("STA", "1")),
        *(("CbQpOffset", "3"), ("SliceCbQpOffsetIntraOrPeriodic", "3"), ("MaxCuChromaQpOffsetSubdiv", "1")),
        *(("LambdaModifierI", "0.5"), ("LambdaFromQpEnable", "1"), ("IQPFactor", "0.5"), ("CostMode", "lossless")),
        *(("TargetBitrate", "1000"), ("bitrate", "1000"), ("RCInitialQP", "3"), ("NumPasses", "2"), ("LookAhead", "1")),
        *(("SummaryOutFilename", "x.txt"), ("SUMMARYOUTFILENAME", "x.txt"), ("SummaryPicFilenameBase", "x")),
        *(
            ("RCStatsFile", "x"),
            ("ReconFile", "x"),
            ("o", "x"),
            ("c", "x.cfg"),
            ("WriteConfig", "x"),
            ("tracefile", "x"),
        ),
        *(("FramesToBeEncoded", "0"), ("FrameSkip", "1"), ("IntraPeriod", "8"), ("GOPSize", "8"), ("MCTF", "1")),
        *(("BIM", "1"), ("MaxParallelFrames", "2"), ("NumParallelGOPs", "2"), ("IFP", "1"), ("Threads", "8")),
        *(("WaveFrontSynchro", "1"), ("MTProfile", "3"), ("Tiles", "2x2"), ("EnablePicPartitioning", "1")),
        *(("InternalBitDepth", "8"), ("ChromaFormatIDC", "444"), ("SourceWidth", "64"), ("ConformanceWindowMode", "0")),
        *(("ConfWinLeft", "2"), ("Profile", "main_10"), ("Level", "6.2"), ("Tier", "high"), ("RPR", "2")),
        *(("SEIDecodedPictureHash", "1"), ("decodedpicturehash", "1"), ("HrdParametersPresent", "1")),
        *(("EnableDecodingParameterSet", "1"), ("AccessUnitDelimiter", "1"), ("VuiParametersPresent", "1")),
        *(("Hdr", "hlg"), ("PreferredTransferCharacteristics", "18"), ("TicksPerSecond", "27"), ("preset", "slow")),
        *(("verbosity", "6"), ("fga", "1"), ("ClipInputVideoToRec709Range", "1"), ("NoSuchOption", "1")),
    ],
)
def test_what_does_more_than_shape_a_picture_is_refused(name: str, value: str) -> None:
    for settings in ({"parameters": {name: value}}, {"tools": {name: value}}):
        with pytest.raises(InputError, match=rf"parameter {name} is not allowed.*leave it out.*use one of .*ISP"):
            EncoderSettings(**settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("ISP", "4"), ("ISP", "-1"), ("ISP", "1.0"), ("ISP", "+1"), ("ISP", "01"), ("ISP", "true"), ("ISP", "1e0")),
        *(("CTUSize", "17"), ("TransformSkip", "oops"), ("LoopFilterTcOffset_div2", "13"), ("ALF", "99999999999")),
    ],
)
def test_a_value_out_of_range_is_refused_and_the_range_is_named(name: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"{name}={re.escape(value)}: the value is not allowed; use (a whole|one of)"):
        EncoderSettings(parameters={name: value})


def test_ranges_are_said_in_words() -> None:
    with pytest.raises(InputError, match=r"use a whole number from 0 to 3$"):
        checked({"ISP": "9"})
    with pytest.raises(InputError, match=r"use one of 32, 64, 128$"):
        checked({"CTUSize": "9"})


def test_a_slip_is_put_right() -> None:
    with pytest.raises(InputError, match=r"did you mean TransformSkip\?"):
        checked({"TransfromSkip": "1"})


def test_case_does_not_matter_and_a_name_counts_once() -> None:
    lower, upper = EncoderSettings(parameters={"alf": "1"}), EncoderSettings(parameters={"ALF": "1"})
    assert lower == upper
    assert lower.options(30)["ALF"] == "1"
    assert lower.tag("ffmpeg") == upper.tag("ffmpeg")
    assert checked({"isp": "1", "ISP": "1"}) == {"ISP": "1"}
    with pytest.raises(InputError, match="ISP is there twice: 1 and 2; give it once"):
        checked({"isp": "1", "ISP": "2"})


def test_the_tools_of_all_profiles_are_allowed() -> None:
    for profile in PROFILES.values():
        for settings in (profile.latent, profile.bottleneck):
            assert checked(settings.tools) == dict(settings.tools)


# What a stream says.


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS[:3])
def test_the_slice_has_the_qp_that_was_asked_for(preset: str, tmp_path: Path) -> None:
    codec = open_video_codec("ffmpeg", EncoderSettings(preset))
    for qp in (0, 3, 4, 17, 38, 63):
        (stream,) = codec.encode([make_frame(SHAPE)], qp)
        assert slice_qp(headers_of(stream, tmp_path)) == qp


@pytest.mark.slow
def test_the_check_sees_another_qp(tmp_path: Path) -> None:
    codec = open_video_codec("ffmpeg", EncoderSettings())
    object.__setattr__(codec.settings, "parameters", {"IntraQPOffset": "-10"})  # type: ignore[attr-defined]
    (stream,) = codec.encode([make_frame(SHAPE)], 38)
    assert slice_qp(headers_of(stream, tmp_path)) == 28


@pytest.mark.slow
@pytest.mark.parametrize("name", VVENC_ALLOWED)
def test_no_allowed_parameter_changes_the_qp_the_format_or_the_files(name: str, tmp_path: Path) -> None:
    """Each value makes one gray picture of the same QP and size, or VVenC refuses it and the remedy is said."""
    plain = headers_of(open_video_codec("ffmpeg").encode([make_frame(SHAPE)], 38)[0], tmp_path)
    values = sorted({VVENC_ALLOWED[name][0], VVENC_ALLOWED[name][1], VVENC_ALLOWED[name][-1]})
    coded, refusals = 0, list[str]()
    for value in values:
        codec = open_video_codec("ffmpeg", EncoderSettings(parameters={name: str(value)}))
        try:
            streams = codec.encode([make_frame(SHAPE), make_frame(SHAPE, seed=1)], 38)
        except EncoderError as error:
            refusals.append(str(error))
            continue
        coded += 1
        headers = headers_of(streams[0], tmp_path)
        assert slice_qp(headers) == 38
        assert headers["pps_chroma_tool_offsets_present_flag"] == 0
        for field in ("general_profile_idc", "sps_chroma_format_idc", "sps_bitdepth_minus8"):
            assert headers[field] == plain[field]
        types = [nal.nal_type(unit) for unit in nal.split_units(streams[0])]
        assert [kind for kind in types if kind != nal.PREFIX_APS] == [nal.SPS, nal.PPS, nal.IDR_N_LP]
        assert codec.decode(streams[0], SHAPE).shape == SHAPE
        assert codec.encode([make_frame(SHAPE)], 38)[0] == streams[0]
    assert coded
    assert all("check `encoder_parameters`" in refusal for refusal in refusals)
