"""FeatureCodec: the whole path for one picture, with real VVC."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import texture
from PIL import Image

from featcodec import Detections, FeatureCodec, bitstream
from featcodec.detections import BoxFilter
from featcodec.errors import BitstreamError, InputError, WeightsError
from featcodec.images.reading import read_image
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.networks.catalogue import Shipped
from featcodec.networks.restoration import Restoration, RestorationConfig, save_restoration


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, image_size=160)


def make_bottleneck(path: Path, codec: FeatureCodec, channels: int = 6) -> Path:
    torch.manual_seed(0)
    features = codec.model.detector.feature_shapes(64, 64)[0][0]
    fingerprint = codec.model.detector.fingerprint.hex()
    config = BottleneckConfig(features, 10, channels, -3.0, 3.0, codec.model.split, fingerprint, {"stage": "test"})
    save_bottleneck(path, Bottleneck(config))
    return path


def test_encode_gives_a_stream_that_decodes_to_detections_in_the_picture(codec: FeatureCodec) -> None:
    image = texture(200, 120)
    data = codec.encode(image, qp=30)
    side_info, _ = bitstream.unpack(data)
    assert (side_info.original_width, side_info.original_height) == (200, 120)
    assert (side_info.letterboxed_width, side_info.letterboxed_height) == (160, 96)
    assert (side_info.channels, side_info.feature_height, side_info.feature_width) == (16, 12, 20)
    assert (side_info.tile_rows, side_info.tile_cols, side_info.qp) == (4, 4, 30)
    detections = codec.decode(data)
    assert isinstance(detections, Detections)
    assert len(detections) > 0
    assert detections.xyxy.min() >= 0
    assert (detections.xyxy <= [200, 120, 200, 120]).all()
    assert (np.diff(detections.scores) <= 0).all()


def test_encode_is_deterministic(codec: FeatureCodec) -> None:
    image = texture(160, 120)
    assert codec.encode(image, 35) == codec.encode(image, 35)


@pytest.mark.parametrize("video_codec", ["ffmpeg", "none"])
def test_a_pickled_copy_codes_the_same(tiny_yolov5: Path, tmp_path: Path, video_codec: str) -> None:
    """Other processes, also on other machines, get the codec this way."""
    plain = FeatureCodec.load(tiny_yolov5, image_size=160)
    bottleneck = make_bottleneck(tmp_path / "bottleneck.safetensors", plain)
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=bottleneck, image_size=160, video_codec=video_codec)
    copied = pickle.loads(pickle.dumps(codec))
    image = texture(200, 120)
    data = codec.encode(image)
    assert copied.encode(image) == data
    assert np.array_equal(copied.decode(data).xyxy, codec.decode(data).xyxy)
    assert copied.fingerprint == codec.fingerprint


def test_fine_quantization_approaches_the_uncoded_detector(codec: FeatureCodec) -> None:
    """The lower the QP, the nearer the decoded feature tensor; bypassing VVC leaves the quantizer's half step."""
    image = texture(160, 120)
    batch = [codec.letterbox(image)]
    with torch.inference_mode():
        pixels = torch.from_numpy(batch[0].pixels).permute(2, 0, 1)[None] / 255
        features = codec.model.detector.front(pixels)[0].numpy()
    clipped = np.clip(features, codec.packing.quantizer.low, codec.packing.quantizer.high)

    def error(data: bytes) -> float:
        side_info, frame = codec.decode_frame(data)
        tiles = frame.reshape(
            side_info.tile_rows, side_info.feature_height, side_info.tile_cols, side_info.feature_width
        )
        samples = tiles.transpose(0, 2, 1, 3).reshape(features.shape)
        return float(np.abs(codec.packing.quantizer.dequantize(samples) - clipped).max())

    raw = dataclasses.replace(codec, video_codec=FeatureCodec.load.__globals__["open_video_codec"]("none"))
    assert error(raw.encode(image, 0)) <= codec.packing.quantizer.step * 0.501
    assert error(codec.encode(image, 0)) <= codec.packing.quantizer.step * 1.501
    assert error(codec.encode(image, 5)) < error(codec.encode(image, 40))


@pytest.mark.parametrize("split", range(5))
def test_every_split_codes_and_decodes(tiny_yolov5: Path, split: int) -> None:
    codec = FeatureCodec.load(tiny_yolov5, image_size=96, split=split, clip=(-1, 3))
    data = codec.encode(texture(96, 64), 25)
    assert bitstream.unpack(data)[0].split == split
    assert len(codec.decode(data)) > 0


def test_a_codec_of_another_split_decodes_by_the_header(tiny_yolov5: Path, codec: FeatureCodec) -> None:
    data = FeatureCodec.load(tiny_yolov5, image_size=96, split=2).encode(texture(96, 64), 25)
    assert len(codec.decode(data)) > 0


def test_the_anchor_free_detector_takes_the_same_path(tiny_yolov5u: Path) -> None:
    codec = FeatureCodec.load(tiny_yolov5u, image_size=96)
    assert len(codec.decode(codec.encode(texture(96, 64), 25))) > 0


def test_bottleneck_codes_fewer_channels_and_is_named_in_the_fingerprint(
    tmp_path: Path, tiny_yolov5: Path, codec: FeatureCodec
) -> None:
    path = make_bottleneck(tmp_path / "b.safetensors", codec)
    learned = FeatureCodec.load(tiny_yolov5, bottleneck=path, image_size=160)
    data = learned.encode(texture(160, 120), 30)
    side_info, _ = bitstream.unpack(data)
    assert (side_info.channels, side_info.tile_rows, side_info.tile_cols) == (6, 2, 3)
    assert (side_info.clip_low, side_info.clip_high) == (-3.0, 3.0)
    assert len(learned.decode(data)) > 0
    with pytest.raises(WeightsError, match=rf"{learned.fingerprint.hex()}.*{codec.fingerprint.hex()}"):
        codec.decode(data)


def test_bottleneck_of_another_detector_is_refused(tmp_path: Path, tiny_yolov5u: Path, codec: FeatureCodec) -> None:
    path = make_bottleneck(tmp_path / "b.safetensors", codec)
    with pytest.raises(WeightsError, match="trained behind the detector"):
        FeatureCodec.load(tiny_yolov5u, bottleneck=path)


def test_a_forged_header_is_refused_before_the_networks_run(codec: FeatureCodec) -> None:
    side_info, stream = bitstream.unpack(codec.encode(texture(160, 96), 40))
    for change in (
        {"channels": 15},
        {"split": 2},
        {"letterboxed_width": side_info.letterboxed_width * 2},
        {"feature_height": 24, "letterboxed_height": 192},
    ):
        with pytest.raises(BitstreamError):
            codec.decode(bitstream.pack(dataclasses.replace(side_info, **change), stream))


@pytest.mark.parametrize("split", range(4))
def test_no_forged_split_passes_behind_a_bottleneck(
    tmp_path: Path, tiny_yolov5: Path, codec: FeatureCodec, split: int
) -> None:
    """Its channels are the same behind every split; the split itself is what the bottleneck was trained behind."""
    path = make_bottleneck(tmp_path / "b.safetensors", codec)
    learned = FeatureCodec.load(tiny_yolov5, bottleneck=path, image_size=128)
    side_info, stream = bitstream.unpack(learned.encode(texture(128, 128), 40))
    side = side_info.feature_width * 128 // learned.model.detector.at(split).feature_shapes(128, 128)[0][2]
    forged = dataclasses.replace(side_info, split=split, letterboxed_width=side, letterboxed_height=side)
    with pytest.raises(BitstreamError, match="damaged or forged"):
        learned.decode(bitstream.pack(forged, stream))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
        "not-there.jpg",
        3,
        None,
        Image.new("F", (10, 10)),
    ],
    ids=["gray", "four channels", "float", "empty", "missing", "number", "none", "float image"],
)
def test_what_is_not_an_image_is_refused(codec: FeatureCodec, image: np.ndarray) -> None:
    with pytest.raises(InputError):
        codec.encode(image)


@pytest.mark.parametrize("qp", [-1, 64, 38.5])
def test_qp_out_of_range_is_refused(codec: FeatureCodec, qp: float) -> None:
    with pytest.raises(InputError, match="from 0 to 63"):
        codec.encode(texture(96, 64), qp)  # type: ignore[arg-type]


def test_box_filter_limits_boxes_and_scores(tiny_yolov5: Path) -> None:
    codec = FeatureCodec.load(tiny_yolov5, image_size=96, boxes=BoxFilter(conf=0.1, max_det=5))
    detections = codec.detect(texture(96, 64))
    assert 0 < len(detections) <= 5
    assert detections.scores.min() > 0.1


@pytest.mark.slow
def test_latent_at_qp_39_on_a_photograph(yolov5n_path: Path, shared: Path) -> None:
    """The real detector finds in the decoded stream what it finds in the picture."""
    codec = FeatureCodec.load(yolov5n_path, bottleneck=None)
    image = read_image(shared / "data/coco128/images/val2017/000000000139.jpg")
    data = codec.encode(image, 39)
    assert len(data) < 15_000
    sure = [names(detections) for detections in (codec.detect(image), codec.decode(data))]
    assert sure[0][:2] == sure[1][:2]


@pytest.mark.slow
def test_the_default_coding_of_a_scene(drawn_scenes: Path) -> None:
    """The detector that ships finds in the decoded stream what it finds in the picture; so with latent features."""
    for bottleneck, most_bytes in (("auto", 20_000), ("none", 60_000)):
        codec = FeatureCodec.load("scenes", bottleneck=bottleneck)
        for path in sorted((drawn_scenes / "images").iterdir())[:3]:
            image = read_image(path)
            data = codec.encode(image)
            assert len(data) < most_bytes
            before, after = codec.detect(image), codec.decode(data)
            assert names(before, 0.8)
            assert set(names(before, 0.8)) <= set(names(after, 0.3))
            assert set(names(after, 0.8)) <= set(names(before, 0.3))


def names(detections: Detections, least: float = 0.6) -> list[str]:
    return sorted({detections.names[index] for index in detections.class_ids[detections.scores > least]})


def test_qps_of_numpy_sweeps_are_taken(codec: FeatureCodec) -> None:
    image = texture(96, 64)
    assert codec.encode(image, np.int64(40)) == codec.encode(image, 40)  # type: ignore[arg-type]


def test_half_precision_does_not_change_the_fingerprint(tmp_path: Path, tiny_yolov5: Path, codec: FeatureCodec) -> None:
    path = make_bottleneck(tmp_path / "b.safetensors", codec)
    whole, half = (FeatureCodec.load(tiny_yolov5, bottleneck=path, half=half) for half in (False, True))
    assert half.model.bottleneck is not None
    assert next(half.model.bottleneck.parameters()).dtype == torch.float16
    assert half.fingerprint == whole.fingerprint


def ship(monkeypatch: pytest.MonkeyPatch, codec: FeatureCodec, *files: Path) -> None:
    """Pretend that these bottlenecks come with the package, for the codec's detector."""
    detector = codec.model.detector.fingerprint.hex()
    shipped = tuple(Shipped(file.stem, detector, str(file), "for a test") for file in files)
    monkeypatch.setattr("featcodec.networks.bottleneck.SHIPPED_BOTTLENECKS", shipped)


@pytest.mark.slow
def test_a_shipped_bottleneck_is_the_default_of_its_detector_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_yolov5: Path, tiny_yolov5u: Path, codec: FeatureCodec
) -> None:
    first = make_bottleneck(tmp_path / "first.safetensors", codec)
    second = make_bottleneck(tmp_path / "second.safetensors", codec)
    ship(monkeypatch, codec, first, second)
    by_path = {path: FeatureCodec.load(tiny_yolov5, bottleneck=path).fingerprint for path in (first, second)}
    assert FeatureCodec.load(tiny_yolov5).fingerprint == by_path[first]
    assert FeatureCodec.load(tiny_yolov5, bottleneck="second").fingerprint == by_path[second]
    assert FeatureCodec.load(tiny_yolov5, bottleneck="none").model.bottleneck is None
    assert FeatureCodec.load(tiny_yolov5, bottleneck=None).model.bottleneck is None
    assert FeatureCodec.load(tiny_yolov5, split=3).model.bottleneck is None
    assert FeatureCodec.load(tiny_yolov5u).model.bottleneck is None
    with pytest.raises(WeightsError, match="behind another detector"):
        FeatureCodec.load(tiny_yolov5u, bottleneck="first")


@pytest.mark.slow
def test_a_decoder_takes_the_bottleneck_that_the_stream_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_yolov5: Path, codec: FeatureCodec
) -> None:
    files = [make_bottleneck(tmp_path / name, codec) for name in ("first.safetensors", "second.safetensors")]
    ship(monkeypatch, codec, *files)
    for choice in ("none", "first", "second"):
        data = FeatureCodec.load(tiny_yolov5, bottleneck=choice, image_size=96).encode(texture(96, 64))
        side_info, _ = bitstream.unpack(data)
        assert FeatureCodec.load(tiny_yolov5, stream=side_info).fingerprint == side_info.fingerprint
    unknown = FeatureCodec.load(tiny_yolov5, stream=dataclasses.replace(side_info, fingerprint=bytes(8))).fingerprint
    assert unknown == FeatureCodec.load(tiny_yolov5, bottleneck="first").fingerprint


# Restoration


def make_restoration(path: Path, codec: FeatureCodec, channels: int = 16, split: int = 4) -> Path:
    """One that changes what is detected."""
    torch.manual_seed(0)
    restoration = Restoration(RestorationConfig(channels, 8, 1, split, codec.fingerprint.hex(), {}))
    for parameter in restoration.net[-1].parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_restoration(path, restoration)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("latent", [True, False])
def test_a_restoration_changes_detections_but_no_bit(
    tmp_path: Path, tiny_yolov5: Path, codec: FeatureCodec, latent: bool
) -> None:
    bottleneck = None if latent else make_bottleneck(tmp_path / "b.safetensors", codec)
    plain = FeatureCodec.load(tiny_yolov5, bottleneck=bottleneck, image_size=160)
    path = make_restoration(tmp_path / "r.safetensors", plain, channels=16 if latent else 6)
    restoring = FeatureCodec.load(tiny_yolov5, bottleneck=bottleneck, image_size=160, restoration=path)
    assert (restoring.fingerprint, plain.restoration) == (plain.fingerprint, None)
    image = texture(160, 120)
    data = plain.encode(image, 38)
    assert restoring.encode(image, 38) == data
    assert not np.array_equal(restoring.decode(data).scores, plain.decode(data).scores)
    # Neither what is not coded nor what an attacker gets is restored.
    batch = [plain.decode_frame(data)]
    assert torch.equal(restoring.decoded_tensors(batch), plain.decoded_tensors(batch))
    assert np.array_equal(restoring.detect(image).scores, plain.detect(image).scores)
    uncoded = plain.tensors_of([plain.letterbox(image)])
    letterboxes = [plain.letterbox(image).letterbox]
    one, other = (each.finish(uncoded, letterboxes)[0] for each in (plain, restoring))
    assert np.array_equal(one.scores, other.scores)


@pytest.mark.slow
def test_raw_samples_and_streams_of_another_split_are_not_restored(
    tmp_path: Path, tiny_yolov5: Path, codec: FeatureCodec
) -> None:
    path = make_restoration(tmp_path / "r.safetensors", codec)
    restoring = FeatureCodec.load(tiny_yolov5, image_size=96, restoration=path)
    for settings in ({"video_codec": "none"}, {"split": 2}):
        data = FeatureCodec.load(tiny_yolov5, image_size=96, **settings).encode(texture(96, 64), 38)
        assert np.array_equal(restoring.decode(data).scores, codec.decode(data).scores)


@pytest.mark.slow
def test_a_restoration_of_another_codec_is_refused(
    tmp_path: Path, tiny_yolov5: Path, tiny_yolov5u: Path, codec: FeatureCodec
) -> None:
    path = make_restoration(tmp_path / "r.safetensors", codec)
    with pytest.raises(WeightsError, match=rf"{codec.fingerprint.hex()}, but [0-9a-f]{{16}} are loaded; give the"):
        FeatureCodec.load(tiny_yolov5u, restoration=path)
    with pytest.raises(WeightsError, match="behind layer 4, but the streams are made behind layer 3"):
        FeatureCodec.load(tiny_yolov5, split=3, restoration=path)
    forged = make_restoration(tmp_path / "f.safetensors", codec, channels=5)
    with pytest.raises(WeightsError, match="takes 5 channels, but the streams have 16"):
        FeatureCodec.load(tiny_yolov5, restoration=forged)


@pytest.mark.slow
def test_a_restoration_never_changes_the_split(tmp_path: Path, tiny_yolov5: Path) -> None:
    """One that was trained behind another layer is refused, instead of moving the split of what is encoded."""
    early = FeatureCodec.load(tiny_yolov5, image_size=96, split=2)
    path = make_restoration(tmp_path / "r.safetensors", early, early.model.channels, split=2)
    with pytest.raises(WeightsError, match="trained behind layer 2, but the streams are made behind layer 4"):
        FeatureCodec.load(tiny_yolov5, image_size=96, restoration=path)
    restoring = FeatureCodec.load(tiny_yolov5, image_size=96, split=2, restoration=path)
    data = restoring.encode(texture(96, 64), 38)
    assert data == early.encode(texture(96, 64), 38)
    assert not np.array_equal(restoring.decode(data).scores, early.decode(data).scores)
    decoder = FeatureCodec.load(tiny_yolov5, restoration=path, stream=bitstream.unpack(data)[0])
    assert np.array_equal(restoring.decode(data).scores, decoder.decode(data).scores)


@pytest.mark.slow
def test_a_shipped_restoration_is_the_default_of_its_codec_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_yolov5: Path, tiny_yolov5u: Path, codec: FeatureCodec
) -> None:
    path = make_restoration(tmp_path / "r.safetensors", codec)
    shipped = Shipped("some", codec.fingerprint.hex(), str(path), "for a test")
    monkeypatch.setattr("featcodec.networks.restoration.SHIPPED_RESTORATIONS", (shipped,))
    assert FeatureCodec.load(tiny_yolov5).restoration is not None
    learned = make_bottleneck(tmp_path / "b.safetensors", codec)
    for other in (
        FeatureCodec.load(tiny_yolov5, restoration="none"),
        FeatureCodec.load(tiny_yolov5, restoration=None),
        FeatureCodec.load(tiny_yolov5, split=3),
        FeatureCodec.load(tiny_yolov5, bottleneck=learned),
        FeatureCodec.load(tiny_yolov5u),
    ):
        assert other.restoration is None


def test_half_precision_does_not_change_a_restoration(tmp_path: Path, tiny_yolov5: Path, codec: FeatureCodec) -> None:
    path = make_restoration(tmp_path / "r.safetensors", codec)
    whole, half = (FeatureCodec.load(tiny_yolov5, half=half, restoration=path).restoration for half in (False, True))
    assert whole is not None
    assert half is not None
    assert whole.fingerprint() == half.fingerprint()


# What people call


@pytest.mark.slow
def test_a_path_an_image_and_an_array_are_the_same_picture(tmp_path: Path, codec: FeatureCodec) -> None:
    pixels = texture(96, 64)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    expected = codec.encode(pixels, 40)
    assert codec.encode(path, 40) == codec.encode(str(path), 40) == codec.encode(Image.open(path), 40) == expected
    assert np.array_equal(codec.detect(path).scores, codec.detect(pixels).scores)


@pytest.mark.slow
def test_lists_are_coded_one_by_one_whatever_their_shapes(codec: FeatureCodec) -> None:
    pictures = [texture(160, 120), texture(120, 160), *(texture(160, 120, seed) for seed in range(1, 10))]
    streams = codec.encode(pictures, 42)
    assert streams[:3] == [codec.encode(picture, 42) for picture in pictures[:3]]
    assert streams[10] == codec.encode(pictures[10], 42)
    decoded = codec.decode(streams[:2])
    assert [(each.width, each.height) for each in decoded] == [(160, 120), (120, 160)]
    assert np.array_equal(decoded[0].xyxy, codec.decode(streams[0]).xyxy)
    assert np.allclose(codec.detect(tuple(pictures[:2]))[1].scores, codec.detect(pictures[1]).scores, atol=1e-5)
    assert codec.encode([], 42) == codec.decode([]) == []


def test_errors_of_the_library_name_parameters_and_not_options(tmp_path: Path, codec: FeatureCodec) -> None:
    learned = FeatureCodec.load("scenes", image_size=96)
    with pytest.raises(WeightsError, match="give the `detector`, `bottleneck` and `layout`") as refused:
        codec.decode(learned.encode(texture(96, 64), 40))
    assert "--" not in str(refused.value)


def test_a_stream_of_other_networks_is_told_the_names_that_ship(codec: FeatureCodec) -> None:
    scenes = FeatureCodec.load("scenes", bottleneck=None, image_size=96)
    for name, data in (
        ("alley", FeatureCodec.load("scenes", image_size=96).encode(texture(96, 64), 40)),
        ("none", scenes.encode(texture(96, 64), 40)),
    ):
        with pytest.raises(WeightsError, match=rf"it was encoded with: the detector scenes, and `bottleneck` {name}$"):
            codec.check_stream(data)
    with pytest.raises(WeightsError, match=r"it was encoded with$"):
        scenes.check_stream(codec.encode(texture(96, 64), 40))
