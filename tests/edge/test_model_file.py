"""`model.json`: comes back as it was; every other value, type or size is one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from exported_model import QP, SIDE, small_codec
from hypothesis import given
from hypothesis import strategies as st

from featcodec.edge.model_file import ModelFile, read_model_file
from featcodec.errors import WeightsError

WHOLE = ModelFile(
    format=1,
    featcodec="0.2.0",
    detector="scenes11",
    fingerprint="00112233445566ff",
    precision="float32",
    bottleneck=False,
    split=10,
    stride=32,
    image_size=512,
    square=False,
    tensors=((128, 8), (128, 16), (256, 32)),
    tile_rows=8,
    tile_cols=16,
    clip_low=-0.2786000072956085,
    clip_high=3.0,
    bits=8,
    default_qp=38,
    names=("car", "façade"),
    masks=32,
    keypoints=(17, 3),
    needs_nms=True,
    opset=18,
    edge_sha256="0" * 64,
    cloud_sha256="f" * 64,
)


def content(**changes: Any) -> bytes:
    return json.dumps({**json.loads(WHOLE.to_json()), **changes}).encode()


def test_it_comes_back_as_it_was() -> None:
    assert ModelFile.from_json(WHOLE.to_json()) == WHOLE


def test_unknown_fields_are_skipped() -> None:
    assert ModelFile.from_json(content(later=[1, {"a": None}])) == WHOLE


def test_it_says_what_the_codec_does(exported_model: Path) -> None:
    codec, model = small_codec(), read_model_file(exported_model / "model.json")
    assert (model.fitting, model.default_qp) == (codec.fitting, QP)
    assert model.packing == dataclasses.replace(codec.packing, layout=None)
    assert model.tensor_shapes(SIDE, 96) == codec.model.tensor_shapes(SIDE, 96)


def test_several_tensors_have_bands() -> None:
    assert WHOLE.tensor_shapes(512, 256)[2] == (256, 8, 16)
    assert WHOLE.packing.bands.frame_shape(32, 64) == (8 * 32 + 4 * 16 + 4 * 8, 1024)


OTHERS: list[tuple[str, Any]] = [
    ("format", 2),
    ("format", True),
    ("fingerprint", "0011"),
    ("fingerprint", "00112233445566FF"),
    ("edge_sha256", None),
    ("precision", "float64"),
    ("detector", "x" * 201),
    ("bottleneck", 1),
    ("split", -1),
    ("split", 128),
    ("split", 4.0),
    ("stride", 33),
    ("image_size", 500),
    ("image_size", 8192),
    ("tensors", []),
    ("tensors", [[128, 8]] * 9),
    ("tensors", [[128, 16], [128, 8]]),
    ("tensors", [[128, 3]]),
    ("tensors", [[128, 64]]),
    ("tensors", [[0, 8]]),
    ("tensors", [[4096, 8], [4096, 8], [1, 8]]),
    ("tensors", [[128, 8, 1]]),
    ("tensors", [128, 8]),
    ("tile_rows", 1),
    ("tile_rows", 9),
    ("tile_cols", 256),
    ("clip_low", 3.0),
    ("clip_low", "0"),
    ("clip_high", True),
    ("clip_high", 10**400),
    ("bits", 9),
    ("default_qp", 64),
    ("names", []),
    ("names", [1]),
    ("names", ["x" * 201]),
    ("names", ["x"] * 10_001),
    ("masks", -1),
    ("keypoints", [17]),
    ("keypoints", [17, 4]),
    ("needs_nms", None),
]


@pytest.mark.parametrize(("name", "value"), OTHERS)
def test_other_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(WeightsError, match="export the model again") as caught:
        ModelFile.from_json(content(**{name: value}))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ModelFile)])
def test_every_field_must_be_there(name: str) -> None:
    without = {key: value for key, value in json.loads(WHOLE.to_json()).items() if key != name}
    with pytest.raises(WeightsError, match=name):
        ModelFile.from_json(json.dumps(without).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format": NaN}', b'{"format": 1}'])
def test_other_texts_are_refused(data: bytes) -> None:
    with pytest.raises(WeightsError, match="export the model again"):
        ModelFile.from_json(data)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match="larger than any model file"):
        read_model_file(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([field.name for field in dataclasses.fields(ModelFile)]), JSON)
def test_whatever_is_read_can_be_used(name: str, value: Any) -> None:
    try:
        model = ModelFile.from_json(content(**{name: value}))
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    width, height = model.fitting.letterbox(640, 480).width, model.fitting.letterbox(640, 480).height
    shapes = model.tensor_shapes(width, height)
    model.packing.bands.check_shapes(shapes)
    assert repr(model)
