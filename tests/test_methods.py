"""Every method alike: from images to bytes and from bytes to detections."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pictures import texture
from sweep_set import SIDE

from featcodec import FeatureCodec, bitstream
from featcodec.data.annotations import read_annotations
from featcodec.data.images import read_image
from featcodec.errors import InputError
from featcodec.evaluation.coco import score
from featcodec.evaluation.dataset import open_dataset
from featcodec.evaluation.methods import FeatureMethod, InputJpegMethod, InputVvcMethod, Method
from featcodec.evaluation.points import IDENTITY, PointFile
from featcodec.evaluation.sweep import Plan, sweep
from featcodec.paths import Source
from featcodec.vvc import open_codec

SIZE = (120, 80)


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, bottleneck=None, image_size=SIDE)


def make(name: str, codec: FeatureCodec) -> Method[Any, Any]:
    made: dict[str, Any] = {"latent": FeatureMethod, "input-vvc": InputVvcMethod, "input-jpeg": InputJpegMethod}
    method: Method[Any, Any] = made[name](codec)
    assert method.name == name
    return method


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
    method = FeatureMethod(dataclasses.replace(codec, vvc=open_codec("none")))
    (data,) = method.encode(method.prepare([codec.letterbox(texture(*SIZE))]), None)
    assert bitstream.unpack(data)[0].is_raw
    identity = method.identity()
    assert (identity["codec"], identity["preset"]) == ("none", "")


def test_identities_say_what_differs(codec: FeatureCodec) -> None:
    names = set(IDENTITY) - {"dataset", "images"}
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
    other = dataclasses.replace(codec, square=True)
    assert make("latent", other).identity() != latent


def test_input_vvc_needs_the_codec_that_codes_colour(codec: FeatureCodec) -> None:
    with pytest.raises(InputError, match="--codec ffmpeg only"):
        InputVvcMethod(dataclasses.replace(codec, vvc=open_codec("none")))


def test_input_vvc_at_qp_20_costs_less_than_a_point_of_ap50(shared: Path, yolov5n_path: Path, tmp_path: Path) -> None:
    codec = FeatureCodec.load(yolov5n_path, bottleneck=None)
    folder = shared / "data/coco128"
    truth = read_annotations(folder / "annotations/instances_val2017.json")
    paths = sorted((folder / "images/val2017").iterdir())[:16]
    dataset = open_dataset([Source(path, Path(path.name)) for path in paths], truth)
    (outcome,) = sweep([Plan(InputVvcMethod(codec), [20])], dataset, PointFile(tmp_path / "points.csv"))
    assert outcome.row is not None
    categories = truth.category_ids(codec.detector.names)
    uncoded = [
        result
        for path, image_id in zip(paths, dataset.image_ids, strict=True)
        for result in codec.detect(read_image(path)).to_coco(image_id, categories)
    ]
    assert float(outcome.row["ap50"]) > score(dataset.annotations, uncoded).ap50 - 1
