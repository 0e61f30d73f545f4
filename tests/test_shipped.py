"""The checkpoints that come with the package: intact, small, named right, and what a yolov5n codes through."""

from __future__ import annotations

from pathlib import Path

import pytest

from featcodec import FeatureCodec, bitstream
from featcodec.bottleneck import load_bottleneck
from featcodec.checkpoints import codec_fingerprint
from featcodec.data.images import read_image
from featcodec.inversion import shipped_recnet
from featcodec.weights import SHIPPED, SHIPPED_FOLDER, ShippedBottleneck, list_bottlenecks

YOLOV5N = bytes.fromhex("53961ef2ce19a847")
MAX_BYTES = 5_000_000

each_shipped = pytest.mark.parametrize("shipped", SHIPPED, ids=lambda shipped: shipped.name)


def test_there_are_bottlenecks_for_yolov5n() -> None:
    assert {shipped.name for shipped in SHIPPED} == {"private", "compact"}
    assert [each["name"] for each in list_bottlenecks()] == [shipped.name for shipped in SHIPPED]


@each_shipped
def test_checkpoint_says_what_the_list_says(shipped: ShippedBottleneck) -> None:
    config = load_bottleneck(shipped.path).config
    assert config.detector_fingerprint == shipped.detector_fingerprint
    assert config.training["metrics"]


@each_shipped
def test_its_attacker_ships(shipped: ShippedBottleneck) -> None:
    recnet = shipped_recnet(_codec(shipped))
    assert recnet.config.training["stage"] == "attack"
    assert recnet.config.training["edge_weight"] == 0


def test_all_attackers_had_the_same_budget() -> None:
    settings = []
    for fingerprint in (YOLOV5N, *(_codec(shipped) for shipped in SHIPPED)):
        training = dict(shipped_recnet(fingerprint).config.training)
        settings.append(
            {name: training[name] for name in ("steps", "batch_size", "learning_rate", "optimizer", "data")}
        )
    assert all(each == settings[0] for each in settings)


def test_files_are_small_and_hold_no_paths() -> None:
    files = sorted(SHIPPED_FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < MAX_BYTES
    for file in files:
        assert file.suffix == ".safetensors"
        content = file.read_bytes()
        assert b"/work" not in content
        assert b"/home" not in content
        assert b"/tmp" not in content


def test_yolov5n_codes_through_the_default(yolov5n_path: Path, shared: Path) -> None:
    codec = FeatureCodec.load(yolov5n_path)
    assert codec.fingerprint == _codec(SHIPPED[0])
    image = read_image(sorted((shared / "data/coco128/images/train2017").glob("*.jpg"))[0])
    data = codec.encode(image)
    header, _ = bitstream.unpack(data)
    assert codec.bottleneck is not None
    assert header.channels == codec.bottleneck.config.channels
    assert len(data) < len(FeatureCodec.load(yolov5n_path, bottleneck=None).encode(image))
    confident = codec.detect(image).scores > 0.5
    assert (codec.decode(data).scores > 0.4).sum() >= confident.sum() / 2


def _codec(shipped: ShippedBottleneck) -> bytes:
    return codec_fingerprint(bytes.fromhex(shipped.detector_fingerprint), load_bottleneck(shipped.path).fingerprint())
