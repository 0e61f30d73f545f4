"""The contract of `featcodec.video`, held against every codec that is installed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from make_frames import make_frame, noise

from featcodec.bitstream import nal
from featcodec.errors import BitstreamError, EncoderError, InputError
from featcodec.video import PRESETS, EncoderSettings, Frame, VideoCodec, open_video_codec
from featcodec.video.base import coded_shape, from_10_bits, split_batch, to_yuv420p10
from featcodec.video.embedded import decode_picture
from featcodec.video.ffmpeg import FfmpegCodec
from featcodec.video.hevc import HARDWARE
from featcodec.video.profiles import HEVC_PROFILES
from featcodec.video.settings import X265

SHAPE = (64, 96)
EXECUTABLE = {"ffmpeg": "executable", "vvenc": "encoder"}


def installed(name: str, preset: str = "faster", parameters: Mapping[str, str] | None = None) -> VideoCodec:
    """The codec, or a skip that says why it is not there."""
    try:
        if name in ("hevc", "none"):
            return open_video_codec(name)
        return open_video_codec(name, EncoderSettings(preset, dict(parameters or {})))
    except EncoderError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["ffmpeg", "vvenc"])
def vvc(request: pytest.FixtureRequest) -> VideoCodec:
    return installed(request.param)


@pytest.fixture(params=["ffmpeg", "vvenc", "hevc"])
def coder(request: pytest.FixtureRequest) -> VideoCodec:
    """Every video codec that codes."""
    return installed(request.param)


@pytest.fixture(params=["ffmpeg", "vvenc", "hevc", "none"])
def codec(request: pytest.FixtureRequest) -> VideoCodec:
    return installed(request.param)


def encode(codec: VideoCodec, frame: Frame, qp: int) -> bytes:
    (stream,) = codec.encode([frame], qp)
    return stream


def slices(stream: bytes) -> list[bytes]:
    return [unit for unit in nal.split_units(stream) if nal.is_slice(unit)]


def slice_bytes(stream: bytes) -> int:
    return sum(map(len, slices(stream)))


def errors(codec: VideoCodec, frame: Frame, qp: int) -> npt.NDArray[np.int_]:
    """How far each decoded sample is off."""
    decoded = codec.decode(encode(codec, frame, qp), frame.shape)
    assert decoded.dtype == np.uint8
    assert decoded.shape == frame.shape
    return np.abs(decoded.astype(int) - frame)


# Fidelity.


@pytest.mark.parametrize("shape", [SHAPE, (128, 128)])
@pytest.mark.parametrize("seed", range(4))
def test_qp_0_is_within_1_of_every_sample(codec: VideoCodec, shape: tuple[int, int], seed: int) -> None:
    off = errors(codec, make_frame(shape, seed), 0)
    if codec.name == "none":
        assert off.max() == 0
    else:
        # VVenC's rate-distortion optimization misses by 2 in about one of 10,000 samples that are as noisy as these.
        assert off.max() <= 2
        assert np.count_nonzero(off > 1) <= 3
        assert np.square(off).mean() < 0.05


@pytest.mark.parametrize("qp", [0, 40])
@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_flat_frames_come_back_exactly(codec: VideoCodec, qp: int, value: int) -> None:
    # In 8 bits, the DC coefficient of a block of 16x16 is coarser than that of VVC's blocks in 10 bits.
    assert errors(codec, np.full(SHAPE, value, np.uint8), qp).max() <= (2 if codec.name == "hevc" and qp else 0)


@pytest.mark.slow
def test_real_features_at_qp_0_are_within_1(coder: VideoCodec, shared: Path, yolov5n_path: Path) -> None:
    from featcodec.codec import FeatureCodec
    from featcodec.images.reading import read_image

    picture = min((shared / "data" / "coco128").rglob("*.jpg"))
    features = FeatureCodec.load(yolov5n_path, bottleneck=None, device="cpu")
    ((_, frame),) = features.front_end([features.letterbox(read_image(picture))], 0)
    assert frame.std() > 1
    assert errors(coder, frame, 0).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", ["none", "auto"])
def test_features_of_a_scene_at_qp_0_are_within_1(coder: VideoCodec, drawn_scenes: Path, bottleneck: str) -> None:
    from featcodec.codec import FeatureCodec
    from featcodec.images.reading import read_image

    features = FeatureCodec.load("scenes", bottleneck=bottleneck, device="cpu")
    image = read_image(min((drawn_scenes / "images").iterdir()))
    ((_, frame),) = features.front_end([features.letterbox(image)], 0)
    assert frame.std() > 1
    assert errors(coder, frame, 0).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (16, 8), (8, 16), (1, 70), (70, 1), (31, 33), (130, 66)])
@pytest.mark.parametrize("qp", [0, 38])
def test_odd_and_tiny_frames_come_back_in_shape(codec: VideoCodec, shape: tuple[int, int], qp: int) -> None:
    off = errors(codec, make_frame(shape), qp)
    if qp == 0:
        assert off.max() <= 2
        assert np.count_nonzero(off > 1) <= 3


@pytest.mark.parametrize("shape", [(8, 8), (16, 20)])
def test_tiny_frames_are_coded_even_when_noisy(coder: VideoCodec, shape: tuple[int, int]) -> None:
    assert errors(coder, noise(shape), 0).max() <= 2


# QP and settings.


@pytest.mark.slow
def test_qp_is_not_shifted() -> None:
    frame = make_frame((128, 128))
    codec, shifted = installed("ffmpeg"), installed("ffmpeg", "faster")
    object.__setattr__(shifted.settings, "parameters", {"IntraQPOffset": "-3"})  # type: ignore[attr-defined]
    for qp in (24, 30, 36):
        # By VVenC's own offset of -3, the slice at QP q is bit for bit the one that we get at QP q - 3.
        assert slices(encode(shifted, frame, qp)) == slices(encode(codec, frame, qp - 3))
        assert slices(encode(shifted, frame, qp)) != slices(encode(codec, frame, qp))


@pytest.mark.slow
def test_a_higher_qp_gives_fewer_bytes_and_a_larger_error(coder: VideoCodec) -> None:
    frame = make_frame((128, 128))
    streams = [encode(coder, frame, qp) for qp in (0, 20, 30, 40, coder.standard.max_qp)]
    sizes = [slice_bytes(stream) for stream in streams]
    assert sizes == sorted(set(sizes), reverse=True)
    losses = [float(np.square(coder.decode(stream, frame.shape) - frame.astype(float)).mean()) for stream in streams]
    assert losses == sorted(set(losses))


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS[:3])
def test_presets_are_applied(preset: str) -> None:
    frames = [make_frame(SHAPE, seed) for seed in range(8)]
    codec = installed("ffmpeg", preset)
    streams = codec.encode(frames, 30)
    assert streams == [encode(codec, frame, 30) for frame in frames]
    assert (streams == installed("ffmpeg").encode(frames, 30)) == (preset == "faster")


def test_parameters_reach_the_encoder(vvc: VideoCodec) -> None:
    frame = make_frame(SHAPE)
    tuned = installed(vvc.name, parameters={"DepQuant": "1", "SignHideFlag": "0"})
    stream = encode(tuned, frame, 30)
    assert stream != encode(vvc, frame, 30)
    assert vvc.decode(stream, SHAPE).shape == SHAPE


@pytest.mark.parametrize("parameters", [{"LoopFilterDisable": "1", "EDO": "2"}, {"DepQuant": "1"}])
def test_a_bad_parameter_is_an_error(vvc: VideoCodec, parameters: dict[str, str]) -> None:
    with pytest.raises(EncoderError, match="`encoder_parameters`"):
        encode(installed(vvc.name, parameters=parameters), make_frame(SHAPE), 30)


@pytest.mark.parametrize("qp", [-1, 64, 255])
def test_an_impossible_qp_is_refused(coder: VideoCodec, qp: int) -> None:
    with pytest.raises(InputError, match=f"QP {qp} is not a whole number from 0 to {coder.standard.max_qp}"):
        encode(coder, make_frame(SHAPE), qp)


def test_a_qp_beyond_hevc_is_refused() -> None:
    with pytest.raises(InputError, match="QP 52 is not a whole number from 0 to 51"):
        encode(installed("hevc"), make_frame(SHAPE), 52)


# Batches.


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 7, 8, 10, 16])
def test_batches_give_the_same_bytes_and_samples_as_single_frames(codec: VideoCodec, count: int) -> None:
    frames = [make_frame(SHAPE, seed) for seed in range(count)]
    batch = codec.encode(frames, 30)
    assert batch == [encode(codec, frame, 30) for frame in frames]
    assert len(set(batch)) == count
    for stream, frame in zip(batch, frames, strict=True):
        decoded = codec.decode(stream, SHAPE)
        others = [other for other in frames if other is not frame]
        error = np.abs(decoded.astype(int) - frame).mean()
        assert all(error < np.abs(decoded.astype(int) - other).mean() for other in others)


@pytest.mark.slow
def test_neighbours_do_not_leak_into_a_frame(coder: VideoCodec) -> None:
    frame = make_frame(SHAPE)
    alike = [make_frame(SHAPE, 0) for _ in range(4)]
    unlike = [255 - make_frame(SHAPE, seed) for seed in range(1, 5)]
    for qp in (20, 38):
        beside_alike = coder.encode([*alike[:2], frame, *alike[2:]], qp)[2]
        beside_unlike = coder.encode([*unlike[:2], frame, *unlike[2:]], qp)[2]
        assert beside_alike == beside_unlike == encode(coder, frame, qp)


@pytest.mark.slow
def test_picture_numbers_that_wrap_do_not_show() -> None:
    codec = installed("ffmpeg")
    frames = [np.full((8, 8), 255 - number % 256, np.uint8) for number in range(260)]
    streams = codec.encode(frames, 30)
    assert len(streams) == 260
    for number in (0, 1, 255, 256, 259):
        assert streams[number] == encode(codec, frames[number], 30)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_threads_change_no_byte(codec: VideoCodec, threads: int) -> None:
    frames = [make_frame((128, 128), seed) for seed in range(3)]
    assert codec.encode(frames, 30, threads=threads) == [encode(codec, frame, 30) for frame in frames]


def test_a_batch_of_different_or_no_frames_is_refused(codec: VideoCodec) -> None:
    for frames in ([], [make_frame(SHAPE), make_frame((96, 64))]):
        with pytest.raises(InputError, match="frames of one shape"):
            codec.encode(frames, 30)


def test_every_picture_of_a_batch_is_counted(coder: VideoCodec) -> None:
    frames: Sequence[Frame] = [make_frame(SHAPE, seed) for seed in range(3)]
    streams = coder.encode(frames, 30)
    joined = b"".join(streams)
    assert len(split_batch(joined, 3, "test")) == 3
    for delivered, asked in ((joined, 4), (joined, 2), (streams[0], 2), (b"", 1)):
        with pytest.raises(EncoderError, match=rf"delivered \d of {asked} pictures") as caught:
            split_batch(delivered, asked, "test")
        assert "`batch` 1" in str(caught.value)
    parameter_sets_only = nal.join_units(nal.split_units(streams[0])[:-1])
    with pytest.raises(EncoderError, match="delivered 2 of 3"):
        split_batch(streams[0] + streams[1] + parameter_sets_only, 3, "test")


# What a stream holds.


@pytest.mark.slow
def test_a_stream_is_one_intra_picture_of_known_nal_units(vvc: VideoCodec) -> None:
    for qp in (0, 20, 38):
        units = nal.split_units(encode(vvc, make_frame((128, 128)), qp))
        types = [nal.nal_type(unit) for unit in units]
        assert types[-1] == nal.IDR_N_LP
        assert set(types[:-1]) <= {nal.VPS, nal.SPS, nal.PPS, nal.PREFIX_APS}
        assert types.count(nal.SPS) == types.count(nal.PPS) == 1


@pytest.mark.parametrize("shape", [(512, 640), (66, 98), (8, 8)])
def test_the_parameter_sets_of_the_embedded_encoder_are_small(shape: tuple[int, int]) -> None:
    units = nal.split_units(encode(installed("ffmpeg"), make_frame(shape), 46))
    sizes = {nal.nal_type(unit): len(unit) for unit in units[:-1]}
    assert sizes.keys() == {nal.SPS, nal.PPS}
    assert sizes[nal.SPS] <= 24
    assert sizes[nal.PPS] <= 11


@pytest.mark.slow
@pytest.mark.parametrize("qp", [0, 30, 46])
def test_gray_pictures_spend_nothing_on_chroma_and_have_the_same_samples(qp: int) -> None:
    codec, shape = installed("ffmpeg"), (128, 192)
    assert isinstance(codec, FfmpegCodec)
    frame = make_frame(shape)
    gray, coloured = (codec.encode_raw([to_yuv420p10(frame)], shape, qp, 1, gray=gray)[0] for gray in (True, False))
    assert encode(codec, frame, qp) == gray
    assert len(gray) < len(coloured)
    assert slice_bytes(gray) < slice_bytes(coloured)
    assert [decode_picture(stream, [shape]).format.name for stream in (gray, coloured)] == ["gray10le", "yuv420p10le"]
    assert np.array_equal(codec.decode(gray, shape), codec.decode(coloured, shape))


def test_text_that_the_encoder_prints_stays_out_of_the_stream(
    vvc: VideoCodec, capfd: pytest.CaptureFixture[str]
) -> None:
    # With these settings VVenC prints "Configuration warning: ..." to stdout.
    stream = encode(vvc, make_frame(SHAPE), 30)
    assert b"onfiguration" not in stream
    assert nal.is_slice(nal.split_units(stream)[-1])
    for name in ("ffmpeg", "vvenc"):
        try:
            decoder = open_video_codec(name)
        except EncoderError:
            continue
        assert decoder.decode(stream, SHAPE).shape == SHAPE
    assert capfd.readouterr() == ("", "")


def test_every_decoder_gets_the_same_samples() -> None:
    codecs = [installed("ffmpeg"), installed("vvenc")]
    for encoder in codecs:
        for qp in (0, 30, 38):
            stream = encode(encoder, make_frame((128, 128)), qp)
            first, second = (decoder.decode(stream, (128, 128)) for decoder in codecs)
            assert np.array_equal(first, second)


# Failing encoders.


def with_encoder(codec: VideoCodec, folder: Path, script: str) -> VideoCodec:
    """The codec with a shell script in place of its encoder."""
    program = folder / "encoder"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    setattr(codec, EXECUTABLE[codec.name], str(program))
    return codec


def test_noise_at_qp_0_comes_back_though_it_outgrows_the_encoders_buffer(coder: VideoCodec) -> None:
    frame = noise((128, 128))
    stream = encode(coder, frame, 0)
    assert len(stream) > frame.size
    assert np.abs(coder.decode(stream, frame.shape).astype(int) - frame).max() <= 1


@pytest.mark.slow
def test_noise_does_not_change_the_bytes_of_its_batch(coder: VideoCodec) -> None:
    frames = [make_frame((128, 128)), noise((128, 128)), make_frame((128, 128), seed=1)]
    assert coder.encode(frames, 0) == [encode(coder, frame, 0) for frame in frames]


def test_a_frame_that_even_a_doubled_picture_cannot_hold_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    body = "echo 'Error submitting video frame to the encoder' >&2; exit 187"
    with pytest.raises(EncoderError, match=r"higher QP.*`video_codec` vvenc"):
        encode(with_encoder(installed("ffmpeg"), tmp_path, body), make_frame(SHAPE), 0)


def test_a_killed_encoder_is_an_error_that_names_the_signal(vvc: VideoCodec, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="killed by SIGKILL"):
        encode(with_encoder(vvc, tmp_path, "kill -KILL $$"), make_frame(SHAPE), 30)


def test_an_encoder_that_fails_is_quoted(vvc: VideoCodec, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="ended with code 3 and said: out of luck"):
        encode(with_encoder(vvc, tmp_path, "echo out of luck >&2; exit 3"), make_frame(SHAPE), 30)


def test_an_encoder_that_delivers_nothing_is_an_error(vvc: VideoCodec, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="delivered 0 of 1 pictures"):
        encode(with_encoder(vvc, tmp_path, "exit 0"), make_frame(SHAPE), 30)


def test_an_encoder_that_delivers_an_empty_file_is_an_error(vvc: VideoCodec, tmp_path: Path) -> None:
    # ffmpeg's output is its last argument; vvencapp's follows --output.
    script = 'for last in "$@"; do [ "$before" = --output ] && out=$last; before=$last; done; : > "${out:-$last}"'
    with pytest.raises(EncoderError, match="delivered 0 of 1 pictures"):
        encode(with_encoder(vvc, tmp_path, script), make_frame(SHAPE), 30)


def test_a_missing_encoder_is_an_error(vvc: VideoCodec, tmp_path: Path) -> None:
    setattr(vvc, EXECUTABLE[vvc.name], str(tmp_path / "missing"))
    with pytest.raises(EncoderError, match="missing cannot be started"):
        encode(vvc, make_frame(SHAPE), 30)


def test_nothing_is_left_in_the_temporary_folder(
    vvc: VideoCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    encode(vvc, make_frame(SHAPE), 30)
    with pytest.raises(EncoderError):
        encode(installed(vvc.name, parameters={"LoopFilterDisable": "1", "EDO": "2"}), make_frame(SHAPE), 30)
    assert list(tmp_path.iterdir()) == []


# Streams that are not what they should be.


@pytest.mark.parametrize("shape", [(96, 64), (64, 64), (62, 96), (66, 96), (128, 128), (1, 1), (1000, 1000)])
def test_another_shape_than_expected_is_refused(codec: VideoCodec, shape: tuple[int, int]) -> None:
    if codec.name == "none" and shape == (96, 64):
        pytest.skip("raw samples do not say how they lie")
    with pytest.raises(BitstreamError):
        codec.decode(encode(codec, make_frame(SHAPE), 38), shape)


@pytest.mark.parametrize("shape", [(1504, 1504), (32, 4256), pytest.param((4096, 4096), marks=pytest.mark.slow)])
def test_frames_of_large_pictures_come_back(coder: VideoCodec, shape: tuple[int, int]) -> None:
    """From 2,228,225 samples, or sides over 4222, HEVC's levels allow no blocks of 16x16 as the largest."""
    for profile in HEVC_PROFILES if coder.name == "hevc" else [None]:
        codec = coder if profile is None else open_video_codec("hevc", HEVC_PROFILES[profile].bottleneck)
        frame = np.repeat(np.arange(shape[1], dtype=np.int64)[None] // 16 % 200, shape[0], 0).astype(np.uint8)
        assert errors(codec, frame, 30).mean() < 2


@pytest.mark.parametrize("name", ["ffmpeg", "hevc"])
def test_a_picture_larger_than_expected_is_refused_before_it_is_decoded(name: str) -> None:
    codec = installed(name)
    stream = encode(codec, np.full((1024, 1024), 7, np.uint8), 38)
    with pytest.raises(BitstreamError, match="does not decode"):
        codec.decode(stream, SHAPE)


@pytest.mark.parametrize(
    "stream", [b"", b"\0", b"garbage" * 40, b"\0\0\1", b"\0\0\0\1\0\x41", noise((1, 999)).tobytes()]
)
def test_garbage_is_refused(codec: VideoCodec, stream: bytes) -> None:
    for start in (b"", b"\0\0\0\1"):
        with pytest.raises(BitstreamError):
            codec.decode(start + stream, SHAPE)


def test_two_pictures_are_refused(codec: VideoCodec) -> None:
    first, second = codec.encode([make_frame(SHAPE, 0), make_frame(SHAPE, 1)], 38)
    with pytest.raises(BitstreamError):
        codec.decode(first + second, SHAPE)


def test_a_stream_without_its_parameter_sets_or_its_slice_is_refused(coder: VideoCodec) -> None:
    units = nal.split_units(encode(coder, make_frame(SHAPE), 38))
    for kept in (units[1:], units[:-1], units[-1:]):
        with pytest.raises(BitstreamError):
            coder.decode(nal.join_units(kept), SHAPE)


@pytest.mark.parametrize("name", ["ffmpeg", "hevc"])
def test_damaged_streams_decode_to_a_frame_or_are_refused(name: str) -> None:
    # The CRC of featcodec.bitstream.format finds the damage; the decoder only must not fail in another way.
    codec = installed(name)
    stream = encode(codec, make_frame(SHAPE), 38)
    for bit in range(0, 8 * len(stream), 7):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert codec.decode(bytes(damaged), SHAPE).shape == SHAPE
        except BitstreamError:
            continue


def test_raw_samples_and_pictures_are_told_apart() -> None:
    raw, ffmpeg = open_video_codec("none"), installed("ffmpeg")
    with pytest.raises(BitstreamError, match="raw samples"):
        raw.decode(encode(ffmpeg, make_frame(SHAPE), 38), SHAPE)
    with pytest.raises(BitstreamError):
        ffmpeg.decode(encode(raw, make_frame(SHAPE), 38), SHAPE)


# The sample format.


@pytest.mark.parametrize(
    ("shape", "coded"), [((1, 1), (32, 32)), ((64, 96), (64, 96)), ((33, 65), (34, 66)), ((32, 31), (32, 32))]
)
def test_the_picture_of_a_frame(shape: tuple[int, int], coded: tuple[int, int]) -> None:
    assert coded_shape(shape) == coded
    frame = noise(shape)
    picture = np.frombuffer(to_yuv420p10(frame), "<u2")
    luma, chroma = picture[: coded[0] * coded[1]].reshape(coded), picture[coded[0] * coded[1] :]
    assert chroma.tolist() == [512] * (coded[0] * coded[1] // 2)
    assert np.array_equal(luma[: shape[0], : shape[1]], frame.astype(int) * 4)
    assert (luma[shape[0] :] == luma[shape[0] - 1]).all()
    assert (luma[:, shape[1] :] == luma[:, shape[1] - 1 : shape[1]]).all()
    assert np.array_equal(from_10_bits(luma, shape), frame)


def test_decoded_samples_are_rounded_to_nearest_and_never_wrap() -> None:
    luma = np.array([[0, 1, 2, 5, 6, 1017, 1018, 1021, 1022, 1023]], np.uint16)
    assert from_10_bits(luma, (1, 10)).tolist() == [[0, 0, 1, 1, 2, 254, 255, 255, 255, 255]]


def test_parameters_whose_stream_does_not_decode_are_an_error() -> None:
    """4:2:0 in 8 bits, forced upon the codec behind the back of its settings, as a new VVenC option might do it."""
    codec = installed("ffmpeg", parameters={"ISP": "1"})
    object.__setattr__(codec.settings, "parameters", {"InternalBitDepth": "8"})
    with pytest.raises(EncoderError, match="does not decode"):
        encode(codec, make_frame(SHAPE), 30)


# HEVC.


def x265(preset: str = "superfast", parameters: Mapping[str, str] | None = None) -> VideoCodec:
    return open_video_codec("hevc", EncoderSettings(preset, dict(parameters or {}), encoder=X265))


def test_an_hevc_stream_is_one_idr_picture_with_small_parameter_sets() -> None:
    for shape in ((512, 640), (66, 98), (8, 8)):
        units = nal.split_units(encode(installed("hevc"), make_frame(shape), 38))
        types = [nal.nal_type(unit) for unit in units]
        assert types == [nal.HEVC_VPS, nal.HEVC_SPS, nal.HEVC_PPS, nal.HEVC_IDR_N_LP]
        assert sum(map(len, units[:3])) <= 62


def test_an_hevc_picture_is_gray_in_8_bits() -> None:
    stream = encode(installed("hevc"), make_frame(SHAPE), 38)
    assert decode_picture(stream, [SHAPE]).format.name == "gray"


@pytest.mark.parametrize("parameters", [{}, {"no-deblock": "1"}, {"sao": "1"}, {"rdoq-level": "2", "signhide": "1"}])
def test_loop_filters_do_not_number_the_pictures_of_a_batch(parameters: dict[str, str]) -> None:
    codec = x265(parameters=parameters)
    frames = [make_frame(SHAPE, seed) for seed in range(4)]
    assert codec.encode(frames, 30) == [encode(codec, frame, 30) for frame in frames]


@pytest.mark.slow
@pytest.mark.parametrize("preset", X265.presets)
def test_presets_of_x265_are_applied(preset: str) -> None:
    frames = [make_frame((128, 128), seed) for seed in range(3)]
    codec = x265(preset)
    streams = codec.encode(frames, 20)
    assert streams == [encode(codec, frame, 20) for frame in frames]
    assert (streams == x265("ultrafast").encode(frames, 20)) == (preset == "ultrafast")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "values"), X265.allowed.items())
def test_every_parameter_of_x265_makes_streams_that_decode(name: str, values: Sequence[int]) -> None:
    frame, plain = make_frame((96, 128)), encode(x265(), make_frame((96, 128)), 34)
    usual = slice_bytes(plain)
    for value in (values[0], values[-1]):
        codec = x265(parameters={name: str(value)})
        stream = encode(codec, frame, 34)
        error_of = [np.square(codec.decode(each, frame.shape).astype(float) - frame).mean() for each in (stream, plain)]
        # The QP is that of the caller: a parameter that changed it would change error and size by far more.
        assert 0.4 < (error_of[0] + 1) / (error_of[1] + 1) < 2.5
        assert 0.4 < slice_bytes(stream) / usual < 2.5


def test_settings_that_went_to_another_process_open_their_codec() -> None:
    for name, settings in (("hevc", HEVC_PROFILES["fast"].latent), ("ffmpeg", EncoderSettings("fast", {"ISP": "1"}))):
        copied = pickle.loads(pickle.dumps(settings))
        assert copied == settings
        assert open_video_codec(name, copied).tag == open_video_codec(name, settings).tag


def test_the_settings_of_another_encoder_are_refused() -> None:
    with pytest.raises(InputError, match="`video_codec` hevc does not take settings of VVenC"):
        open_video_codec("hevc", EncoderSettings())
    with pytest.raises(InputError, match="`video_codec` ffmpeg does not take settings of x265"):
        open_video_codec("ffmpeg", HEVC_PROFILES["fast"].latent)
    with pytest.raises(InputError, match="unknown preset 'ultrafast' of VVenC; choose one of faster, fast"):
        EncoderSettings("ultrafast")
    with pytest.raises(InputError, match="encoder parameter qp is not allowed"):
        EncoderSettings("fast", {"qp": "3"}, encoder=X265)


@pytest.mark.parametrize("hardware", HARDWARE)
def test_hardware_that_is_not_there_is_an_error_with_its_remedy(hardware: str) -> None:
    codec = open_video_codec("hevc", hardware=hardware)
    with pytest.raises(
        EncoderError, match=f"^hevc_{hardware} does not encode these frames .*leave out `hardware`"
    ) as caught:
        encode(codec, make_frame((256, 320)), 30)
    assert "\n" not in str(caught.value)


def test_hardware_is_for_hevc() -> None:
    with pytest.raises(InputError, match="`hardware` nvenc needs `video_codec` hevc"):
        open_video_codec("ffmpeg", hardware="nvenc")
    with pytest.raises(InputError, match="unknown `hardware` 'vaapi'; choose one of nvenc, v4l2m2m, qsv"):
        open_video_codec("hevc", hardware="vaapi")
    assert len({open_video_codec("hevc", hardware=name).tag for name in (None, *HARDWARE)}) == 1 + len(HARDWARE)


def test_every_codec_decodes_both_standards(coder: VideoCodec) -> None:
    frame = make_frame(SHAPE)
    for maker in (installed("ffmpeg"), installed("hevc")):
        stream = encode(maker, frame, 30)
        assert np.array_equal(coder.decode(stream, SHAPE), maker.decode(stream, SHAPE))


def test_a_stream_of_two_standards_is_refused(coder: VideoCodec) -> None:
    vvc, hevc = (encode(installed(name), make_frame(SHAPE), 38) for name in ("ffmpeg", "hevc"))
    for stream in (vvc + hevc, hevc + vvc):
        with pytest.raises(BitstreamError):
            coder.decode(stream, SHAPE)
