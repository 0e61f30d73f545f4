"""Every method alike: from images to bytes and from bytes to detections."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import texture
from sweep_set import SIDE

from featcodec import FeatureCodec, bitstream
from featcodec.detectors.postprocess import detections_of
from featcodec.errors import InputError
from featcodec.evaluation.anchors import InputJpegMethod, InputVvcMethod
from featcodec.evaluation.coco import score
from featcodec.evaluation.dataset import open_dataset
from featcodec.evaluation.methods import FeatureMethod, Method, UncodedMethod
from featcodec.evaluation.points import IDENTITY, PointFile
from featcodec.evaluation.sweep import Plan, sweep
from featcodec.images.annotations import Annotations, read_annotations
from featcodec.images.reading import read_image
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.privacy.attack import Attack
from featcodec.privacy.recnet import RecNet, RecNetConfig
from featcodec.system.paths import Source
from featcodec.video import open_video_codec

SIZE = (120, 80)


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, bottleneck=None, image_size=SIDE)


@pytest.fixture(scope="module")
def learned(tiny_yolov5: Path, tmp_path_factory: pytest.TempPathFactory, codec: FeatureCodec) -> FeatureCodec:
    path = tmp_path_factory.mktemp("weights") / "bottleneck.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bottleneck = Bottleneck(BottleneckConfig(16, 10, 6, -3.0, 3.0, 4, codec.model.detector.fingerprint.hex(), {}))
    save_bottleneck(path, bottleneck)
    return FeatureCodec.load(tiny_yolov5, bottleneck=path, image_size=SIDE)


def make(name: str, codec: FeatureCodec) -> Method[Any, Any]:
    made: dict[str, Any] = {"latent": FeatureMethod, "input-vvc": InputVvcMethod, "input-jpeg": InputJpegMethod}
    method: Method[Any, Any] = made[name](codec)
    assert method.name == name
    return method


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fine", "coarse"), [("latent", 10, 45), ("input-vvc", 10, 45), ("input-jpeg", 98, 5)])
def test_finer_is_nearer_and_larger(codec: FeatureCodec, name: str, fine: int, coarse: int) -> None:
    method = make(name, codec)
    images = [codec.letterbox(texture(*SIZE, seed=seed)) for seed in range(3)]
    uncoded = [codec.detect_letterboxed([image])[0] for image in images]
    prepared = method.prepare(images)
    sizes, errors = [], []
    for value in (fine, coarse):
        files = method.encode(prepared, value)
        sizes.append(sum(map(len, files)))
        for data in files:
            assert 0 < method.slice_bytes(data) < len(data)
        decoded = [method.decode(data, SIZE) for data in files]
        found = method.back_end(decoded)
        assert [(one.width, one.height) for one in found] == [SIZE] * 3
        errors.append(sum(abs(float(a.scores[0] - b.scores[0])) for a, b in zip(found, uncoded, strict=True)))
        assert method.attack(decoded) == []
    assert sizes[0] > 2 * sizes[1]
    assert errors[0] < errors[1]


def test_streams_of_features_are_those_of_the_codec(codec: FeatureCodec) -> None:
    image = texture(*SIZE)
    method = FeatureMethod(codec)
    (data,) = method.encode(method.prepare([codec.letterbox(image)]), 38)
    assert data == codec.encode(image, 38)
    assert method.slice_bytes(data) == bitstream.breakdown(data).slice_data


def test_raw_samples_have_no_qp(codec: FeatureCodec) -> None:
    method = FeatureMethod(dataclasses.replace(codec, video_codec=open_video_codec("none")))
    (data,) = method.encode(method.prepare([codec.letterbox(texture(*SIZE))]), None)
    assert bitstream.unpack(data)[0].is_raw
    identity = method.identity()
    assert (identity["codec"], identity["preset"]) == ("none", "")


@pytest.mark.parametrize("name", ["codec", "learned"])
def test_uncoded_bytes_are_the_float32_tensor_and_nothing_is_lost(name: str, request: pytest.FixtureRequest) -> None:
    codec: FeatureCodec = request.getfixturevalue(name)
    codec = dataclasses.replace(codec, packing=codec.packing.with_range(-0.01, 0.01, 8))
    method = UncodedMethod(codec)
    images = [codec.letterbox(texture(*SIZE, seed=seed)) for seed in range(2)]
    files = method.encode(method.prepare(images), None)
    tensors = codec.tensors_of(images)
    assert tensors.abs().max() > 0.01, "nothing to clip"
    for data, tensor in zip(files, tensors, strict=True):
        assert len(data) == method.slice_bytes(data) == 4 * tensor.numel()
        np.testing.assert_array_equal(np.frombuffer(data, np.float32), tensor.numpy().reshape(-1))
    decoded = [method.decode(data, SIZE) for data in files]
    assert [letterbox for letterbox, _ in decoded] == [image.letterbox for image in images]
    assert torch.equal(torch.stack([values for _, (values,) in decoded]), tensors)
    assert method.attack(decoded) == []


def test_uncoded_without_a_bottleneck_is_the_detector_exactly(codec: FeatureCodec) -> None:
    method = UncodedMethod(codec)
    for seed in range(3):
        image = texture(*SIZE, seed=seed)
        (data,) = method.encode(method.prepare([codec.letterbox(image)]), None)
        (found,) = method.back_end([method.decode(data, SIZE)])
        expected = codec.detect(image)
        assert len(expected.scores) > 0
        for part in ("xyxy", "scores", "class_ids"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
        assert (found.width, found.height) == SIZE


def test_uncoded_with_a_bottleneck_is_ae_ad_and_the_back_end(learned: FeatureCodec, codec: FeatureCodec) -> None:
    assert learned.model.bottleneck is not None
    method = UncodedMethod(learned)
    image = learned.letterbox(texture(*SIZE))
    inputs = torch.from_numpy(image.pixels).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        predictions = learned.model.decode(learned.model.encode(inputs))
    (expected,) = detections_of(predictions, [image.letterbox], learned.model.detector.names, learned.boxes)
    (data,) = method.encode(method.prepare([image]), None)
    (found,) = method.back_end([method.decode(data, SIZE)])
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-2)
    assert not np.array_equal(found.scores, codec.detect(texture(*SIZE)).scores), "the bottleneck was left out"


def test_uncoded_is_attacked_through_what_it_sends(learned: FeatureCodec) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recnet = RecNet(RecNetConfig(16, 10, 6, (1, 1), learned.fingerprint.hex(), {})).requires_grad_(False)
    for part in recnet.modules():  # as it is made, its pictures nearly vanish
        if isinstance(part, torch.nn.BatchNorm2d):
            part.weight.fill_(3)
    attack = Attack(learned, recnet)
    images = [learned.letterbox(texture(*SIZE, seed=seed)) for seed in range(2)]
    method = UncodedMethod(learned, "", attack, "ab12")
    pictures = method.attack([method.decode(data, SIZE) for data in method.encode(method.prepare(images), None)])
    for picture, expected in zip(pictures, attack.on_images(images), strict=True):
        assert picture.shape == (64, 96, 3)
        assert picture.std() > 1e-3
        np.testing.assert_allclose(picture, expected, atol=1e-5)


@pytest.mark.slow
def test_uncoded_keeps_half_precision(tiny_yolov5: Path) -> None:
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=None, image_size=SIDE)
    codec.model.detector.half()
    letterbox, (values,) = UncodedMethod(codec).decode(np.zeros(16 * 8 * 12, np.float32).tobytes(), SIZE)
    assert (values.dtype, tuple(values.shape)) == (torch.float16, (16, 8, 12))
    assert (letterbox.width, letterbox.height) == (96, 64)


def test_identities_say_what_differs(codec: FeatureCodec) -> None:
    names = set(IDENTITY) - {"dataset", "images", "attack"}  # the sweep's part, and the audit's
    latent, vvc, jpeg = (make(name, codec).identity() for name in ("latent", "input-vvc", "input-jpeg"))
    for identity in (latent, vvc, jpeg):
        assert set(identity) == names
        assert (identity["image_size"], identity["square"], identity["fingerprint"]) == (
            *(str(SIDE), "no"),
            codec.fingerprint.hex(),
        )
    assert (latent["clip_low"], latent["clip_high"], latent["bits"], latent["split"]) == ("-0.2786", "3", "8", "4")
    assert (vvc["codec"], vvc["preset"], vvc["clip_low"], vvc["split"]) == ("ffmpeg", "faster", "", "")
    assert vvc["codec_version"]
    assert (jpeg["codec"], jpeg["encoder_params"]) == ("pillow", "subsampling=4:2:0")
    uncoded = UncodedMethod(codec).identity()
    assert set(uncoded) == names
    assert [uncoded[name] for name in ("method", "split", "codec", "codec_version", "preset", "clip_low", "bits")] == [
        *("uncoded", "4", "", "", "", "", "")
    ]
    other = dataclasses.replace(codec, square=True)
    assert make("latent", other).identity() != latent


def test_input_vvc_needs_the_codec_that_codes_colour(codec: FeatureCodec) -> None:
    with pytest.raises(InputError, match="needs `video_codec` ffmpeg"):
        InputVvcMethod(dataclasses.replace(codec, video_codec=open_video_codec("none")))


@pytest.mark.slow
def test_input_vvc_at_qp_20_costs_less_than_a_point_of_ap50(shared: Path, yolov5n_path: Path, tmp_path: Path) -> None:
    folder = shared / "data/coco128"
    truth = read_annotations(folder / "annotations/instances_val2017.json")
    paths = sorted((folder / "images/val2017").iterdir())[:16]
    check_input_vvc(FeatureCodec.load(yolov5n_path, bottleneck=None), truth, paths, tmp_path)


@pytest.mark.slow
def test_input_vvc_at_qp_20_costs_less_than_a_point_of_ap50_on_scenes(drawn_scenes: Path, tmp_path: Path) -> None:
    truth = read_annotations(drawn_scenes / "annotations.json")
    paths = sorted((drawn_scenes / "images").iterdir())
    check_input_vvc(FeatureCodec.load("scenes", bottleneck=None), truth, paths, tmp_path)


def check_input_vvc(codec: FeatureCodec, truth: Annotations, paths: list[Path], tmp_path: Path) -> None:
    dataset = open_dataset([Source(path, Path(path.name)) for path in paths], truth)
    (outcome,) = sweep([Plan(InputVvcMethod(codec), [20])], dataset, PointFile(tmp_path / "points.csv"))
    assert outcome.row is not None
    categories = truth.category_ids(codec.model.detector.names)
    uncoded = [
        result
        for path, image_id in zip(paths, dataset.image_ids, strict=True)
        for result in codec.detect(read_image(path)).to_coco(image_id, categories)
    ]
    assert float(outcome.row["ap50"]) > score(dataset.annotations, uncoded).ap50 - 1
