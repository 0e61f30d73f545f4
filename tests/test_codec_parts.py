"""The parts of a codec: loaded by name, or found for a bitstream."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import texture

from featcodec import FeatureCodec
from featcodec.errors import BitstreamError, InputError, WeightsError


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, image_size=160)


@pytest.mark.parametrize(
    "settings", [{"image_size": 100}, {"video_codec": "h264"}, {"preset": "slowest"}, {"split": 24}, {"clip": (3, -3)}]
)
def test_settings_out_of_range_are_refused(tiny_yolov5: Path, settings: dict[str, object]) -> None:
    with pytest.raises(InputError):
        FeatureCodec.load(tiny_yolov5, **settings)


def test_it_says_what_it_is(codec: FeatureCodec) -> None:
    text = repr(codec)
    assert text.startswith("FeatureCodec(SplitModel(3 classes, split=4, bottleneck=none")
    assert codec.fingerprint.hex() in text
    assert "video_codec='ffmpeg', image_size=160" in text


@pytest.mark.slow
def test_an_unknown_stream_finds_its_networks() -> None:
    """What ships is found by the fingerprint in the stream: detector, bottleneck, restoration."""
    made = FeatureCodec.load("scenes", bottleneck="street", image_size=96)
    data = made.encode(texture(96, 64), 38)
    found = FeatureCodec.for_stream(data)
    assert (found.fingerprint, found.restoration is None) == (made.fingerprint, False)
    assert np.array_equal(found.decode(data).scores, made.decode(data).scores)
    latent = FeatureCodec.load("scenes", bottleneck=None, split=2, image_size=96).encode(texture(96, 64), 38)
    opened = FeatureCodec.for_stream(latent)
    assert (opened.model.bottleneck, opened.model.split) == (None, 2)


@pytest.mark.slow
def test_an_unknown_stream_finds_weights_on_this_machine(
    tmp_path: Path, tiny_yolov5: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path))
    data = codec.encode(texture(96, 64), 38)
    with pytest.raises(WeightsError, match=rf"networks {codec.fingerprint.hex()}, which are not known on this machine"):
        FeatureCodec.for_stream(data)
    assert FeatureCodec.for_stream(data, tiny_yolov5).fingerprint == codec.fingerprint
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/damaged.pt").write_bytes(b"no weights")
    shutil.copy(tiny_yolov5, tmp_path / "weights/own.pt")
    assert FeatureCodec.for_stream(data).fingerprint == codec.fingerprint
    with pytest.raises(BitstreamError):
        FeatureCodec.for_stream(data[:-1])
