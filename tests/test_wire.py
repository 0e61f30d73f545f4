"""Streams that others forged for a detector with many splits: each is one line, and none takes long or much memory."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from make_families import make_family, save_family
from pictures import texture

from featcodec import FeatureCodec, bitstream
from featcodec.errors import BitstreamError, FeatcodecError
from featcodec.packing.bands import Bands, TensorScale

SPLIT = 10  # behind which three tensors of yolo11n cross


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("wire") / "a.pt", make_family("yolo11n"))


@pytest.fixture(scope="module")
def codec(weights: Path) -> FeatureCodec:
    return FeatureCodec.load(weights, bottleneck="none", image_size=64, split=SPLIT, device="cpu")


@pytest.fixture(scope="module")
def stream(codec: FeatureCodec) -> bytes:
    return codec.encode(texture(80, 60, seed=1), 30)


def forged(stream: bytes, **changes: Any) -> bytes:
    """The same picture with other claims, and a CRC that fits them."""
    side_info, picture = bitstream.unpack(stream)
    return bitstream.pack(dataclasses.replace(side_info, **changes), picture)


def claims(codec: FeatureCodec, split: int, width: int = 64, height: int = 64) -> dict[str, Any]:
    """What a stream of that split says of its tensors."""
    (channels, rows, columns), *further = codec.model.at(split).tensor_shapes(width, height)
    scales = tuple(TensorScale(count, columns // each) for count, _, each in further)
    grid = Bands.near_square(channels, scales).grid
    sizes = {"letterboxed_width": width, "letterboxed_height": height, "tile_rows": grid.rows, "tile_cols": grid.cols}
    tensors = {"channels": channels, "feature_height": rows, "feature_width": columns, "further": tuple(further)}
    return {"split": split, **sizes, **tensors}


def refusal(codec: FeatureCodec, data: bytes) -> str:
    started = time.monotonic()
    with pytest.raises(BitstreamError) as caught:
        codec.decode(data)
    assert time.monotonic() - started < 2
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_several_tensors_cross_and_come_back(codec: FeatureCodec, stream: bytes) -> None:
    side_info, _ = bitstream.unpack(stream)
    assert len(side_info.tensors) == 3
    assert len(codec.decode(stream).scores)


@pytest.mark.parametrize("split", [0, 4, 11, 22])
def test_tensors_of_another_split_are_refused(codec: FeatureCodec, stream: bytes, split: int) -> None:
    assert f"behind layer {split}; this model does not make this" in refusal(codec, forged(stream, split=split))


@pytest.mark.parametrize("split", [23, 24, 64, 127])
def test_splits_that_the_detector_lacks_are_refused(codec: FeatureCodec, stream: bytes, split: int) -> None:
    assert "claims another split than this detector has" in refusal(codec, forged(stream, split=split))


@pytest.mark.parametrize(
    "change", [(), ((128, 4, 4),), ((128, 4, 4), (255, 2, 2)), ((128, 4, 4), (256, 2, 2), (8, 1, 1))]
)
def test_other_tensors_are_refused(codec: FeatureCodec, stream: bytes, change: Any) -> None:
    assert "this model does not make this" in refusal(codec, forged(stream, further=change))


def test_claims_of_another_picture_are_refused(codec: FeatureCodec, stream: bytes) -> None:
    """Every claim fits the others, but the picture in the stream is another one, or too large for any detector."""
    assert "decodes to" in refusal(codec, forged(stream, **claims(codec, SPLIT, 4096, 4096)))
    assert "decodes to" in refusal(codec, forged(stream, **claims(codec, 0)))
    message = refusal(codec, forged(stream, **claims(codec, SPLIT, 4096 + 32, 64)))
    assert "this model does not make this" in message


def test_whatever_fits_is_decoded(codec: FeatureCodec, stream: bytes) -> None:
    """Anybody can make a stream of any split. What its numbers mean is nobody's promise, but nothing breaks."""
    side_info, picture = bitstream.unpack(stream)
    fits = 0
    for split in range(23):
        claimed = dataclasses.replace(side_info, **claims(codec, split))
        if claimed.frame_shape == side_info.frame_shape:
            found = codec.decode(bitstream.pack(claimed, picture))
            assert torch.isfinite(torch.as_tensor(found.scores)).all()
            fits += 1
    assert fits >= 4


def test_a_copied_fingerprint_does_not_open_another_detector(tmp_path: Path, stream: bytes) -> None:
    other = save_family(tmp_path / "b.pt", make_family("yolov8n"))
    codec = FeatureCodec.load(other, bottleneck="none", image_size=64, device="cpu")
    with pytest.raises(FeatcodecError, match="made with networks"):
        codec.decode(stream)
    assert "this model does not make this" in refusal(codec, forged(stream, fingerprint=codec.fingerprint))


@pytest.mark.slow
def test_one_forged_stream_costs_one_stream(
    run: Any, tmp_path: Path, weights: Path, codec: FeatureCodec, stream: bytes
) -> None:
    folder = tmp_path / "streams"
    folder.mkdir()
    files = {
        "good": stream,
        "split": forged(stream, split=60),
        "tensors": forged(stream, split=4),
        "large": forged(stream, **claims(codec, SPLIT, 4096, 4096)),
        "again": stream,
    }
    for name, data in files.items():
        (folder / f"{name}.266").write_bytes(data)
    code, _, err = run("decode", folder, "-o", tmp_path / "found.json", "--detector", weights, "--device", "cpu")
    assert code == 1
    for name in ("split", "tensors", "large"):
        assert f"{name}.266: " in err
    assert "good.266" not in err
    assert len(json.loads((tmp_path / "found.json").read_text()))
