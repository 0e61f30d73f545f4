"""Layouts: arranging is undone, a checkpoint is read back or refused, and a stream names the layout it needs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import texture
from safetensors.torch import save_file

from featcodec import FeatureCodec, bitstream
from featcodec.bitstream import unpack
from featcodec.errors import BitstreamError, WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.networks.catalogue import Shipped
from featcodec.networks.layouts import choose_layout, load_layout, model_fingerprint, save_layout
from featcodec.packing.layout import Layout, LayoutConfig

TENSOR = bytes(range(8))


def make_layout(channels: int = 5, seed: int = 0, tensor: bytes = TENSOR, split: int = 4) -> Layout:
    chance = np.random.default_rng(seed)
    scale = chance.uniform(0.5, 2, channels) * chance.choice([-1, 1], channels)
    offset = chance.uniform(-2, 2, channels)
    config = LayoutConfig(tensor.hex(), split, -6.0, 6.0, {"stage": "layout"})
    return Layout(config, chance.permutation(channels), scale.astype(np.float32), offset.astype(np.float32))


@given(st.integers(1, 12), st.integers(0, 2**16))
def test_undo_undoes_arrange(channels: int, seed: int) -> None:
    layout = make_layout(channels, seed)
    tensors = np.random.default_rng(seed).normal(size=(2, channels, 3, 4)).astype(np.float32)
    arranged = layout.arrange(tensors)
    assert arranged.shape == tensors.shape
    assert np.allclose(layout.undo(arranged), tensors, atol=1e-5)
    assert np.array_equal(layout.arrange(tensors[0]), arranged[0])
    assert np.array_equal(layout.undo(arranged[1]), layout.undo(arranged)[1])


def test_a_tile_shows_its_channel() -> None:
    layout = Layout(
        make_layout(2).config, np.array([1, 0]), np.array([2, -1], np.float32), np.array([0, 3], np.float32)
    )
    arranged = layout.arrange(np.array([[[5.0]], [[7.0]]], np.float32))
    assert arranged.ravel().tolist() == [14, -2]


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    layout = make_layout()
    save_layout(tmp_path / "l.safetensors", layout)
    again = load_layout(tmp_path / "l.safetensors")
    assert again.config == layout.config
    assert again.fingerprint() == layout.fingerprint()
    assert again.quantizer().high == 6
    other = dataclasses.replace(layout, offset=layout.offset + 1)
    assert other.fingerprint() != layout.fingerprint()


@pytest.mark.parametrize(
    ("numbers", "config"),
    [
        ({"order": [0, 0, 1]}, {}),
        ({"order": [0, 1, 3]}, {}),
        ({"order": []}, {}),
        ({"scale": [1.0, 0.0, 1.0]}, {}),
        ({"scale": [1.0, 1.0]}, {}),
        ({"offset": [[0.0], [0.0], [0.0]]}, {}),
        ({}, {"clip_low": 7.0}),
        ({}, {"clip_low": "x"}),
        ({}, {"split": 128}),
        ({}, {"model_fingerprint": 3}),
        ({}, {"model_fingerprint": "zz" * 8}),
        ({"order": [2.0, 0.0, 1.0]}, {}),
        ({"scale": [1.0, 1e30, 1.0]}, {}),
        ({"offset": [1.0, 1e30, 1.0]}, {}),
        ({"offset": [1.0, float("inf"), 1.0]}, {}),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, numbers: dict[str, Any], config: dict[str, Any]) -> None:
    good = {"order": [2, 0, 1], "scale": [1.0, -1.0, 1.0], "offset": [0.0, 0.0, 0.0]}
    state = {name: torch.tensor(values) for name, values in (good | numbers).items()}
    content = {"format": 1, "kind": "layout", **dataclasses.asdict(make_layout().config), **config}
    path = tmp_path / "l.safetensors"
    save_file(state, path, {"featcodec": json.dumps(content)})
    with pytest.raises(WeightsError, match=r"not a layout|not finite") as caught:
        load_layout(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_choosing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l.safetensors"
    save_layout(path, make_layout())
    with_it = joined_fingerprint(TENSOR, make_layout().fingerprint())
    assert choose_layout("none", TENSOR, 5, 4) is None
    assert choose_layout("auto", TENSOR, 5, 4) is None
    assert model_fingerprint(with_it, "auto") == with_it
    assert model_fingerprint(with_it, path) == TENSOR
    shipped = Shipped("some", TENSOR.hex(), str(path), "for a test")
    monkeypatch.setattr("featcodec.networks.layouts.SHIPPED_LAYOUTS", (shipped,))
    assert choose_layout("auto", TENSOR, 5, 4) is not None
    assert choose_layout("auto", TENSOR, 5, 3) is None
    assert choose_layout("auto", TENSOR, 5, 4, stream=TENSOR) is None
    assert choose_layout("auto", TENSOR, 5, 4, stream=with_it) is not None
    assert model_fingerprint(with_it, "auto") == TENSOR
    assert model_fingerprint(TENSOR, "auto") == TENSOR
    assert model_fingerprint(None, "auto") is None
    for arguments, complaint in (
        ((bytes(8), 5, 4), "lays out the tensor of"),
        ((TENSOR, 6, 4), "not 6 channels behind"),
    ):
        with pytest.raises(WeightsError, match=complaint):
            choose_layout(path, *arguments)


@pytest.fixture
def laid_out(tmp_path: Path, tiny_yolov5: Path) -> tuple[FeatureCodec, FeatureCodec, Path]:
    """A codec with a layout, the same without, and the layout's checkpoint."""
    plain = FeatureCodec.load(tiny_yolov5, image_size=96, layout="none")
    path = tmp_path / "l.safetensors"
    save_layout(path, make_layout(plain.model.channels, tensor=plain.model.fingerprint))
    return FeatureCodec.load(tiny_yolov5, image_size=96, layout=path), plain, path


@pytest.mark.slow
def test_a_stream_names_its_layout_and_decodes_with_it_alone(
    laid_out: tuple[FeatureCodec, FeatureCodec, Path], tiny_yolov5: Path
) -> None:
    codec, plain, path = laid_out
    assert codec.model.fingerprint == plain.model.fingerprint == plain.fingerprint != codec.fingerprint
    image = texture(96, 64)
    data = codec.encode(image, 8)
    for one, other in ((plain, data), (codec, plain.encode(image, 8))):
        with pytest.raises(WeightsError, match="made with networks"):
            one.decode(other)
    named = FeatureCodec.load(tiny_yolov5, layout=path, stream=unpack(data)[0])
    assert np.array_equal(named.decode(data).scores, codec.decode(data).scores)
    # The networks and an attacker get the tensor as they know it.
    batch = [codec.letterbox(image)]
    uncoded = codec.tensors_of(batch)
    assert torch.equal(uncoded, plain.tensors_of(batch))
    error = (codec.decoded_tensors([codec.decode_frame(data)]) - uncoded).abs().mean()
    step = 12 / 255 / np.abs(make_layout(16).scale).min()
    assert error < step


def test_a_forged_split_is_refused(laid_out: tuple[FeatureCodec, FeatureCodec, Path]) -> None:
    codec, _, _ = laid_out
    side_info, stream = unpack(codec.encode(texture(96, 64), 30))
    forged = bitstream.pack(dataclasses.replace(side_info, split=3), stream)
    with pytest.raises(BitstreamError, match="damaged or forged"):
        codec.decode(forged)


def test_half_precision_changes_neither_fingerprint_nor_layout(
    laid_out: tuple[FeatureCodec, FeatureCodec, Path], tiny_yolov5: Path
) -> None:
    codec, _, path = laid_out
    half = FeatureCodec.load(tiny_yolov5, image_size=96, layout=path, half=True)
    assert half.fingerprint == codec.fingerprint
    frame = codec.decode_frame(codec.encode(texture(96, 64), 20))
    assert half.decoded_tensors([frame]).dtype == torch.float16
    assert torch.allclose(half.decoded_tensors([frame]).float(), codec.decoded_tensors([frame]), rtol=1e-2, atol=1e-2)


def test_a_file_of_another_layout_is_not_taken_for_done(laid_out: tuple[FeatureCodec, FeatureCodec, Path]) -> None:
    codec, plain, _ = laid_out
    image = codec.letterbox(texture(96, 64))
    ((side_info, _),) = codec.front_end([image], 30)
    assert codec.matches(side_info, image, 30)
    assert not plain.matches(side_info, image, 30)
